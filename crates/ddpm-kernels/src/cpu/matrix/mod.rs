//! Convolutions of bf16 as products of tiles, of any kernel and stride: forward, and the gradients of input and weights.
//!
//! Channels stay first: a tile of weights is 16 outputs by 32 channels, a tile of pixels 16 pairs of channels by 16
//! pixels, so that sums are 16 channels by 16 pixels, as the result is.

#![allow(unsafe_code, reason = "threads write interleaved parts of one result")]

pub(super) mod attention;
mod gradient;
mod weights;
mod window;

use rayon::prelude::*;

use super::blocked::Images;
use super::direct::{Grid, Tap, grids};
use super::element::Element;
use super::isa::{Isa, Kernel, dispatch};
use super::memory::{Scratch, Shared, filled};
use super::packed::Side;
use super::tile::{DEPTH, Products, SIDE, Unit};
use super::vector::Vector;
pub(super) use gradient::weight_gradient;
pub(super) use weights::{Weights, pack};
use window::{Chunk, Layout, Room};

/// Outputs that a thread computes together: their sums stay in the second-level cache.
const PIXELS: usize = 256;
/// Steps of a product over which the weights stay in the first-level cache.
const STEPS: usize = 10;

/// What is convolved, and what is added to the result.
#[derive(Clone, Copy)]
pub(super) struct Job<'a, E> {
    pub(super) x: Images<'a, E>,
    pub(super) batch: usize,
    pub(super) stride: usize,
    pub(super) taps: &'a [Tap],
    /// Which pixels of the result are computed.
    pub(super) grid: Grid,
    /// Channels, height and width of the result.
    pub(super) output: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// `[1 or batch, output]`; nothing if empty.
    pub(super) bias: &'a [f32],
    /// Laid out as the result; nothing if empty.
    pub(super) residual: &'a [E],
    /// Whether squares of four outputs are summed: the gradient of doubling.
    pub(super) halve: bool,
}

/// Where tiles of outputs begin to read, and where their sums begin.
struct Tiles {
    /// The place of the least tap of each tile's first output.
    places: Vec<usize>,
    /// The first sum of each row of outputs.
    rows: Vec<usize>,
}

impl Tiles {
    /// Rows of whole tiles lie one after the other; of others, what lies between two rows is computed with them.
    fn new(layout: &Layout, chunk: &Chunk) -> Self {
        let (_, width) = layout.out;
        let lines =
            (0..chunk.images).flat_map(|image| (0..chunk.rows).map(move |row| (image, row)));
        let lines: Vec<usize> = lines
            .map(|(image, row)| layout.line(chunk, image, row))
            .collect();
        if width.is_multiple_of(SIDE) {
            let tiles = lines
                .iter()
                .flat_map(|line| (0..width).step_by(SIDE).map(move |c| line + c));
            return Self {
                places: tiles.collect(),
                rows: (0..lines.len()).map(|row| row * width).collect(),
            };
        }
        let end = lines.last().map_or(0, |last| last + width);
        Self {
            places: (0..end).step_by(SIDE).collect(),
            rows: lines,
        }
    }

    /// Sums of a channel: an odd number of cache lines, against meeting in one set of the cache.
    fn pitch(&self) -> usize {
        self.places.len() / 2 * 2 * SIDE + SIDE
    }
}

struct Forward<'a, E> {
    job: Job<'a, E>,
    layout: &'a Layout,
    weights: &'a Weights,
    chunk: Chunk,
    /// Pairs of blocks of 16 outputs.
    pairs: std::ops::Range<usize>,
    unit: Unit,
    y: Shared<E>,
}

