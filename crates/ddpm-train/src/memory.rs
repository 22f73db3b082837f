//! How much memory a run takes, from its configuration and the figures of its network.
//!
//! The sizes of weights, gradients, moments, averages and kept activations are exact; what kernels, autodiff
//! and the allocator need besides was fitted to the peak resident memory of real runs on the CPU.
//! Over networks of 7 to 36 million parameters, the plain one included, with batches of 1 to 32 images, the
//! estimates of training steps and of whole runs are between 8% below and 18% above what was measured. Runs
//! of less than 150 MiB, where the program itself counts, can be 30% off. Writing a checkpoint is the peak of
//! runs with small batches.
//! Other devices than the CPU use other kernels: there the estimate is a guess.

use ddpm_unet::{Cost, ModelConfig, Precision};

use crate::config::Config;
use crate::intervals::times;

/// Bytes of an f32.
const F32: u128 = 4;
/// The program itself with its threads, before there is a network.
const PROGRAM: u128 = 40 << 20;
/// Batches that exist at once: two wait in the loader and one in its thread, one is noised, and the noise,
/// the noisy images, the output and the loss have the same size.
const BATCHES: u128 = 8;
/// What writing a checkpoint takes, in copies of the parameters. Weights, average and moments copied out of the
/// device are four; the rest is what the allocator keeps of training. Fitted to 8.5 to 9 in runs of 36 million
/// parameters; a run of 18 million took about 5, so there the estimate is too high.
const SAVING: u128 = 9;

/// The program while it draws, with its threads' scratch memory.
const DRAWING_PROGRAM: u128 = 64 << 20;
/// Copies of the weights when a network is opened for sampling: the network's and those of the file.
const LOADED: u128 = 2;
/// What the allocator keeps of freed maps that serve none of another size, in eighths of those that live.
const KEPT_EIGHTHS: u128 = 7;
/// Copies of the images that a sampler has at once: x_t, the output, x̂0, ε̂, fresh noise and products of them.
const SAMPLER: u128 = 8;

/// The parts of a run's peak memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The program and the decoded images that are kept.
    pub program_and_data: u128,
    /// Weights, both moments and the averages: what a checkpoint holds.
    pub state: u128,
    /// Gradients; more than once if batches are accumulated or shared.
    pub gradients: u128,
    /// What the forward pass keeps for the backward pass.
    pub activations: u128,
    /// What kernels, gradients of activations and the allocator need besides.
    pub workspace: u128,
    /// A checkpoint on its way to disk, which reuses what training steps have freed.
    pub saving: u128,
    /// Drawing samples, which reuses what training steps have freed.
    pub drawing: u128,
}

impl MemoryEstimate {
    /// The estimate for a run of `config` on one device.
    ///
    /// # Units   `image` in numbers an image (channels × height × width), `data_bytes` in bytes
    pub fn new(figures: &Cost, config: &Config, image: u128, data_bytes: u128) -> Self {
        Self::on_several(figures, config, image, data_bytes, 1, false)
    }

