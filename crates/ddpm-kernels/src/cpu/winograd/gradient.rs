//! The gradient of the weights: Σ over tiles of (Bᵀ·d·B)ᵀ · (A·dy·Aᵀ), transformed back once.

#![allow(
    unsafe_code,
    reason = "threads write interleaved blocks of shared memory"
)]

use std::ops::Range;

use rayon::prelude::*;

use super::super::blocked::Images;
use super::super::element::Element;
use super::super::isa::{Isa, Kernel, dispatch};
use super::super::memory::{Scratch, Shared};
use super::super::packed::Side;
use super::super::product::{Left, Right, Target, product};
use super::super::vector::Vector;
use super::tiles::{Matrices, Tiles};
use super::{matrix, weights};

/// Tiles that are transformed and multiplied together: the depth of a product.
const TILES: usize = 128;

/// One block of channels of one of the two factors.
struct Transform<'a, E> {
    tiles: Tiles,
    images: Images<'a, E>,
    rows: Range<usize>,
    block: usize,
    to: Shared,
    matrix: usize,
    factor: Factor,
}

enum Factor {
    /// Of x, with the padding before it; tiles this far apart.
    Input { padding: usize, tile: usize },
    /// Of dy.
    Gradient,
}

impl<E: Element> Kernel for Transform<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut scratch = Scratch::new(self.tiles.window_pixels(self.rows.len()) * V::LANES);
        let pixels = scratch.pointer();
        let mut to = Matrices {
            values: self.to.pointer(),
            matrix: self.matrix,
            tile: V::LANES,
        };
        // SAFETY: the scratch memory is a window, and `to` is this block's part of the factor.
        unsafe {
            match self.factor {
                Factor::Input { padding, tile } => {
                    to.tile = tile;
                    self.tiles.input::<V, E>(
                        &self.images,
                        padding,
                        &self.rows,
                        self.block,
                        pixels,
                        to,
                    );
                }
                Factor::Gradient => {
                    self.tiles
                        .gradient::<V, E>(&self.images, &self.rows, self.block, pixels, to);
                }
            }
        }
    }
}

/// One of the 36 products.
struct Multiply<'a> {
    x: *const f32,
    /// Offsets of channels.
    channels: &'a [usize],
    /// Distance between tiles in x.
    tile: usize,
    dy: *const f32,
    blocks: usize,
    tiles: usize,
    to: *mut f32,
    accumulate: bool,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let left = Left {
            values: self.x,
            rows: self.channels,
            outer: &[0],
            inner: self.tiles,
            step: self.tile,
        };
        let right = Right {
            values: self.dy,
            block: self.tiles * V::LANES,
            step: V::LANES,
        };
        let out = Target {
            values: self.to,
            block: self.channels.len() * V::LANES,
            row: V::LANES,
            accumulate: self.accumulate,
        };
        // SAFETY: the two factors and this matrix of the result, which is one task's alone.
        unsafe { product::<V>(self.blocks, left, right, out) };
    }
}

/// dL/dweight, `[out, in, 3, 3]`, from x and dL/dy.
pub(in super::super) fn weight_gradient<E: Element>(
    isa: Isa,
    x: Images<'_, E>,
    padding: (usize, usize),
    dy: Images<'_, E>,
    batch: usize,
) -> Vec<f32> {
    let lanes = isa.lanes();
    let tiles = Tiles::new(dy.height, dy.width);
    let (inputs, outputs) = (x.channels.div_ceil(lanes), dy.channels.div_ceil(lanes));
    let rows = batch * tiles.rows;
    let rows_each = (TILES / tiles.columns).clamp(1, rows.max(1));
    let room = rows_each * tiles.columns;
    let channels: Vec<usize> = (0..inputs * lanes).collect();
    // Tiles of x one cache line more apart than the channels need, against meeting in one cache set.
    let tile = inputs * lanes + 16;
    let (x_matrix, dy_matrix) = (matrix(tile * room), matrix(outputs * room * lanes));
    let product_len = outputs * inputs * lanes * lanes;
    let mut memory = Scratch::new(36 * (x_matrix + dy_matrix + product_len));
    let pointer = memory.pointer();
    // SAFETY: the three parts lie in the scratch memory one after the other.
    let (x_tiles, dy_tiles, products) = unsafe {
        (
            Shared::new(pointer),
            Shared::new(pointer.add(36 * x_matrix)),
            Shared::new(pointer.add(36 * (x_matrix + dy_matrix))),
        )
    };
    for first in (0..rows).step_by(rows_each) {
        let rows = first..(first + rows_each).min(rows);
        let count = rows.len() * tiles.columns;
        (0..inputs + outputs).into_par_iter().for_each(|i| {
            // SAFETY: each block has its own part of its factor.
            let transform = if i < inputs {
                Transform {
                    tiles,
                    images: x,
                    rows: rows.clone(),
                    block: i,
                    to: Shared::new(unsafe { x_tiles.pointer().add(i * lanes) }),
                    matrix: x_matrix,
                    factor: Factor::Input {
                        padding: padding.0,
                        tile,
                    },
                }
            } else {
                let block = i - inputs;
                Transform {
                    tiles,
                    images: dy,
                    rows: rows.clone(),
                    block,
                    to: Shared::new(unsafe { dy_tiles.pointer().add(block * count * lanes) }),
                    matrix: dy_matrix,
                    factor: Factor::Gradient,
                }
            };
            dispatch(isa, transform);
        });
        (0..36usize).into_par_iter().for_each(|e| {
            // SAFETY: matrix e of each part.
            let multiply = unsafe {
                Multiply {
                    x: x_tiles.pointer().add(e * x_matrix),
                    channels: &channels,
                    tile,
                    dy: dy_tiles.pointer().add(e * dy_matrix),
                    blocks: outputs,
                    tiles: count,
                    to: products.pointer().add(e * product_len),
                    accumulate: first > 0,
                }
            };
            dispatch(isa, multiply);
        });
    }
    let side = Side::forward(dy.channels, x.channels, 9);
    // SAFETY: the products have written all of it, as there is at least one row of tiles.
    let gradient = unsafe { std::slice::from_raw_parts(products.pointer(), 36 * product_len) };
    weights::unpack(isa, gradient, side)
}
