//! Kernels in the transformed domain, and gradients back from there.

#![allow(unsafe_code, reason = "threads write interleaved blocks of one result")]

use rayon::prelude::*;

use super::super::isa::{Isa, Kernel, dispatch};
use super::super::memory::{Shared, filled};
use super::super::packed::{Packed, Side};
use super::super::vector::{MOST_LANES, Vector};
use super::transform;

struct Pack<'a> {
    weight: &'a [f32],
    side: Side,
    block: usize,
    blocks: usize,
    depth: usize,
    to: Shared,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let side = self.side;
        let lanes = (side.lanes - self.block * V::LANES).min(V::LANES);
        for d in 0..self.depth {
            let mut taps = [[0.0f32; MOST_LANES]; 9];
            if d < side.depths {
                for l in 0..lanes {
                    let at = (self.block * V::LANES + l) * side.lane + d * side.depth;
                    let weight = &self.weight[at..at + 9];
                    for tap in 0..9 {
                        taps[tap][l] = weight[if side.flip { 8 - tap } else { tap }];
                    }
                }
            }
            let mut g = [[V::splat(0.0); 3]; 3];
            for u in 0..3 {
                for v in 0..3 {
                    // SAFETY: no vector has more lanes.
                    g[v][u] = unsafe { V::load(taps[3 * u + v].as_ptr()) };
                }
            }
            let mut half = [[V::splat(0.0); 3]; 6];
            for v in 0..3 {
                let column = transform::kernel::<V>(g[v]);
                for i in 0..6 {
                    half[i][v] = column[i];
                }
            }
            for i in 0..6 {
                let row = transform::kernel::<V>(half[i]);
                for j in 0..6 {
                    let e = 6 * i + j;
                    let at = ((e * self.blocks + self.block) * self.depth + d) * V::LANES;
                    // SAFETY: e < 36, block < blocks, d < depth: inside the result, and this thread's
                    // block alone.
                    unsafe { row[j].store(self.to.pointer().add(at)) };
                }
            }
        }
    }
}

/// G·g·Gᵀ of each kernel, as `[36][blocks][depth][L]`.
pub(in super::super) fn pack(isa: Isa, weight: &[f32], side: Side) -> Packed {
    let lanes = isa.lanes();
    let blocks = side.lanes.div_ceil(lanes);
    let depth = side.depths.next_multiple_of(lanes);
    // SAFETY: the blocks together write every value.
    let values = unsafe {
        filled(36 * blocks * depth * lanes, |to| {
            (0..blocks).into_par_iter().for_each(|block| {
                let pack = Pack {
                    weight,
                    side,
                    block,
                    blocks,
                    depth,
                    to,
                };
                dispatch(isa, pack);
            });
        })
    };
    Packed {
        values,
        blocks,
        depth,
    }
}

struct Unpack<'a> {
    /// `[36][blocks][depth][L]`
    gradient: &'a [f32],
    side: Side,
    block: usize,
    blocks: usize,
    depth: usize,
    to: Shared,
}

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let side = self.side;
        let lanes = (side.lanes - self.block * V::LANES).min(V::LANES);
        for d in 0..side.depths {
            let mut half = [[V::splat(0.0); 6]; 3];
            for j in 0..6 {
                let mut u = [V::splat(0.0); 6];
                for i in 0..6 {
                    let e = 6 * i + j;
                    let at = ((e * self.blocks + self.block) * self.depth + d) * V::LANES;
                    let values = &self.gradient[at..at + V::LANES];
                    // SAFETY: the slice has a vector's length.
                    u[i] = unsafe { V::load(values.as_ptr()) };
                }
                let column = transform::kernel_gradient::<V>(u);
                for i in 0..3 {
                    half[i][j] = column[i];
                }
            }
            for i in 0..3 {
                let row = transform::kernel_gradient::<V>(half[i]);
                for j in 0..3 {
                    let at = self.block * V::LANES * side.lane + d * side.depth + 3 * i + j;
                    // SAFETY: inside the weights of this thread's block of lanes.
                    unsafe { row[j].scatter(self.to.pointer().add(at), lanes, side.lane) };
                }
            }
        }
    }
}

/// Gᵀ·u·G of each transformed kernel: a gradient in the layout of the weights.
pub(super) fn unpack(isa: Isa, gradient: &[f32], side: Side) -> Vec<f32> {
    let lanes = isa.lanes();
    let blocks = side.lanes.div_ceil(lanes);
    let depth = side.depths.next_multiple_of(lanes);
    // SAFETY: the blocks together write every value.
    unsafe {
        filled(side.lanes * side.depths * 9, |to| {
            (0..blocks).into_par_iter().for_each(|block| {
                let unpack = Unpack {
                    gradient,
                    side,
                    block,
                    blocks,
                    depth,
                    to,
                };
                dispatch(isa, unpack);
            });
        })
    }
}