impl<E: Element> Kernel for Forward<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self {
            job, layout, chunk, ..
        } = self;
        let inputs = job.x.channels.div_ceil(DEPTH);
        let places = layout.places(&chunk);
        // Places of 16 pairs of channels, all planes.
        let block = layout.planes() * places * DEPTH / 2;
        let line_len = layout.line_room(&chunk, &job.x);
        let tiles = Tiles::new(layout, &chunk);
        let pitch = tiles.pitch();
        let sums_len = self.pairs.len() * 2 * SIDE * pitch;
        let mut scratch = Scratch::new(inputs * block + line_len + sums_len + SIDE);
        // SAFETY: the parts lie in the scratch memory one after the other; tables of places stay inside the windows. Of the
        // result, this thread alone writes its rows of its channels.
        unsafe {
            // All parts are whole cache lines.
            let start = scratch.pointer();
            let start = start.byte_add(start.addr().wrapping_neg() % 64);
            let pixels: *mut u32 = start.cast();
            let line = start.add(inputs * block);
            let sums = line.add(line_len);
            for channel in (0..inputs * DEPTH).step_by(2) {
                let room = Room {
                    to: pixels.add(channel / DEPTH * block + channel % DEPTH / 2 * places),
                    plane: places * DEPTH / 2,
                    places,
                    line: line.cast(),
                };
                layout.pairs::<V, E>(&job.x, &chunk, channel, room);
            }
            self.unit.begin();
            self.products(&tiles, pixels, (places, block), sums, pitch);
            self.unit.end();
            for (i, channel) in
                (self.pairs.start * 2 * SIDE..job.output.min(self.pairs.end * 2 * SIDE)).enumerate()
            {
                self.write::<V>(&tiles, channel, sums.add(i * pitch), line);
            }
        }
    }
}

impl<E: Element> Forward<'_, E> {
    /// Sums of all tiles, for some steps of the depth at a time.
    #[inline(always)]
    unsafe fn products(
        &self,
        tiles: &Tiles,
        pixels: *const u32,
        (places, block): (usize, usize),
        sums: *mut f32,
        pitch: usize,
    ) {
        let taps = self.layout.taps();
        let inputs = self.job.x.channels.div_ceil(DEPTH);
        // Bytes of a tile of weights, and from its first place to what each step reads.
        let tile = 2 * SIDE * DEPTH;
        let steps: Vec<usize> = (0..inputs)
            .flat_map(|input| {
                let of_tap = move |&(plane, place): &(usize, usize)| {
                    4 * (input * block + plane * places * DEPTH / 2 + place)
                };
                taps.iter().map(of_tap)
            })
            .collect();
        let weight_steps: Vec<usize> = (0..steps.len()).map(|step| step * 2 * tile).collect();
        // Whole blocks of channels, as many as keep the weights near.
        let at_once = (STEPS / taps.len().max(1)).max(1) * taps.len().max(1);
        for first in (0..steps.len()).step_by(at_once) {
            let range = first..(first + at_once).min(steps.len());
            for (i, pair) in self.pairs.clone().enumerate() {
                let left = self.weights.pair(pair);
                let halves = if pair * 2 + 1 < self.weights.blocks {
                    2
                } else {
                    1
                };
                for j in (0..tiles.places.len()).step_by(2) {
                    let two = (tiles.places.len() - j).min(2);
                    // SAFETY: tiles of the packed weights, of the window and of the sums.
                    unsafe {
                        let to = sums.add(i * 2 * SIDE * pitch + j * SIDE);
                        let low = to.add(SIDE * pitch);
                        let right = [tiles.places[j], tiles.places[j + two - 1]];
                        let products = Products {
                            left: [left, left.byte_add(tile)],
                            left_row: 2 * DEPTH,
                            left_steps: &weight_steps[range.clone()],
                            right: right.map(|place| pixels.add(place).cast()),
                            right_row: 4 * places,
                            right_steps: &steps[range.clone()],
                            sums: [[to, to.add(SIDE)], [low, low.add(SIDE)]],
                            sums_row: 4 * pitch,
                            count: [halves, two],
                            accumulate: first > 0,
                        };
                        self.unit.multiply(products);
                    }
                }
            }
        }
    }

    /// Adds bias and residual to the sums of a channel and writes it.
    #[inline(always)]
    unsafe fn write<V: Vector>(
        &self,
        tiles: &Tiles,
        channel: usize,
        sums: *const f32,
        line: *mut f32,
    ) {
        let Self { job, chunk, .. } = self;
        for (i, &first) in tiles.rows.iter().enumerate() {
            let (image, row) = (chunk.image + i / chunk.rows, chunk.row + i % chunk.rows);
            let bias = match job.bias.len() {
                0 => 0.0,
                len if len > job.output => job.bias[image * job.output + channel],
                _ => job.bias[channel],
            };
            // SAFETY: the row of sums, and the row of the result.
            unsafe {
                if job.halve {
                    // Rows come in pairs: chunks of a doubled image have even numbers of them.
                    if i % 2 == 0 {
                        let below = tiles.rows[i + 1];
                        let (height, width) = (job.height / 2, job.width / 2);
                        for c in 0..width {
                            let at =
                                |from: usize| *sums.add(from + 2 * c) + *sums.add(from + 2 * c + 1);
                            *line.add(c) = at(first) + at(below) + bias;
                        }
                        let to = ((image * job.output + channel) * height + row / 2) * width;
                        super::element::narrow::<V, E>(line, self.y.pointer().add(to), width);
                    }
                    continue;
                }
                let grid = job.grid;
                let y_row =
                    (image * job.output + channel) * job.height + grid.step * row + grid.row;
                let to = y_row * job.width + grid.column;
                let y = self.y.pointer().add(to);
                let from = sums.add(first);
                if grid.step > 1 {
                    for c in 0..grid.columns {
                        *y.add(grid.step * c) = E::from_f32(*from.add(c) + bias);
                    }
                    continue;
                }
                let residual =
                    (!job.residual.is_empty()).then_some(job.residual.as_ptr().wrapping_add(to));
                let mut c = 0;
                while c + V::LANES <= grid.columns {
                    let mut value = V::load(from.add(c)).add(V::splat(bias));
                    if let Some(residual) = residual {
                        value = value.add(E::load(residual.add(c)));
                    }
                    E::store(value, y.add(c));
                    c += V::LANES;
                }
                while c < grid.columns {
                    let mut value = *from.add(c) + bias;
                    if let Some(residual) = residual {
                        value += (*residual.add(c)).to_f32();
                    }
                    *y.add(c) = E::from_f32(value);
                    c += 1;
                }
            }
        }
    }
}

