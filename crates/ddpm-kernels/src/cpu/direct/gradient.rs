//! Gradients of convolutions over taps.

#![allow(
    unsafe_code,
    reason = "threads write interleaved blocks of shared memory"
)]

use rayon::prelude::*;

use super::super::blocked::{Images, Window};
use super::super::element::Element;
use super::super::isa::{Isa, Kernel, dispatch};
use super::super::memory::{Scratch, Shared, filled};
use super::super::packed::Side;
use super::super::product::{Left, Right, Target, product};
use super::super::vector::Vector;
use super::{Grid, Job, Part, Reach, Tap, forward_into, pack, parts};

/// Outputs whose products are added up together: the depth of a product.
const PIXELS: usize = 1024;

/// dL/dx, `[batch, in, height, width]`, from the weights and dL/dy.
///
/// With a stride s the pixels of x fall into s² grids, each reached by its own taps; each is one
/// convolution of dL/dy of stride 1.
pub(in super::super) fn data_gradient<E: Element>(
    isa: Isa,
    dy: Images<'_, E>,
    batch: usize,
    weight: &[f32],
    (input, height, width): (usize, usize, usize),
    (stride, taps): (usize, &[Tap]),
) -> Vec<E> {
    let area = taps.len();
    let side = Side {
        flip: false,
        ..Side::backward(dy.channels, input, area)
    };
    // SAFETY: the grids together are all pixels, and a grid without taps is filled with zeros.
    unsafe {
        filled(batch * input * height * width, |dx| {
            // A grid that no tap reaches keeps these.
            if stride * stride > area {
                std::ptr::write_bytes(dx.pointer(), 0, batch * input * height * width);
            }
            for (grid, taps) in grids((height, width), stride, taps) {
                let job = Job {
                    x: dy,
                    batch,
                    stride: 1,
                    taps: &taps,
                    grid,
                    output: input,
                    height,
                    width,
                    bias: &[],
                    residual: &[],
                };
                let packed = pack(isa, weight, side, &taps);
                forward_into(isa, job, &packed, dx);
            }
        })
    }
}

/// The grids of pixels of each remainder by the stride, and the taps that reach them.
pub(in super::super) fn grids(
    (height, width): (usize, usize),
    stride: usize,
    taps: &[Tap],
) -> impl Iterator<Item = (Grid, Vec<Tap>)> {
    (0..stride * stride).map(move |at| {
        let (row, column) = (at / stride, at % stride);
        let grid = Grid {
            rows: height.saturating_sub(row).div_ceil(stride),
            columns: width.saturating_sub(column).div_ceil(stride),
            step: stride,
            row,
            column,
        };
        (grid, reaching(taps, stride, row, column))
    })
}

/// The taps through which outputs reach pixels (stride·i + row, stride·j + column), as offsets of
/// outputs from (i, j): stride·o + tap = stride·i + row.
fn reaching(taps: &[Tap], stride: usize, row: usize, column: usize) -> Vec<Tap> {
    let step = stride.cast_signed();
    let offset = |pixel: usize, tap: isize| {
        let distance = pixel.cast_signed() - tap;
        (distance.rem_euclid(step) == 0).then(|| distance.div_euclid(step))
    };
    taps.iter()
        .filter_map(|tap| {
            Some(Tap {
                row: offset(row, tap.row)?,
                column: offset(column, tap.column)?,
                index: tap.index,
            })
        })
        .collect()
}

/// Loads one block of channels of the windows of a chunk.
struct Load<'a, E> {
    images: Images<'a, E>,
    block: usize,
    windows: &'a [(usize, Window)],
    to: Shared,
    /// Distance between pixels; nothing for V::LANES.
    stride: Option<usize>,
}

impl<E: Element> Kernel for Load<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let stride = match self.stride {
            Some(stride) => stride,
            None => V::LANES,
        };
        let mut to = self.to.pointer();
        for &(image, window) in self.windows {
            // SAFETY: the chunk's memory has room for all windows, and this block's lanes are this
            // thread's.
            unsafe {
                self.images
                    .load::<V>((image, self.block), window, to, stride);
                to = to.add(window.rows * window.columns * stride);
            }
        }
    }
}

/// The product for one tap and some blocks of output channels.
struct Multiply<'a> {
    x: *const f32,
    channels: &'a [usize],
    /// Offsets of rows of outputs.
    rows: &'a [usize],
    columns: usize,
    /// Distance between what neighbouring outputs read.
    step: usize,
    dy: *const f32,
    dy_block: usize,
    blocks: usize,
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
            outer: self.rows,
            inner: self.columns,
            step: self.step,
        };
        let right = Right {
            values: self.dy,
            block: self.dy_block,
            step: V::LANES,
        };
        let out = Target {
            values: self.to,
            block: self.channels.len() * V::LANES,
            row: V::LANES,
            accumulate: self.accumulate,
        };
        // SAFETY: the two factors and this task's blocks of the result.
        unsafe { product::<V>(self.blocks, left, right, out) };
    }
}

