//! Kernels as the products over taps read them.

use rayon::prelude::*;

use super::super::isa::Isa;
use super::super::packed::{Packed, Side};
use super::Tap;

/// The weights of some taps as `[blocks][taps · depth][L]`, each tap's depth padded with zeros.
pub(in super::super) fn pack(isa: Isa, weight: &[f32], side: Side, taps: &[Tap]) -> Packed {
    let lanes = isa.lanes();
    let blocks = side.lanes.div_ceil(lanes);
    let padded = side.depths.next_multiple_of(lanes);
    let depth = taps.len() * padded;
    let mut values = vec![0.0f32; blocks * depth * lanes];
    let by_block = values.par_chunks_exact_mut((depth * lanes).max(1));
    by_block.enumerate().for_each(|(block, values)| {
        for l in 0..(side.lanes - block * lanes).min(lanes) {
            let channel = &weight[(block * lanes + l) * side.lane..];
            for (tap, values) in taps.iter().zip(values.chunks_exact_mut(padded * lanes)) {
                let kernels = channel[tap.index..].iter().step_by(side.depth);
                for (value, weight) in values[l..]
                    .iter_mut()
                    .step_by(lanes)
                    .zip(kernels)
                    .take(side.depths)
                {
                    *value = *weight;
                }
            }
        }
    });
    Packed {
        values,
        blocks,
        depth,
    }
}
