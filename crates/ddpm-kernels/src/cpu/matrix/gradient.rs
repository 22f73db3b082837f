//! The gradient of the weights: Σ over outputs of what a tap reads times dL/dy, tiles of channels by outputs.
//!
//! The depth is the places of a window, row after row; dL/dy is zero where a place is no output.

#![allow(
    unsafe_code,
    reason = "threads write interleaved parts of shared memory"
)]

use rayon::prelude::*;

use super::super::blocked::Images;
use super::super::direct::Tap;
use super::super::element::Element;
use super::super::isa::{Isa, Kernel, dispatch};
use super::super::memory::{Scratch, Shared, filled};
use super::super::tile::{DEPTH, Products, SIDE, Unit};
use super::super::vector::Vector;
use super::window::{Chunk, Layout, Room};

/// Outputs whose windows are in memory at a time.
const PIXELS: usize = 1024;
/// Steps over which both factors stay in the first-level cache while all taps read them.
const STEPS: usize = 8;

/// One channel of x in a chunk's windows.
struct Channel<'a, E> {
    x: Images<'a, E>,
    layout: &'a Layout,
    chunk: &'a Chunk,
    channel: usize,
    /// Where its places lie in plane 0.
    to: Shared<u16>,
    plane: usize,
    places: usize,
}

impl<E: Element> Kernel for Channel<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut scratch = Scratch::new(self.layout.line_room(self.chunk, &self.x));
        let room = Room {
            to: self.to.pointer(),
            plane: self.plane,
            places: self.places,
            line: scratch.pointer().cast(),
        };
        // SAFETY: the channel's part of the windows.
        unsafe {
            self.layout
                .singles::<V, E>(&self.x, self.chunk, self.channel, room);
        }
    }
}

/// 16 channels of dL/dy: tiles `[steps][16 pairs of places][16 channels][2]`, `apart` numbers from step to step.
struct Gradient<'a, E> {
    dy: Images<'a, E>,
    layout: &'a Layout,
    chunk: &'a Chunk,
    block: usize,
    steps: usize,
    to: Shared<u32>,
    apart: usize,
}

impl<E: Element> Kernel for Gradient<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { dy, chunk, .. } = &self;
        let (height, width) = (dy.height, dy.width);
        // Pairs of places of a channel.
        let pairs = self.steps * DEPTH / 2;
        let mut scratch = Scratch::new(SIDE * pairs);
        let lines = scratch.pointer();
        // SAFETY: 16 lines of places, of which the chunk's rows are less; tiles of this block alone.
        unsafe {
            std::ptr::write_bytes(lines, 0, SIDE * pairs);
            let channels = (dy.channels - self.block * SIDE).min(SIDE);
            for l in 0..channels {
                let line: *mut u16 = lines.add(l * pairs).cast();
                for image in 0..chunk.images {
                    let plane = (chunk.image + image) * dy.channels + self.block * SIDE + l;
                    for row in 0..chunk.rows {
                        let from = (plane * height + chunk.row + row) * width;
                        let from = dy.values.as_ptr().add(from);
                        let to = line.add(self.layout.line(chunk, image, row));
                        E::to_bf16::<V>(from, to, width);
                    }
                }
            }
            for step in 0..self.steps {
                let to: *mut f32 = self.to.pointer().add(step * self.apart).cast();
                for i in (0..SIDE).step_by(V::LANES) {
                    for j in (0..SIDE).step_by(V::LANES) {
                        let mut square = V::square();
                        for l in 0..V::LANES {
                            let from = lines.add((i + l) * pairs + step * SIDE + j);
                            square.as_mut()[l] = V::load(from);
                        }
                        V::transpose(&mut square);
                        for l in 0..V::LANES {
                            square.as_ref()[l].store(to.add((j + l) * SIDE + i));
                        }
                    }
                }
            }
        }
    }
}

/// dL/dweight, `[out, in, k, k]`, from x and dL/dy.
pub(in super::super) fn weight_gradient<E: Element>(
    isa: Isa,
    unit: Unit,
    x: Images<'_, E>,
    dy: Images<'_, E>,
    batch: usize,
    (stride, taps): (usize, &[Tap]),
) -> Vec<f32> {
    // SAFETY: every pair of a channel and an output belongs to one task.
    unsafe {
        filled(dy.channels * x.channels * taps.len(), |gradient| {
            gradient_into((isa, unit), x, dy, batch, (stride, taps), gradient);
        })
    }
}

