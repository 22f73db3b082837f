//! Convolution as matrix products over unrolled patches (im2col), a few images at a time.
//!
//! The images of a batch are cut into as many runs as there are threads; a thread works through its
//! run in groups of images whose patches together make a product of a good size and stay in the cache.

use std::ops::Range;

use rayon::prelude::*;

use super::matmul::{Matrix, product};
use crate::conv2d::Conv2dOptions;

/// Columns of a product that a group of images is to reach.
const COLUMNS: usize = 512;

/// The extents of one convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: usize,
    pub(super) options: Conv2dOptions,
}

impl Shape {
    /// Rows of the output.
    pub(super) fn out_height(&self) -> usize {
        self.extent(self.height)
    }

    /// Columns of the output.
    pub(super) fn out_width(&self) -> usize {
        self.extent(self.width)
    }

    fn extent(&self, side: usize) -> usize {
        let (before, after) = self.options.padding;
        (side + before + after - self.kernel) / self.options.stride + 1
    }

    fn in_image(&self) -> usize {
        self.input * self.height * self.width
    }

    fn out_plane(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Values of a patch.
    fn patch(&self) -> usize {
        self.input * self.kernel * self.kernel
    }

    /// Images whose patches are unrolled together.
    fn group(&self) -> usize {
        (COLUMNS / self.out_plane().max(1)).clamp(1, self.batch.max(1))
    }

    /// One run of images for each thread.
    fn runs(&self) -> Vec<Range<usize>> {
        let threads = rayon::current_num_threads().clamp(1, self.batch.max(1));
        let length = self.batch.div_ceil(threads);
        (0..threads)
            .map(|i| (i * length).min(self.batch)..((i + 1) * length).min(self.batch))
            .filter(|run| !run.is_empty())
            .collect()
    }

    fn groups(&self, run: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (end, group) = (run.end, self.group());
        run.clone()
            .step_by(group)
            .map(move |first| first..(first + group).min(end))
    }
}

/// Cuts a buffer of one block an image into the blocks of each run.
fn split<'a>(mut values: &'a mut [f32], runs: &[Range<usize>], block: usize) -> Vec<&'a mut [f32]> {
    runs.iter()
        .map(|run| {
            let (head, rest) = std::mem::take(&mut values).split_at_mut(run.len() * block);
            values = rest;
            head
        })
        .collect()
}

/// y = weight ∗ x + bias.
pub(super) fn forward(shape: Shape, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let out_image = shape.output * shape.out_plane();
    let mut y = vec![0.0f32; shape.batch * out_image];
    let runs = shape.runs();
    let blocks = split(&mut y, &runs, out_image);
    runs.par_iter().zip(blocks).for_each(|(run, y)| {
        let mut patches = Vec::new();
        let mut products = Vec::new();
        for images in shape.groups(run) {
            let columns = images.len() * shape.out_plane();
            unroll(shape, x, &images, &mut patches);
            products.resize(shape.output * columns, 0.0);
            product(
                &mut products,
                [shape.output, columns, shape.patch()],
                Matrix::new(weight, shape.output, shape.patch()),
                Matrix::new(&patches, shape.patch(), columns),
                false,
            );
            let first = images.start - run.start;
            let y = &mut y[first * out_image..][..images.len() * out_image];
            scatter(shape, &products, bias, y);
        }
    });
    y
}

/// What a backward pass is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) x: bool,
    pub(super) weight: bool,
    pub(super) bias: bool,
}

/// dL/dx, dL/dweight and dL/dbias from dL/dy; those not wanted are empty.
pub(super) fn backward(
    shape: Shape,
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    wanted: Wanted,
) -> [Vec<f32>; 3] {
    let mut dx = vec![0.0f32; if wanted.x { x.len() } else { 0 }];
    let runs = shape.runs();
    let blocks = split(&mut dx, &runs, if wanted.x { shape.in_image() } else { 0 });
    let parts: Vec<[Vec<f32>; 2]> = runs
        .par_iter()
        .zip(blocks)
        .map(|(run, dx)| run_backward(shape, x, weight, dy, wanted, run, dx))
        .collect();
    // The runs are added in their order, whichever thread was done first.
    let mut sums = [Vec::new(), Vec::new()];
    for part in parts {
        for (sum, part) in sums.iter_mut().zip(part) {
            if sum.is_empty() {
                *sum = part;
            } else {
                sum.iter_mut()
                    .zip(part)
                    .for_each(|(sum, part)| *sum += part);
            }
        }
    }
    let [dweight, dbias] = sums;
    [dx, dweight, dbias]
}

fn run_backward(
    shape: Shape,
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    wanted: Wanted,
    run: &Range<usize>,
    dx: &mut [f32],
) -> [Vec<f32>; 2] {
    let mut dweight = vec![0.0f32; if wanted.weight { weight.len() } else { 0 }];
    let mut dbias = vec![0.0f32; if wanted.bias { shape.output } else { 0 }];
    let (mut patches, mut gathered) = (Vec::new(), Vec::new());
    for images in shape.groups(run) {
        let columns = images.len() * shape.out_plane();
        gather(shape, dy, &images, &mut gathered);
        for (sum, row) in dbias.iter_mut().zip(gathered.chunks_exact(columns)) {
            *sum += total(row);
        }
        let dy = Matrix::new(&gathered, shape.output, columns);
        if wanted.weight {
            unroll(shape, x, &images, &mut patches);
            product(
                &mut dweight,
                [shape.output, shape.patch(), columns],
                dy,
                Matrix::new(&patches, shape.patch(), columns).transposed(),
                true,
            );
        }
        if wanted.x {
            patches.resize(shape.patch() * columns, 0.0);
            product(
                &mut patches,
                [shape.patch(), columns, shape.output],
                Matrix::new(weight, shape.output, shape.patch()).transposed(),
                dy,
                false,
            );
            let first = images.start - run.start;
            let dx = &mut dx[first * shape.in_image()..][..images.len() * shape.in_image()];
            roll(shape, &patches, dx);
        }
    }
    [dweight, dbias]
}

