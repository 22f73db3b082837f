//! The network and the length of a run for images of a size, by rules of thumb that the recipes of `configs/` follow.

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A CPU: networks of one or two million parameters, some thousand steps.
    Cpu,
    /// A GPU: networks like Ho et al.'s (2020, appendix B), ten thousand steps and more.
    Gpu,
}

/// Choices for `[model]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Channels of the first level.
    pub channels: usize,
    /// Multiples of it, one a level.
    pub multipliers: Vec<usize>,
    /// Residual blocks a level.
    pub blocks: usize,
    /// Groups of the normalisations.
    pub groups: usize,
    /// Sides of the levels with attention.
    pub attention_at: Vec<usize>,
    /// Whether the images are padded to what the levels divide.
    pub pad: bool,
    /// Sides of all levels, as the network computes them.
    pub sides: Vec<usize>,
}

/// Choices for `[train]` and `[optim]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// Images a step.
    pub batch: usize,
    /// Steps.
    pub steps: u64,
    /// Steps between sample grids, and between checkpoints.
    pub every: u64,
    /// Learning rate.
    pub lr: f64,
    /// Steps until it is reached.
    pub warmup: u64,
}

/// The smallest level is about 8 pixels on a CPU; a GPU goes to 4 where the images are small, as Ho et al. do for 32×32.
pub fn network([height, width]: [usize; 2], on: On) -> Network {
    let longer = height.max(width);
    let halvings = (longer as f64 / 8.0).log2().round().clamp(1.0, 5.0) as usize;
    let levels = match on {
        On::Gpu if longer <= 64 => halvings + 2,
        _ => halvings + 1,
    };
    // No level is smaller than 2 pixels.
    let levels = levels.min(longer.max(4).ilog2() as usize);
    let multipliers = match (on, longer) {
        // Nichol & Dhariwal 2021 and Ho et al. 2020 spare the large levels.
        (On::Gpu, 97..) => [1, 1, 2, 2, 4, 4][..levels].to_vec(),
        _ => std::iter::once(1)
            .chain(std::iter::repeat(2))
            .take(levels)
            .collect(),
    };
    let multiple = 1 << (levels - 1);
    let padded = longer.next_multiple_of(multiple);
    let sides: Vec<usize> = (0..levels).map(|level| padded >> level).collect();
    let most = match on {
        On::Cpu => 12,
        On::Gpu => 16,
    };
    let attended = sides.iter().copied().find(|&side| side <= most);
    let (channels, blocks, groups) = match on {
        On::Cpu => (32, 1, 8),
        On::Gpu => (128, 2, 32),
    };
    Network {
        channels,
        multipliers,
        blocks,
        groups,
        attention_at: attended.into_iter().collect(),
        pad: [height, width]
            .iter()
            .any(|side| !side.is_multiple_of(multiple)),
        sides,
    }
}

/// Twenty passes over the set on a CPU and two hundred on a GPU, within what either does in a sitting.
pub fn length(images: usize, [height, width]: [usize; 2], on: On) -> Length {
    let longer = height.max(width);
    let most = match (on, longer) {
        (On::Cpu, ..=40) => 16,
        (On::Cpu, _) => 8,
        (On::Gpu, ..=40) => 128,
        (On::Gpu, ..=80) => 64,
        (On::Gpu, ..=160) => 32,
        (On::Gpu, _) => 8,
    };
    // A batch shows no image twice.
    let batch = most.min(1 << images.max(1).ilog2());
    length_of(batch, images, [height, width], on)
}

/// The length for a batch that memory has decided.
pub fn length_of(batch: usize, images: usize, [height, width]: [usize; 2], on: On) -> Length {
    let longer = height.max(width);
    let images = images as u64;
    let shown = match on {
        On::Cpu => images.saturating_mul(20).clamp(32_000, 160_000),
        On::Gpu => images.saturating_mul(200).clamp(1_280_000, 25_600_000),
    };
    let most = match on {
        On::Cpu => 10_000,
        On::Gpu => 500_000,
    };
    let steps = two_digits(shown.div_ceil(batch as u64).min(most));
    let (lr, longest_warmup) = match (on, longer) {
        (On::Cpu, _) => (5e-4, 200),
        (On::Gpu, ..=160) => (2e-4, 1000),
        (On::Gpu, _) => (5e-5, 5000),
    };
    Length {
        batch,
        steps,
        every: steps.div_ceil(match on {
            On::Cpu => 5,
            On::Gpu => 20,
        }),
        lr,
        warmup: (steps / 10).min(longest_warmup),
    }
}

/// A number as a person would choose it.
fn two_digits(number: u64) -> u64 {
    let unit = 10u64.pow(number.max(1).ilog10().saturating_sub(1));
    number.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_those_of_the_recipes() {
        for (size, on, multipliers, attention_at, pad) in [
            ([32, 32], On::Cpu, &[1, 2, 2][..], &[8][..], false),
            ([28, 28], On::Cpu, &[1, 2, 2], &[7], false),
            ([8, 8], On::Cpu, &[1, 2], &[8], false),
            ([30, 30], On::Cpu, &[1, 2, 2], &[8], true),
            ([64, 48], On::Cpu, &[1, 2, 2, 2], &[8], false),
            ([1, 1], On::Cpu, &[1, 2], &[2], true),
            ([32, 32], On::Gpu, &[1, 2, 2, 2], &[16], false),
            ([64, 64], On::Gpu, &[1, 2, 2, 2, 2], &[16], false),
            ([256, 256], On::Gpu, &[1, 1, 2, 2, 4, 4], &[16], false),
            ([4096, 4096], On::Gpu, &[1, 1, 2, 2, 4, 4], &[], false),
        ] {
            let found = network(size, on);
            assert_eq!(found.multipliers, multipliers, "{size:?} {on:?}");
            assert_eq!(found.attention_at, attention_at, "{size:?} {on:?}");
            assert_eq!(found.pad, pad, "{size:?} {on:?}");
            assert_eq!(found.sides.len(), multipliers.len());
        }
    }

    #[test]
    fn lengths_follow_the_set_and_the_device() {
        let of = |images, side, on| {
            let Length { batch, steps, .. } = length(images, [side, side], on);
            (batch, steps)
        };
        assert_eq!(of(4, 32, On::Cpu), (4, 8000));
        assert_eq!(of(400, 32, On::Cpu), (16, 2000));
        assert_eq!(of(60_000, 28, On::Cpu), (16, 10_000));
        assert_eq!(of(1, 64, On::Cpu), (1, 10_000));
        assert_eq!(of(50_000, 32, On::Gpu), (128, 79_000));
        assert_eq!(of(30_000, 256, On::Gpu), (8, 500_000));
        for steps in [1, 9, 10, 99, 101, 12_345] {
            let rounded = two_digits(steps);
            assert!(
                rounded >= steps && rounded <= steps + steps / 10 + 1,
                "{steps} {rounded}"
            );
        }
        assert_eq!(two_digits(2001), 2100);
    }
}