/// Writes the gradient of every tap, channel and output.
fn gradient_into<E: Element>(
    (isa, unit): (Isa, Unit),
    x: Images<'_, E>,
    dy: Images<'_, E>,
    batch: usize,
    (stride, taps): (usize, &[Tap]),
    gradient: Shared,
) {
    let area = taps.len();
    let layout = Layout::new(taps, stride, x.seen(), (dy.height, dy.width));
    // Pairs of tiles.
    let (inputs, outputs) = (
        x.channels.div_ceil(2 * SIDE),
        dy.channels.div_ceil(2 * SIDE),
    );
    let wide = 2 * SIDE;
    let chunks = layout.chunks(batch, PIXELS, 1, false);
    let steps_of = |chunk: &Chunk| {
        let end = layout.line(chunk, chunk.images - 1, chunk.rows - 1) + dy.width;
        end.div_ceil(DEPTH)
    };
    let places = chunks.iter().map(|chunk| layout.places(chunk)).max();
    let (places, steps) = (
        places.unwrap_or(0),
        chunks.iter().map(steps_of).max().unwrap_or(0),
    );
    // In f32: two places of x each, and pairs of places of dL/dy.
    let plane = inputs * wide * places;
    let (x_len, dy_len) = (layout.planes() * plane / 2, steps * outputs * wide * SIDE);
    // For each pair of pairs of tiles a matrix of sums of each tap.
    let sums_len = inputs * outputs * wide * wide;
    let mut memory = Scratch::new(x_len + dy_len + taps.len() * sums_len + SIDE);
    // SAFETY: the three parts lie in the scratch memory one after the other.
    let (x_places, dy_places, sums) = unsafe {
        let start = memory.pointer();
        let start = start.byte_add(start.addr().wrapping_neg() % 64);
        (
            Shared::<u16>::new(start.cast()),
            Shared::<u32>::new(start.add(x_len).cast()),
            Shared::new(start.add(x_len + dy_len)),
        )
    };
    let apart = outputs * wide * SIDE;
    for (number, chunk) in chunks.iter().enumerate() {
        let steps = steps_of(chunk);
        (0..inputs * wide + outputs * 2)
            .into_par_iter()
            .for_each(|i| {
                // SAFETY: each channel and each block has its own part.
                unsafe {
                    if i < inputs * wide {
                        let channel = Channel {
                            x,
                            layout: &layout,
                            chunk,
                            channel: i,
                            to: Shared::new(x_places.pointer().add(i * places)),
                            plane,
                            places,
                        };
                        dispatch(isa, channel);
                    } else {
                        let block = i - inputs * wide;
                        let gradient = Gradient {
                            dy,
                            layout: &layout,
                            chunk,
                            block,
                            steps,
                            to: Shared::new(dy_places.pointer().add(block * SIDE * SIDE)),
                            apart,
                        };
                        if block * SIDE < dy.channels {
                            dispatch(isa, gradient);
                        }
                    }
                }
            });
        let left_steps: Vec<usize> = (0..steps).map(|step| step * 2 * DEPTH).collect();
        let right_steps: Vec<usize> = (0..steps).map(|step| step * 4 * apart).collect();
        (0..inputs * outputs).into_par_iter().for_each(|task| {
            let (input, output) = (task / outputs, task % outputs);
            let halves = |pair: usize, channels: usize| match pair * wide + SIDE < channels {
                true => 2,
                false => 1,
            };
            let count = [halves(input, x.channels), halves(output, dy.channels)];
            // SAFETY: this task's channels of both factors, and its sums.
            let (right, sums) = unsafe {
                (
                    dy_places.pointer().add(output * 2 * SIDE * SIDE),
                    sums.pointer().add(task * taps.len() * wide * wide),
                )
            };
            unit.begin();
            for first in (0..steps).step_by(STEPS) {
                let range = first..(first + STEPS).min(steps);
                for (tap, &(at, place)) in layout.taps().iter().enumerate() {
                    // SAFETY: as above.
                    unsafe {
                        let left = x_places.pointer();
                        let left = left.add(at * plane + input * wide * places + place);
                        let to = sums.add(tap * wide * wide);
                        let low = to.add(SIDE * wide);
                        let products = Products {
                            left: [left.cast(), left.add(SIDE * places).cast()],
                            left_row: 2 * places,
                            left_steps: &left_steps[range.clone()],
                            right: [right.cast(), right.add(SIDE * SIDE).cast()],
                            right_row: 4 * SIDE,
                            right_steps: &right_steps[range.clone()],
                            sums: [[to, to.add(SIDE)], [low, low.add(SIDE)]],
                            sums_row: 4 * wide,
                            count,
                            accumulate: number > 0 || first > 0,
                        };
                        unit.multiply(products);
                    }
                }
            }
            unit.end();
            if number + 1 < chunks.len() {
                return;
            }
            let channels = input * wide..x.channels.min((input + 1) * wide);
            for (o, output) in (output * wide..dy.channels.min((output + 1) * wide)).enumerate() {
                for (c, channel) in channels.clone().enumerate() {
                    // SAFETY: this task's sums, all of which are written, and its part of the gradient.
                    unsafe {
                        let to = (output * x.channels + channel) * area;
                        let to = gradient.pointer().add(to);
                        for tap in 0..area {
                            *to.add(tap) = *sums.add((tap * wide + c) * wide + o);
                        }
                    }
                }
            }
        });
    }
}