    /// The estimate for one of so many devices that share every batch, or, if they are `one`, such as `cpu:4`, for
    /// the memory that holds the copies of all.
    ///
    /// # Units   as in [`MemoryEstimate::new`]
    pub fn on_several(
        figures: &Cost,
        config: &Config,
        image: u128,
        data_bytes: u128,
        devices: usize,
        one: bool,
    ) -> Self {
        let parameters = figures.parameters.saturating_mul(F32);
        let copies = if one { devices as u128 } else { 1 };
        let tracked = config.ema.power_function.len() as u128;
        let micro_batches = config.train.micro_batches(devices).max(1);
        // Ranks of one device compute one after the other.
        let rows = (config.train.batch / micro_batches) as u128;
        let own = micro_batches.div_ceil(devices.max(1));
        let precision = config.train.precision;
        let number = bytes_of(precision);
        let kept = match config.train.recompute {
            true => figures.recomputed,
            false => figures.kept,
        };
        let activations = kept.saturating_mul(rows).saturating_mul(number);
        // Parameters meet halved activations as copies.
        let halved = match number {
            F32 => 0,
            _ => figures.parameters.saturating_mul(number),
        };
        let batches = image
            .saturating_mul(config.train.batch as u128)
            .saturating_mul(BATCHES * F32);
        let maps = figures.widest.saturating_mul(config.sample.count as u128);
        Self {
            program_and_data: PROGRAM.saturating_add(data_bytes).saturating_add(batches),
            state: parameters
                .saturating_mul(4 + tracked)
                .saturating_mul(copies),
            // A sum for each level of the tree of its micro-batches; with other ranks, its own and that of all on the
            // host, on their way, and what is under way.
            gradients: parameters.saturating_mul(match devices {
                0 | 1 => tree_levels(own),
                _ => copies * (tree_levels(own) + 3),
            }),
            activations,
            workspace: parameters
                .saturating_add(halved)
                .saturating_add(match config.model {
                    ModelConfig::Unet(_)
                    | ModelConfig::Given(_)
                    | ModelConfig::Edm(_)
                    | ModelConfig::Edm2(_)
                    | ModelConfig::Lucidrains(_) => activations / 2,
                    // Its transposed convolutions, maxima and ReLU are burn's own operations.
                    ModelConfig::Plain(_) => activations.saturating_mul(2),
                }),
            // Tracked averages are copied for their snapshot as well.
            saving: parameters.saturating_mul(SAVING + 2 * tracked),
            // Weights as sampling keeps them, and about four feature maps an image.
            drawing: figures
                .packed
                .saturating_mul(F32)
                .saturating_add(maps.saturating_mul(4 * number)),
        }
    }

    /// The peak of a training step.
    pub fn step(&self) -> u128 {
        [self.program_and_data, self.state, self.training()]
            .into_iter()
            .fold(0, u128::saturating_add)
    }

    /// The peak of the run.
    pub fn peak(&self) -> u128 {
        let most = self.training().max(self.saving).max(self.drawing);
        [self.program_and_data, self.state, most]
            .into_iter()
            .fold(0, u128::saturating_add)
    }

    fn training(&self) -> u128 {
        [self.gradients, self.activations, self.workspace]
            .into_iter()
            .fold(0, u128::saturating_add)
    }
}

/// Peak memory of drawing images, in bytes, `batch` of them at a time.
///
/// Fitted as the rest is: over four networks of 0.4 to 36 million parameters, with and without attention, at 8 to 512
/// pixels a side and 1 to 64 images, it is between 4% below and 28% above the peak resident memory of `ddpm sample`, and at most 13% above it from 400 MiB on.
///
/// # Units   `image` in numbers an image (channels × height × width)
pub fn sampling_bytes(figures: &Cost, image: u128, batch: u128, precision: Precision) -> u128 {
    let number = bytes_of(precision);
    let weights = figures
        .parameters
        .saturating_mul(LOADED)
        .saturating_add(figures.packed)
        .saturating_mul(F32);
    let maps = figures.live.saturating_mul(number);
    let each = image.saturating_mul(SAMPLER * F32).saturating_add(maps);
    let batch = each.saturating_mul(batch);
    DRAWING_PROGRAM
        .saturating_add(weights)
        .saturating_add(batch)
        .saturating_add((batch / 8).saturating_mul(KEPT_EIGHTHS))
}

/// Sums of gradients that exist at once when so many are added along a binary tree.
fn tree_levels(micro_batches: usize) -> u128 {
    match micro_batches {
        0 | 1 => 1,
        more => 1 + u128::from(more.next_power_of_two().ilog2()),
    }
}

/// Bytes of one number of an activation.
fn bytes_of(precision: Precision) -> u128 {
    match precision {
        Precision::F32 | Precision::Tf32 => F32,
        Precision::Bf16 | Precision::F16 => 2,
    }
}