/// Sum in eight lanes, so that it is fast and its order does not depend on the machine.
fn total(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = row.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().sum::<f32>() + rest
}

/// The outputs whose input column (or row) `i·stride + offset - pad` lies inside, and the first of those inputs.
fn inside(shape: Shape, offset: usize, side: usize, outputs: usize) -> (Range<usize>, usize) {
    let (pad, stride) = (shape.options.padding.0, shape.options.stride);
    let first = pad.saturating_sub(offset).div_ceil(stride).min(outputs);
    let end = (side + pad)
        .saturating_sub(offset)
        .div_ceil(stride)
        .clamp(first, outputs);
    (first..end, (first * stride + offset).saturating_sub(pad))
}

/// Rows (channel, u, v) by columns (image, i, j) of the input values under each output.
fn unroll(shape: Shape, x: &[f32], images: &Range<usize>, patches: &mut Vec<f32>) {
    let columns = images.len() * shape.out_plane();
    patches.resize(shape.patch() * columns, 0.0);
    let k = shape.kernel;
    for (row, line) in patches.chunks_exact_mut(columns).enumerate() {
        let (channel, u, v) = (row / (k * k), row / k % k, row % k);
        let planes = line.chunks_exact_mut(shape.out_plane());
        for (image, plane) in images.clone().zip(planes) {
            let source = &x[image * shape.in_image() + channel * shape.height * shape.width..]
                [..shape.height * shape.width];
            unroll_plane(shape, source, [u, v], plane);
        }
    }
}

fn unroll_plane(shape: Shape, source: &[f32], [u, v]: [usize; 2], plane: &mut [f32]) {
    let (stride, out_width) = (shape.options.stride, shape.out_width());
    let (rows, first_row) = inside(shape, u, shape.height, shape.out_height());
    let (columns, first_column) = inside(shape, v, shape.width, out_width);
    for (i, line) in plane.chunks_exact_mut(out_width).enumerate() {
        if !rows.contains(&i) {
            line.fill(0.0);
            continue;
        }
        let row = first_row + (i - rows.start) * stride;
        let source = &source[row * shape.width..][..shape.width];
        line[..columns.start].fill(0.0);
        line[columns.end..].fill(0.0);
        let line = &mut line[columns.clone()];
        if stride == 1 {
            line.copy_from_slice(&source[first_column..][..line.len()]);
        } else {
            let source = source[first_column.min(shape.width)..]
                .iter()
                .step_by(stride);
            line.iter_mut()
                .zip(source)
                .for_each(|(to, from)| *to = *from);
        }
    }
}

/// The reverse of [`unroll`]: adds each value of the patches to the input it came from.
fn roll(shape: Shape, patches: &[f32], dx: &mut [f32]) {
    let k = shape.kernel;
    let plane_len = shape.height * shape.width;
    let columns = dx.len() / shape.in_image() * shape.out_plane();
    for (row, line) in patches.chunks_exact(columns).enumerate() {
        let (channel, u, v) = (row / (k * k), row / k % k, row % k);
        let planes = line.chunks_exact(shape.out_plane());
        for (image, plane) in dx.chunks_exact_mut(shape.in_image()).zip(planes) {
            let target = &mut image[channel * plane_len..][..plane_len];
            roll_plane(shape, plane, [u, v], target);
        }
    }
}

fn roll_plane(shape: Shape, plane: &[f32], [u, v]: [usize; 2], target: &mut [f32]) {
    let (stride, out_width) = (shape.options.stride, shape.out_width());
    let (rows, first_row) = inside(shape, u, shape.height, shape.out_height());
    let (columns, first_column) = inside(shape, v, shape.width, out_width);
    for i in rows.clone() {
        let row = first_row + (i - rows.start) * stride;
        let line = &plane[i * out_width..][columns.clone()];
        let target = &mut target[row * shape.width..][..shape.width];
        let target = target[first_column.min(shape.width)..]
            .iter_mut()
            .step_by(stride);
        target.zip(line).for_each(|(to, from)| *to += from);
    }
}

/// `[out, image, plane]` -> `[image, out, plane]`, plus the bias.
fn scatter(shape: Shape, products: &[f32], bias: &[f32], y: &mut [f32]) {
    let plane = shape.out_plane();
    let images = y.len() / (shape.output * plane);
    for (image, y) in y.chunks_exact_mut(shape.output * plane).enumerate() {
        for (channel, y) in y.chunks_exact_mut(plane).enumerate() {
            let source = &products[(channel * images + image) * plane..][..plane];
            let bias = bias[channel];
            y.iter_mut().zip(source).for_each(|(y, x)| *y = x + bias);
        }
    }
}

/// `[image, out, plane]` -> `[out, image, plane]`.
fn gather(shape: Shape, dy: &[f32], images: &Range<usize>, gathered: &mut Vec<f32>) {
    let plane = shape.out_plane();
    gathered.resize(shape.output * images.len() * plane, 0.0);
    for (channel, rows) in gathered.chunks_exact_mut(images.len() * plane).enumerate() {
        for (image, row) in images.clone().zip(rows.chunks_exact_mut(plane)) {
            row.copy_from_slice(&dy[(image * shape.output + channel) * plane..][..plane]);
        }
    }
}
