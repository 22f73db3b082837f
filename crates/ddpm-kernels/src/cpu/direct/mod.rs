//! Convolutions of any kernel and stride as products over the taps, without unrolled patches: the
//! image is brought into blocks of channels once, and each tap reads it at another offset.

mod gradient;
mod weights;

use std::ops::Range;

use rayon::prelude::*;

use super::blocked::{Images, Row, Window};
use super::element::Element;
use super::isa::{Isa, Kernel, dispatch};
use super::memory::{Scratch, Shared, filled};
use super::packed::Packed;
use super::product::{Left, Right, Target, product};
use super::vector::Vector;
pub(super) use gradient::{data_gradient, grids, weight_gradient};
pub(super) use weights::pack;

/// Outputs that a thread computes together.
const PIXELS: usize = 96;

/// One value of a kernel: output (i, j) reads input (stride·i + row, stride·j + column) with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) row: isize,
    pub(super) column: isize,
    /// Its place in the kernel, row by row.
    pub(super) index: usize,
}

/// The taps of a `kernel`×`kernel` convolution with `padding` rows and columns of zeros before.
pub(super) fn taps(kernel: usize, padding: usize) -> Vec<Tap> {
    (0..kernel * kernel)
        .map(|index| Tap {
            row: (index / kernel).cast_signed() - padding.cast_signed(),
            column: (index % kernel).cast_signed() - padding.cast_signed(),
            index,
        })
        .collect()
}

/// The smallest rectangle around the taps.
#[derive(Debug, Clone, Copy)]
struct Reach {
    row: isize,
    column: isize,
    rows: usize,
    columns: usize,
}

impl Reach {
    fn of(taps: &[Tap]) -> Self {
        let span = |value: fn(&Tap) -> isize| {
            let least = taps.iter().map(value).min().unwrap_or(0);
            let most = taps.iter().map(value).max().unwrap_or(0);
            (least, (most - least).unsigned_abs() + 1)
        };
        let (row, rows) = span(|tap| tap.row);
        let (column, columns) = span(|tap| tap.column);
        Self {
            row,
            column,
            rows,
            columns,
        }
    }

    /// What `rows` rows of `columns` outputs from row `first` on read.
    #[inline(always)]
    fn window(&self, stride: usize, first: usize, rows: usize, columns: usize) -> Window {
        Window {
            row: (stride * first).cast_signed() + self.row,
            column: self.column,
            rows: stride * (rows - 1) + self.rows,
            columns: stride * (columns - 1) + self.columns,
        }
    }
}

/// Outputs on a grid of each image of the result: output (i, j) is pixel (step·i + row, step·j + column).
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) step: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

/// What is convolved, where the result goes, and what is added to it.
#[derive(Clone, Copy)]
pub(super) struct Job<'a, E> {
    pub(super) x: Images<'a, E>,
    pub(super) batch: usize,
    pub(super) stride: usize,
    pub(super) taps: &'a [Tap],
    pub(super) grid: Grid,
    /// Channels, height and width of the result.
    pub(super) output: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// `[1 or batch, output]`; nothing if empty.
    pub(super) bias: &'a [f32],
    /// Laid out as the result; nothing if empty.
    pub(super) residual: &'a [E],
}

/// The rows of outputs of a chunk that lie in one image.
#[derive(Debug, Clone)]
struct Part {
    image: usize,
    rows: Range<usize>,
}

/// Cuts rows that are counted through all images.
fn parts(rows: Range<usize>, per_image: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = rows.start;
    while at < rows.end {
        let image = at / per_image;
        let first = image * per_image;
        let end = rows.end.min(first + per_image);
        parts.push(Part {
            image,
            rows: at - first..end - first,
        });
        at = end;
    }
    parts
}

struct Forward<'a, E> {
    job: Job<'a, E>,
    reach: Reach,
    packed: &'a Packed,
    parts: &'a [Part],
    blocks: Range<usize>,
    /// Values of a block of input channels of the whole chunk.
    room: usize,
    /// Offsets of outputs in such a block.
    outputs: &'a [usize],
    /// Offsets of (tap, block) pairs.
    outer: &'a [usize],
    y: Shared<E>,
}

impl<E: Element> Kernel for Forward<'_, E> {
    type Output = ();

    #[allow(unsafe_code, reason = "scratch memory is addressed by offsets")]
    #[inline(always)]
    fn run<V: Vector>(self) {
        let job = &self.job;
        let inputs = job.x.channels.div_ceil(V::LANES);
        let count = self.outputs.len();
        let blocks = self.blocks.len();
        let mut scratch = Scratch::new(inputs * self.room + blocks * count * V::LANES);
        let pixels = scratch.pointer();
        // SAFETY: both parts lie in the scratch memory, one after the other; the tables of offsets
        // stay inside the windows. Of the result, this thread alone writes its rows of its blocks.
        unsafe {
            let products = pixels.add(inputs * self.room);
            for block in 0..inputs {
                let mut to = pixels.add(block * self.room);
                for part in self.parts {
                    let window = self.reach.window(
                        job.stride,
                        part.rows.start,
                        part.rows.len(),
                        job.grid.columns,
                    );
                    job.x.load::<V>((part.image, block), window, to, V::LANES);
                    to = to.add(window.rows * window.columns * V::LANES);
                }
            }
            let left = Left {
                values: pixels,
                rows: self.outputs,
                outer: self.outer,
                inner: V::LANES,
                step: 1,
            };
            let right = Right {
                values: self
                    .packed
                    .values
                    .as_ptr()
                    .add(self.blocks.start * self.packed.depth * V::LANES),
                block: self.packed.depth * V::LANES,
                step: V::LANES,
            };
            let out = Target {
                values: products,
                block: count * V::LANES,
                row: V::LANES,
                accumulate: false,
            };
            product::<V>(blocks, left, right, out);
            for (i, block) in self.blocks.clone().enumerate() {
                self.write::<V>(block, products.add(i * count * V::LANES));
            }
        }
    }
}