/// Bytes of weights, gradients, both moments and the average of a network of `parameters`: what no run of it
/// can do without.
pub fn least_bytes(parameters: u128) -> u128 {
    parameters.saturating_mul(5 * F32)
}

/// Bytes of one checkpoint: weights, EMA weights, both moments, and so many `tracked` averages.
pub fn checkpoint_bytes(parameters: u128, tracked: usize) -> u128 {
    // Names, shapes and the JSON files.
    const REST: u128 = 256 << 10;
    let each = parameters.saturating_mul(F32);
    each.saturating_mul(4 + tracked as u128)
        .saturating_add(REST)
}

/// Bytes of all snapshots of tracked averages that a run of `total` steps leaves.
pub fn snapshots_bytes(parameters: u128, config: &Config, total: u64) -> u128 {
    let tracked = config.ema.power_function.len() as u128;
    let every = config.ema.snapshot_every;
    let count = times(every.unwrap_or(config.train.checkpoint_every), total);
    parameters
        .saturating_mul(F32)
        .saturating_mul(tracked)
        .saturating_mul(count.into())
}

#[cfg(test)]
mod tests {
    use ddpm_unet::{ModelShape, UnetSection};

    use super::*;
    use crate::config::TrainConfig;

    fn estimate(model: UnetSection, batch: usize, accumulate: usize) -> MemoryEstimate {
        let shape = ModelShape {
            channels: 3,
            height: 32,
            width: 32,
            learned_variance: false,
            self_condition: false,
            steps: 1000,
            condition: Default::default(),
        };
        let model = ModelConfig::Unet(model);
        let figures = Cost::of(&model, shape).unwrap();
        let config = Config {
            model,
            train: TrainConfig {
                batch,
                accumulate: Some(accumulate),
                ..TrainConfig::default()
            },
            ..Config::default()
        };
        MemoryEstimate::new(&figures, &config, 3 * 32 * 32, 0)
    }

    /// What `ddpm-bench network --only train` reported as `peak_bytes`, in MiB.
    #[test]
    fn training_steps_are_near_what_was_measured() {
        let cifar = UnetSection::default;
        let small = || UnetSection {
            channels: 64,
            head_dim: Some(8),
            ..cifar()
        };
        for (model, batch, measured) in [
            (small(), 1, 277.0),
            (small(), 8, 352.5),
            (small(), 32, 697.4),
            (cifar(), 1, 876.5),
            (cifar(), 8, 1000.6),
            (cifar(), 24, 1483.3),
        ] {
            let step = estimate(model, batch, 1).step() as f64 / f64::from(1 << 20);
            let ratio = step / measured;
            assert!((0.9..1.12).contains(&ratio), "batch {batch}: {step} MiB");
        }
    }

