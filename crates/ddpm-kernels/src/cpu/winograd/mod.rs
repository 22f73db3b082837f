//! 3×3 convolutions of stride 1 by F(4×4, 3×3): forward, and the gradients of input and weights.
//!
//! A thread takes some rows of tiles through all three steps, so that what it transforms is still in
//! its cache when it is multiplied. Every step works on blocks of V::LANES channels: `[36][blocks][tiles][L]`.

mod gradient;
mod tiles;
mod transform;
mod weights;

use std::ops::Range;

use rayon::prelude::*;

use super::blocked::Images;
use super::element::Element;
use super::isa::{Isa, Kernel, dispatch};
use super::memory::{Scratch, Shared, filled};
use super::packed::Packed;
use super::product::{Left, Right, Target, product};
use super::vector::Vector;
pub(super) use gradient::weight_gradient;
use tiles::{Output, Tiles};

pub(super) use weights::pack;

/// Tiles that a thread transforms together: enough that the weights are read seldom, few enough that
/// the transformed tiles stay in the second-level cache.
const TILES: usize = 64;

/// Values of one of the 36 matrices, with an odd number of cache lines after it: at a power of two the
/// 36 would meet in one set of the cache.
fn matrix(values: usize) -> usize {
    values.next_multiple_of(16) + 16
}

/// What is convolved, and what is added to the result.
#[derive(Clone, Copy)]
pub(super) struct Job<'a, E> {
    pub(super) x: Images<'a, E>,
    pub(super) batch: usize,
    /// Zeros (before, after) rows and columns.
    pub(super) padding: (usize, usize),
    /// Output channels.
    pub(super) output: usize,
    /// `[1 or batch, output]`; nothing if empty.
    pub(super) bias: &'a [f32],
    /// Laid out as the result; nothing if empty.
    pub(super) residual: &'a [E],
    /// Whether squares of four outputs are summed: the gradient of doubling.
    pub(super) halve: bool,
}

impl<E: Element> Job<'_, E> {
    /// Height and width of the convolution's result, before it is halved.
    fn out(&self) -> (usize, usize) {
        let (height, width) = self.x.seen();
        let padding = self.padding.0 + self.padding.1;
        (height + padding - 2, width + padding - 2)
    }
}

struct Forward<'a, E> {
    job: Job<'a, E>,
    tiles: Tiles,
    packed: &'a Packed,
    rows: Range<usize>,
    blocks: Range<usize>,
    /// Offsets of tiles in a block.
    tile_offsets: &'a [usize],
    /// Offsets of blocks in a matrix.
    block_offsets: &'a [usize],
    /// Tiles that a block has room for.
    room: usize,
    y: Shared<E>,
}

impl<E: Element> Kernel for Forward<'_, E> {
    type Output = ();

    #[allow(unsafe_code, reason = "scratch memory is addressed by offsets")]
    #[inline(always)]
    fn run<V: Vector>(self) {
        let tiles = self.rows.len() * self.tiles.columns;
        let inputs = self.block_offsets.len();
        let outputs = self.blocks.len();
        let (v_matrix, m_matrix) = (
            matrix(inputs * self.room * V::LANES),
            matrix(outputs * self.room * V::LANES),
        );
        let pixels = self.tiles.window_pixels(self.rows.len()) * V::LANES;
        let mut scratch = Scratch::new(36 * (v_matrix + m_matrix) + pixels);
        let v = scratch.pointer();
        // SAFETY: the three parts lie in the scratch memory one after the other; the products read
        // what the input transform wrote, and the output transform what the products wrote. Of the
        // result, this thread alone writes its rows of its blocks.
        unsafe {
            let m = v.add(36 * v_matrix);
            let pixels = m.add(36 * m_matrix);
            for block in 0..inputs {
                let to = tiles::Matrices {
                    values: v.add(block * self.room * V::LANES),
                    matrix: v_matrix,
                    tile: V::LANES,
                };
                self.tiles.input::<V, E>(
                    &self.job.x,
                    self.job.padding.0,
                    &self.rows,
                    block,
                    pixels,
                    to,
                );
            }
            for e in 0..36 {
                let first =
                    (e * self.packed.blocks + self.blocks.start) * self.packed.depth * V::LANES;
                let left = Left {
                    values: v.add(e * v_matrix),
                    rows: &self.tile_offsets[..tiles],
                    outer: self.block_offsets,
                    inner: V::LANES,
                    step: 1,
                };
                let right = Right {
                    values: self.packed.values.as_ptr().add(first),
                    block: self.packed.depth * V::LANES,
                    step: V::LANES,
                };
                let out = Target {
                    values: m.add(e * m_matrix),
                    block: self.room * V::LANES,
                    row: V::LANES,
                    accumulate: false,
                };
                product::<V>(outputs, left, right, out);
            }
            let (height, width) = self.job.out();
            for (i, block) in self.blocks.clone().enumerate() {
                let from = tiles::Matrices {
                    values: m.add(i * self.room * V::LANES),
                    matrix: m_matrix,
                    tile: V::LANES,
                };
                let output = Output {
                    channels: self.job.output,
                    height,
                    width,
                    halve: self.job.halve,
                    bias: self.job.bias,
                    residual: self.job.residual,
                    y: self.y,
                };
                self.tiles
                    .output::<V, E>(&output, &self.rows, block, pixels, from);
            }
        }
    }
}

/// The convolution of `job` with packed kernels.
#[allow(unsafe_code, reason = "the result is written by several threads")]
pub(super) fn forward<E: Element>(isa: Isa, job: Job<'_, E>, packed: &Packed) -> Vec<E> {
    let lanes = isa.lanes();
    let (height, width) = job.out();
    let tiles = Tiles::new(height, width);
    let len = job.batch * job.output * height * width / if job.halve { 4 } else { 1 };
    let threads = rayon::current_num_threads();
    let rows = job.batch * tiles.rows;
    let rows_each = (TILES / tiles.columns).min(rows.div_ceil(threads)).max(1);
    let chunks = rows.div_ceil(rows_each.max(1));
    // With fewer chunks than threads, threads share a chunk's outputs.
    let sharing = threads
        .div_ceil(chunks.max(1))
        .min(packed.blocks.div_ceil(2))
        .max(1);
    let blocks_each = packed.blocks.div_ceil(sharing);
    let room = rows_each * tiles.columns;
    let tile_offsets: Vec<usize> = (0..room).map(|t| t * lanes).collect();
    let block_offsets: Vec<usize> = (0..job.x.channels.div_ceil(lanes))
        .map(|block| block * room * lanes)
        .collect();
    // SAFETY: the tasks are all rows of tiles by all blocks of outputs, so every value is written.
    unsafe {
        filled(len, |y| {
            (0..chunks * sharing).into_par_iter().for_each(|task| {
                let first = task / sharing * rows_each;
                let block = (task % sharing * blocks_each).min(packed.blocks);
                let forward = Forward {
                    job,
                    tiles,
                    packed,
                    rows: first..(first + rows_each).min(rows),
                    blocks: block..(block + blocks_each).min(packed.blocks),
                    tile_offsets: &tile_offsets,
                    block_offsets: &block_offsets,
                    room,
                    y,
                };
                dispatch(isa, forward);
            });
        })
    }
}