/// Writes the convolution of `job` with packed weights to its grid of `y`.
///
/// # Safety
/// `y` must be a result of the job's size, which nobody else uses meanwhile. A job on a grid of its own has no residual.
unsafe fn forward_into<E: Element>(
    isa: Isa,
    unit: Unit,
    job: Job<'_, E>,
    weights: &Weights,
    y: Shared<E>,
) {
    let out = (job.grid.rows, job.grid.columns);
    if out.0 == 0 || out.1 == 0 || job.taps.is_empty() {
        return;
    }
    let layout = Layout::new(job.taps, job.stride, job.x.seen(), out);
    let threads = rayon::current_num_threads();
    let chunks = layout.chunks(job.batch, PIXELS, threads, job.halve);
    // With fewer chunks than threads, threads share a chunk's outputs.
    let pairs = weights.blocks.div_ceil(2);
    let sharing = threads.div_ceil(chunks.len().max(1)).min(pairs).max(1);
    let each = pairs.div_ceil(sharing);
    (0..chunks.len() * sharing)
        .into_par_iter()
        .for_each(|task| {
            let first = (task % sharing * each).min(pairs);
            let forward = Forward {
                job,
                layout: &layout,
                weights,
                chunk: chunks[task / sharing],
                pairs: first..(first + each).min(pairs),
                unit,
                y,
            };
            dispatch(isa, forward);
        });
}

/// The convolution of `job`, whose grid is the whole result, with packed weights.
pub(super) fn forward<E: Element>(
    isa: Isa,
    unit: Unit,
    job: Job<'_, E>,
    weights: &Weights,
) -> Vec<E> {
    let len = job.batch * job.output * job.height * job.width / if job.halve { 4 } else { 1 };
    // SAFETY: the grid is the whole result, and there is at least one tap.
    unsafe { filled(len, |y| forward_into(isa, unit, job, weights, y)) }
}

/// dL/dx, `[batch, in, height, width]`, from the weights and dL/dy, as [`super::direct::data_gradient`]; of an input that
/// was doubled (`halve`) the gradient before it was.
pub(super) fn data_gradient<E: Element>(
    isa: Isa,
    unit: Unit,
    dy: Images<'_, E>,
    batch: usize,
    weight: &[f32],
    (input, height, width): (usize, usize, usize),
    (stride, taps, halve): (usize, &[Tap], bool),
) -> Vec<E> {
    let area = taps.len();
    let side = Side {
        flip: false,
        ..Side::backward(dy.channels, input, area)
    };
    let len = batch * input * height * width / if halve { 4 } else { 1 };
    // SAFETY: the grids together are all pixels, and a grid without taps is filled with zeros.
    unsafe {
        filled(len, |dx: Shared<E>| {
            if stride * stride > area {
                std::ptr::write_bytes(dx.pointer(), 0, len);
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
                    halve,
                };
                let weights = pack(isa, weight, side, &taps, area);
                forward_into(isa, unit, job, &weights, dx);
            }
        })
    }
}
