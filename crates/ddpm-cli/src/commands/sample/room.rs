//! Whether the images fit into the device's memory, before any is drawn.

use ddpm_device::Picked;
use ddpm_train::sampling_bytes;
use ddpm_unet::{Cost, Precision};

use crate::machine::{self, Memory, NoRoom};
use crate::words;

/// Images at a time unless `--batch` says otherwise.
pub const BATCH: usize = 64;

/// What is drawn.
#[derive(Debug)]
pub struct Need<'a> {
    /// Of the network at the images' size.
    pub figures: &'a Cost,
    /// `[channels, height, width]` of an image.
    pub image: [usize; 3],
    /// What it is computed in.
    pub precision: Precision,
    /// Bytes that grid and animation take on this machine.
    pub outputs: u128,
}

impl Need<'_> {
    fn bytes(&self, batch: usize, on_cpu: bool) -> u128 {
        let image = self.image.iter().fold(1, |product: u128, side| {
            product.saturating_mul(*side as u128)
        });
        let outputs = if on_cpu { self.outputs } else { 0 };
        sampling_bytes(self.figures, image, batch as u128, self.precision).saturating_add(outputs)
    }
}

/// How many of `n` images to draw at a time: `asked`, or else as many as there is room for.
///
/// # Errors   [`NoRoom`] if what was asked for, or a single image, does not fit
pub fn batch(
    need: &Need<'_>,
    asked: Option<usize>,
    n: usize,
    picked: &Picked,
) -> Result<usize, NoRoom> {
    let wanted = asked.unwrap_or(BATCH).min(n).max(1);
    let Some(memory) = machine::memory_of(picked) else {
        return Ok(wanted);
    };
    let bytes = |batch| need.bytes(batch, picked.is_cpu());
    // The weights have been loaded: they are part of the need, and not of what is free any more.
    let loaded = u64::try_from(need.figures.parameters.saturating_mul(4)).unwrap_or(u64::MAX);
    let memory = Memory {
        available: memory.available.saturating_add(loaded).min(memory.total),
        ..memory
    };
    let chosen = choose(&bytes, asked.is_some(), wanted, memory).ok_or_else(|| {
        let [_, height, width] = need.image;
        let least = if asked.is_some() { wanted } else { 1 };
        NoRoom(format!(
            "drawing {} of {height}x{width} at a time needs about {}, and {} has {} free of {}; lower --size{}",
            words::some(least as u64, "image"),
            words::bytes(bytes(least)),
            machine::owner(picked),
            words::bytes(memory.available.into()),
            words::bytes(memory.total.into()),
            if least > 1 { " or --batch" } else { " (--batch is 1 already)" },
        ))
    })?;
    if chosen < wanted {
        tracing::warn!(
            "drawing {} at a time instead of {wanted}, which would need about {}; {} has {} free",
            words::some(chosen as u64, "image"),
            words::bytes(bytes(wanted)),
            machine::owner(picked),
            words::bytes(memory.available.into()),
        );
    }
    Ok(chosen)
}

/// `wanted` if it fits; else, unless it is `fixed`, the half of it, and so on down to 1.
fn choose(
    bytes: &dyn Fn(usize) -> u128,
    fixed: bool,
    wanted: usize,
    memory: Memory,
) -> Option<usize> {
    let fits = |batch: &usize| bytes(*batch) <= u128::from(memory.available);
    let smaller = std::iter::successors(Some(wanted), |batch| (*batch > 1).then(|| batch / 2));
    smaller.take(if fixed { 1 } else { usize::MAX }).find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_gives_way_unless_it_was_asked_for() {
        // 100 for the network, 10 an image.
        let bytes = |batch: usize| 100 + 10 * batch as u128;
        for (available, fixed, wanted, expected) in [
            (740, false, 64, Some(64)),
            (739, false, 64, Some(32)),
            (739, true, 64, None),
            (110, false, 64, Some(1)),
            (109, false, 64, None),
            (110, true, 1, Some(1)),
            (130, false, 5, Some(2)),
        ] {
            let memory = Memory {
                total: 1000,
                available,
            };
            assert_eq!(
                choose(&bytes, fixed, wanted, memory),
                expected,
                "{available} {fixed}"
            );
        }
    }
}