    /// Peak resident memory (`VmHWM`) of `ddpm sample` with two threads, in MiB.
    #[test]
    fn sampling_is_near_what_was_measured() {
        let unet =
            |channels, multipliers: &[usize], blocks, attention: &[usize], groups| UnetSection {
                channels,
                multipliers: multipliers.to_vec(),
                blocks,
                attention_at: Some(attention.to_vec()),
                mid_attention: !attention.is_empty(),
                groups,
                pad: true,
                ..UnetSection::default()
            };
        let plain = |_| {
            ModelConfig::Plain(ddpm_unet::PlainSection {
                features: vec![64, 128, 256],
            })
        };
        let digits = |side| ModelConfig::Unet(unet(24, &[1, 2], 1, &[side / 2], 8));
        let cifar = |side| ModelConfig::Unet(unet(128, &[1, 2, 2, 2], 2, &[side / 2], 32));
        let bare = |_| ModelConfig::Unet(unet(64, &[1, 2, 4], 2, &[], 32));
        type Make<'a> = &'a dyn Fn(usize) -> ModelConfig;
        let cases: [(Make<'_>, usize, u128, f64); 15] = [
            (&digits, 8, 64, 77.6),
            (&digits, 64, 64, 314.1),
            (&digits, 512, 1, 391.8),
            (&cifar, 32, 16, 712.1),
            (&cifar, 128, 1, 847.6),
            (&cifar, 128, 4, 1189.3),
            (&cifar, 256, 1, 1199.5),
            (&bare, 32, 16, 403.8),
            (&bare, 256, 1, 574.3),
            (&bare, 256, 4, 1289.8),
            (&bare, 512, 1, 1277.2),
            (&plain, 64, 4, 243.0),
            (&plain, 256, 1, 345.0),
            (&plain, 256, 4, 694.9),
            (&plain, 512, 1, 719.1),
        ];
        for (make, side, batch, measured) in cases {
            let shape = ModelShape {
                channels: 1,
                height: side,
                width: side,
                learned_variance: false,
                self_condition: false,
                steps: 1000,
                condition: Default::default(),
            };
            let figures = Cost::of(&make(side), shape).unwrap();
            let bytes = sampling_bytes(&figures, (side * side) as u128, batch, Precision::F32);
            let ratio = bytes as f64 / f64::from(1 << 20) / measured;
            assert!(
                (0.9..1.3).contains(&ratio),
                "{side} pixels, {batch} images: {ratio}"
            );
        }
    }

    #[test]
    fn accumulation_trades_activations_for_gradients() {
        let [whole, parts] = [1, 4].map(|n| estimate(UnetSection::default(), 128, n));
        assert_eq!(parts.activations * 4, whole.activations);
        assert_eq!(parts.gradients, 3 * whole.gradients);
        assert_eq!(parts.state, whole.state);
        assert!(parts.peak() < whole.peak() && parts.step() <= parts.peak());
    }

    #[test]
    fn devices_share_activations_and_each_has_a_state() {
        let config = Config {
            train: TrainConfig {
                batch: 128,
                ..TrainConfig::default()
            },
            ..Config::default()
        };
        let shape = ModelShape {
            channels: 3,
            height: 32,
            width: 32,
            learned_variance: false,
            self_condition: false,
            steps: 1000,
            condition: Default::default(),
        };
        let figures = Cost::of(&config.model, shape).unwrap();
        let of = |devices, one| {
            MemoryEstimate::on_several(&figures, &config, 3 * 32 * 32, 0, devices, one)
        };
        let alone = of(1, false);
        assert_eq!(
            alone,
            MemoryEstimate::new(&figures, &config, 3 * 32 * 32, 0)
        );
        assert_eq!(alone, of(1, true));
        let (gpus, shares) = (of(4, false), of(4, true));
        for several in [gpus, shares] {
            assert_eq!(several.activations * 4, alone.activations);
        }
        assert_eq!(gpus.state, alone.state);
        assert_eq!(shares.state, 4 * alone.state);
        assert_eq!(gpus.gradients, 4 * alone.gradients);
        assert_eq!(shares.gradients, 16 * alone.gradients);
    }

    #[test]
    fn sizes_saturate() {
        let figures = Cost {
            parameters: u128::MAX / 3,
            multiplications: u128::MAX,
            kept: u128::MAX,
            recomputed: u128::MAX,
            widest: u128::MAX,
            live: u128::MAX,
            packed: u128::MAX,
            levels: Vec::new(),
        };
        let estimate = MemoryEstimate::new(&figures, &Config::default(), u128::MAX, u128::MAX);
        assert_eq!(estimate.peak(), u128::MAX);
        assert_eq!(least_bytes(u128::MAX), u128::MAX);
        let most = sampling_bytes(&figures, u128::MAX, u128::MAX, Precision::F32);
        assert!(most > u128::MAX / 2);
        assert_eq!(checkpoint_bytes(u128::MAX, 1), u128::MAX);
        assert_eq!(least_bytes(1000), 20_000);
    }
}