/// dL/dweight, `[out, in, k, k]`, from x and dL/dy.
pub(in super::super) fn weight_gradient<E: Element>(
    isa: Isa,
    x: Images<'_, E>,
    dy: Images<'_, E>,
    batch: usize,
    (stride, taps): (usize, &[Tap]),
) -> Vec<f32> {
    let lanes = isa.lanes();
    let (inputs, outputs) = (x.channels.div_ceil(lanes), dy.channels.div_ceil(lanes));
    let reach = Reach::of(taps);
    let rows = batch * dy.height;
    let rows_each = (PIXELS / dy.width).clamp(1, rows.max(1));
    let channels: Vec<usize> = (0..inputs * lanes).collect();
    // One cache line more than the channels need, against meeting in one set of the cache.
    let pixel = inputs * lanes + 16;
    let images = rows_each.div_ceil(dy.height) + 1;
    let pixels = {
        let window = reach.window(stride, 0, dy.height.min(rows_each), dy.width);
        images * window.rows * window.columns
    };
    let x_len = pixels * pixel;
    let dy_len = outputs * rows_each * dy.width * lanes;
    let product_len = outputs * channels.len() * lanes;
    let mut memory = Scratch::new(x_len + dy_len + taps.len() * product_len);
    let pointer = memory.pointer();
    // SAFETY: the three parts lie in the scratch memory one after the other.
    let (x_pixels, dy_pixels, products) = unsafe {
        (
            Shared::new(pointer),
            Shared::new(pointer.add(x_len)),
            Shared::new(pointer.add(x_len + dy_len)),
        )
    };
    for first in (0..rows).step_by(rows_each) {
        let parts = parts(first..(first + rows_each).min(rows), dy.height);
        let (x_windows, dy_windows) = windows(&parts, reach, stride, dy.width);
        let count: usize = parts.iter().map(|part| part.rows.len() * dy.width).sum();
        (0..inputs + outputs).into_par_iter().for_each(|i| {
            // SAFETY: each block has its own lanes of its factor.
            let load = unsafe {
                if i < inputs {
                    Load {
                        images: x,
                        block: i,
                        windows: &x_windows,
                        to: Shared::new(x_pixels.pointer().add(i * lanes)),
                        stride: Some(pixel),
                    }
                } else {
                    let block = i - inputs;
                    Load {
                        images: dy,
                        block,
                        windows: &dy_windows,
                        to: Shared::new(dy_pixels.pointer().add(block * count * lanes)),
                        stride: None,
                    }
                }
            };
            dispatch(isa, load);
        });
        let row_offsets: Vec<usize> = row_offsets(&parts, &x_windows, stride, pixel);
        let pairs = outputs.div_ceil(2);
        (0..taps.len() * pairs).into_par_iter().for_each(|task| {
            let (tap, block) = (task / pairs, task % pairs * 2);
            let row = (taps[tap].row - reach.row).unsigned_abs();
            let column = (taps[tap].column - reach.column).unsigned_abs();
            let offset = row * x_windows[0].1.columns + column;
            let first_output = block * count * lanes;
            // SAFETY: this tap's view of x, these blocks of dy and of the products.
            let multiply = unsafe {
                Multiply {
                    x: x_pixels.pointer().add(offset * pixel),
                    channels: &channels,
                    rows: &row_offsets,
                    columns: dy.width,
                    step: stride * pixel,
                    dy: dy_pixels.pointer().add(first_output),
                    dy_block: count * lanes,
                    blocks: (outputs - block).min(2),
                    to: products
                        .pointer()
                        .add(tap * product_len + block * channels.len() * lanes),
                    accumulate: first > 0,
                }
            };
            dispatch(isa, multiply);
        });
    }
    // SAFETY: the products have written all of it, as there is at least one row of outputs.
    let products =
        unsafe { std::slice::from_raw_parts(products.pointer(), taps.len() * product_len) };
    let area = taps.len();
    let mut gradient = vec![0.0f32; dy.channels * x.channels * area];
    gradient
        .par_chunks_exact_mut((x.channels * area).max(1))
        .enumerate()
        .for_each(|(o, gradient)| {
            let (block, lane) = (o / lanes, o % lanes);
            for (c, gradient) in gradient.chunks_exact_mut(area).enumerate() {
                let at = (block * channels.len() + c) * lanes + lane;
                for (tap, gradient) in gradient.iter_mut().enumerate() {
                    *gradient = products[tap * product_len + at];
                }
            }
        });
    gradient
}

type Windows = Vec<(usize, Window)>;

/// The windows onto x and onto dL/dy of each part.
fn windows(parts: &[Part], reach: Reach, stride: usize, columns: usize) -> (Windows, Windows) {
    let x = parts.iter().map(|part| {
        let window = reach.window(stride, part.rows.start, part.rows.len(), columns);
        (part.image, window)
    });
    let dy = parts.iter().map(|part| {
        let window = Window {
            row: part.rows.start.cast_signed(),
            column: 0,
            rows: part.rows.len(),
            columns,
        };
        (part.image, window)
    });
    (x.collect(), dy.collect())
}

/// Where the rows of outputs read their first value, in the windows one after the other.
fn row_offsets(
    parts: &[Part],
    windows: &[(usize, Window)],
    stride: usize,
    pixel: usize,
) -> Vec<usize> {
    let mut offsets = Vec::new();
    let mut base = 0;
    for (part, (_, window)) in parts.iter().zip(windows) {
        offsets.extend((0..part.rows.len()).map(|i| (base + stride * i * window.columns) * pixel));
        base += window.rows * window.columns;
    }
    offsets
}