impl<E: Element> Forward<'_, E> {
    /// Adds bias and residual to a block of outputs and writes it.
    #[allow(unsafe_code, reason = "threads write interleaved rows of one result")]
    #[inline(always)]
    unsafe fn write<V: Vector>(&self, block: usize, products: *mut f32) {
        let job = &self.job;
        let grid = job.grid;
        let channels = (job.output - block * V::LANES).min(V::LANES);
        let mut at = products;
        for part in self.parts {
            let mut bias = V::splat(0.0);
            if !job.bias.is_empty() {
                let per_image = job.bias.len() > job.output;
                let image = if per_image { part.image } else { 0 };
                let bias_at = &job.bias[image * job.output + block * V::LANES..][..channels];
                // SAFETY: the slice has that many values.
                bias = unsafe { V::gather(bias_at.as_ptr(), channels, 1) };
            }
            for i in part.rows.clone() {
                let row = grid.step * i + grid.row;
                let first = ((part.image * job.output + block * V::LANES) * job.height + row)
                    * job.width
                    + grid.column;
                // SAFETY: the row and its products are this thread's.
                unsafe {
                    for j in 0..grid.columns {
                        let value = at.add(j * V::LANES);
                        V::load(value).add(bias).store(value);
                    }
                    let line = Row {
                        to: self.y.pointer().add(first),
                        add: (!job.residual.is_empty())
                            .then_some(job.residual.as_ptr().wrapping_add(first)),
                        channels,
                        plane: job.height * job.width,
                        step: grid.step,
                        pixels: grid.columns,
                    };
                    line.store::<V>(at);
                    at = at.add(grid.columns * V::LANES);
                }
            }
        }
    }
}

/// Offsets, in pixels, of the outputs of `parts` in their windows, one window after the other.
fn output_offsets(
    parts: &[Part],
    reach: Reach,
    stride: usize,
    columns: usize,
) -> (Vec<usize>, usize) {
    let mut offsets = Vec::new();
    let mut base = 0;
    for part in parts {
        let window = reach.window(stride, part.rows.start, part.rows.len(), columns);
        for i in 0..part.rows.len() {
            offsets.extend((0..columns).map(|j| base + stride * (i * window.columns + j)));
        }
        base += window.rows * window.columns;
    }
    (offsets, base)
}

/// Writes the convolution of `job` with packed kernels to its grid of `y`.
///
/// # Safety
/// `y` must be a result of the job's size, which nobody else uses meanwhile.
#[allow(unsafe_code, reason = "the result is written by several threads")]
pub(super) unsafe fn forward_into<E: Element>(
    isa: Isa,
    job: Job<'_, E>,
    packed: &Packed,
    y: Shared<E>,
) {
    let lanes = isa.lanes();
    let grid = job.grid;
    if grid.rows == 0 || grid.columns == 0 || job.taps.is_empty() {
        return;
    }
    let reach = Reach::of(job.taps);
    let threads = rayon::current_num_threads();
    let rows = job.batch * grid.rows;
    let rows_each = (PIXELS / grid.columns).min(rows.div_ceil(threads)).max(1);
    let chunks = rows.div_ceil(rows_each);
    let sharing = threads
        .div_ceil(chunks.max(1))
        .min(packed.blocks.div_ceil(2))
        .max(1);
    let blocks_each = packed.blocks.div_ceil(sharing);
    (0..chunks).into_par_iter().for_each(|chunk| {
        let first = chunk * rows_each;
        let parts = parts(first..(first + rows_each).min(rows), grid.rows);
        let (mut outputs, pixels) = output_offsets(&parts, reach, job.stride, grid.columns);
        outputs.iter_mut().for_each(|offset| *offset *= lanes);
        let columns = reach.window(job.stride, 0, 1, grid.columns).columns;
        let room = pixels * lanes;
        let outer: Vec<usize> = job
            .taps
            .iter()
            .flat_map(|tap| {
                let (row, column) = (tap.row - reach.row, tap.column - reach.column);
                let offset = row.unsigned_abs() * columns + column.unsigned_abs();
                (0..job.x.channels.div_ceil(lanes)).map(move |block| block * room + offset * lanes)
            })
            .collect();
        (0..sharing).into_par_iter().for_each(|share| {
            let block = (share * blocks_each).min(packed.blocks);
            let forward = Forward {
                job,
                reach,
                packed,
                parts: &parts,
                blocks: block..(block + blocks_each).min(packed.blocks),
                room,
                outputs: &outputs,
                outer: &outer,
                y,
            };
            dispatch(isa, forward);
        });
    });
}

/// The convolution of `job`, whose grid is the whole result, with packed kernels.
#[allow(unsafe_code, reason = "the result is written by several threads")]
pub(super) fn forward<E: Element>(isa: Isa, job: Job<'_, E>, packed: &Packed) -> Vec<E> {
    // SAFETY: the grid is the whole result, and there is at least one tap.
    unsafe {
        filled(job.batch * job.output * job.height * job.width, |y| {
            forward_into(isa, job, packed, y);
        })
    }
}
