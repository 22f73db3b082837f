//! Weights as tiles, in the order in which they are read.

#![allow(unsafe_code, reason = "threads write interleaved parts of one result")]

use burn::tensor::bf16;
use rayon::prelude::*;

use super::super::direct::Tap;
use super::super::isa::{Isa, Kernel, dispatch};
use super::super::memory::{Shared, filled};
use super::super::packed::Side;
use super::super::tile::{DEPTH, SIDE};
use super::super::vector::Vector;

/// Tiles of weights: `[pairs of blocks][blocks of 32 depths][taps][2][16 lanes][32 depths]`, zeros where there is nothing.
#[derive(Debug)]
pub(in super::super) struct Weights {
    values: Vec<bf16>,
    /// Of 16 lanes.
    pub(super) blocks: usize,
    /// Numbers of a pair of blocks.
    pair: usize,
}

impl Weights {
    /// Where the tiles of a pair of blocks begin.
    pub(super) fn pair(&self, pair: usize) -> *const bf16 {
        self.values[pair * self.pair..].as_ptr()
    }
}

struct Pack<'a> {
    weight: &'a [f32],
    side: Side,
    taps: &'a [Tap],
    /// Taps of the weight.
    area: usize,
    block: usize,
    to: Shared<bf16>,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { side, taps, .. } = self;
        let tile = SIDE * DEPTH;
        for depth in 0..side.depths.div_ceil(DEPTH) {
            let depths = (side.depths - depth * DEPTH).min(DEPTH);
            for lane in 0..SIDE {
                let at = self.block * SIDE + lane;
                for (t, tap) in taps.iter().enumerate() {
                    let to = (depth * taps.len() + t) * 2 * tile + lane * DEPTH;
                    // SAFETY: a row of a tile of this block, and weights inside the slice: lane and depth exist.
                    unsafe {
                        let to: *mut u16 = self.to.pointer().add(to).cast();
                        if at >= side.lanes {
                            std::ptr::write_bytes(to, 0, DEPTH);
                            continue;
                        }
                        let index = match side.flip {
                            true => self.area - 1 - tap.index,
                            false => tap.index,
                        };
                        let first = at * side.lane + depth * DEPTH * side.depth + index;
                        let from = self.weight.as_ptr().add(first);
                        for d in (0..DEPTH).step_by(V::LANES) {
                            let from = from.wrapping_add(d * side.depth);
                            let value = match depths.saturating_sub(d) {
                                some if some >= V::LANES => V::strided(from, side.depth),
                                some => V::gather(from, some, side.depth),
                            };
                            value.store_bf16(to.add(d));
                        }
                    }
                }
            }
        }
    }
}

/// Weights `[out, in, k, k]` of `area` taps, of which `side` says what is a lane and what a depth; `taps` are those that
/// are read, in their order.
pub(in super::super) fn pack(
    isa: Isa,
    weight: &[f32],
    side: Side,
    taps: &[Tap],
    area: usize,
) -> Weights {
    let blocks = side.lanes.div_ceil(SIDE);
    let depths = side.depths.div_ceil(DEPTH);
    let tile = SIDE * DEPTH;
    let pair = depths * taps.len() * 2 * tile;
    // SAFETY: the tasks are all blocks of all pairs, and write every number of theirs.
    let values = unsafe {
        filled(blocks.div_ceil(2) * pair, |to: Shared<bf16>| {
            let all = 0..blocks.next_multiple_of(2);
            all.into_par_iter().for_each(|block| {
                let first = block / 2 * pair + block % 2 * tile;
                let pack = Pack {
                    weight,
                    side,
                    taps,
                    area,
                    block,
                    to: Shared::new(to.pointer().add(first)),
                };
                dispatch(isa, pack);
            });
        })
    };
    Weights {
        values,
        blocks,
        pair,
    }
}
