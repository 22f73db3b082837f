//! Group normalisation with SiLU (Wu & He 2018), and its gradient, with channels last.
//!
//! Sums go in two stages without atomics: a thread adds up some pixels of its channels, then others add up
//! those sums in order, so that the same input gives the same bits.

use burn::tensor::DType;
use burn_cubecl::cubecl::zspace::metadata::Metadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::sums::{Chunks, totals};
use super::tensor::{address, dims, elem, empty, grid, slice, starts_a_tensor, vector_size};
use crate::group_norm::GroupNormOptions;

mod groups;

use groups::{Blocks, means_of_groups, moments_of_groups};

/// What the backward pass needs of the forward pass: mean and reciprocal deviation of each image's groups,
/// repeated for each channel, `[batch, 2, channels]`.
#[derive(Debug, Clone)]
pub(super) struct Moments(CubeTensor);

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::new(1.0f32);
    one / (one + (-x).exp())
}

/// Σ(x - x₀) and Σ(x - x₀)² of some pixels, x₀ being the channel's first pixel: no digits are lost where the
/// mean is far from 0.
#[cube(launch, address_type = "dynamic")]
fn partial_moments<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    pixels: usize,
    vectors: usize,
    chunk: usize,
    chunks: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let part = (ABSOLUTE_POS / vectors) % chunks;
    let image = ABSOLUTE_POS / (vectors * chunks);
    let base = image * pixels * vectors + v;
    let origin = Vector::<f32, N>::cast_from(x[base]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut squares = Vector::<f32, N>::new(0.0f32);
    let first = part * chunk;
    let mut last = first + chunk;
    if last > pixels {
        last = pixels;
    }
    let mut p = first;
    // Four at a time, so that their reads do not wait for each other.
    while p + 4 <= last {
        let at = base + p * vectors;
        let a = Vector::<f32, N>::cast_from(x[at]) - origin;
        let b = Vector::<f32, N>::cast_from(x[at + vectors]) - origin;
        let c = Vector::<f32, N>::cast_from(x[at + 2 * vectors]) - origin;
        let d = Vector::<f32, N>::cast_from(x[at + 3 * vectors]) - origin;
        sum += a + b + (c + d);
        squares += a * a + b * b + (c * c + d * d);
        p += 4;
    }
    while p < last {
        let d = Vector::<f32, N>::cast_from(x[base + p * vectors]) - origin;
        sum += d;
        squares += d * d;
        p += 1;
    }
    let at = (image * chunks + part) * 2 * vectors + v;
    sums[at] = sum;
    sums[at + vectors] = squares;
}

#[cube(launch, address_type = "dynamic")]
fn normalise<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    moments: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    y: &mut Tensor<Vector<E, N>>,
    pixels: usize,
    vectors: usize,
    rows: usize,
    chunk: usize,
    chunks: usize,
    threads: usize,
    #[comptime] silu: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let part = (ABSOLUTE_POS / vectors) % chunks;
    let image = ABSOLUTE_POS / (vectors * chunks);
    let mean = moments[image * 2 * vectors + v];
    let scale = moments[image * 2 * vectors + v + vectors];
    let parameter = (image % rows) * vectors + v;
    let (w, b) = (weight[parameter], bias[parameter]);
    let first = part * chunk;
    let mut last = first + chunk;
    if last > pixels {
        last = pixels;
    }
    let mut p = first;
    // Two at a time, so that their reads do not wait for each other.
    while p < last {
        let at = (image * pixels + p) * vectors + v;
        let mut next = at;
        if p + 1 < last {
            next = at + vectors;
        }
        let (x_a, x_b) = (x[at], x[next]);
        let mut z_a = (Vector::<f32, N>::cast_from(x_a) - mean) * scale * w + b;
        let mut z_b = (Vector::<f32, N>::cast_from(x_b) - mean) * scale * w + b;
        if silu {
            z_a = z_a * sigmoid::<N>(z_a);
            z_b = z_b * sigmoid::<N>(z_b);
        }
        y[at] = Vector::cast_from(z_a);
        y[next] = Vector::cast_from(z_b);
        p += 2;
    }
}

/// Gradient before SiLU, from that after it: σ(z)·(1 + z·(1 - σ(z))).
#[cube]
fn before_silu<N: Size>(dy: Vector<f32, N>, z: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::new(1.0f32);
    let s = sigmoid::<N>(z);
    dy * s * (one + z * (one - s))
}

/// Σ dz and Σ dz·x̂ of some pixels, z being the result before SiLU and x̂ the normalised input.
#[cube(launch, address_type = "dynamic")]
fn partial_gradients<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    dy: &Tensor<Vector<E, N>>,
    moments: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    pixels: usize,
    vectors: usize,
    rows: usize,
    chunk: usize,
    chunks: usize,
    threads: usize,
    #[comptime] silu: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let part = (ABSOLUTE_POS / vectors) % chunks;
    let image = ABSOLUTE_POS / (vectors * chunks);
    let base = image * pixels * vectors + v;
    let mean = moments[image * 2 * vectors + v];
    let scale = moments[image * 2 * vectors + v + vectors];
    let parameter = (image % rows) * vectors + v;
    let (w, b) = (weight[parameter], bias[parameter]);
    let mut plain = Vector::<f32, N>::new(0.0f32);
    let mut weighted = Vector::<f32, N>::new(0.0f32);
    let first = part * chunk;
    let mut last = first + chunk;
    if last > pixels {
        last = pixels;
    }
    let mut p = first;
    // Two at a time, so that their reads do not wait for each other.
    while p + 2 <= last {
        let at = base + p * vectors;
        let next = at + vectors;
        let normal_a = (Vector::<f32, N>::cast_from(x[at]) - mean) * scale;
        let normal_b = (Vector::<f32, N>::cast_from(x[next]) - mean) * scale;
        let mut dz_a = Vector::<f32, N>::cast_from(dy[at]);
        let mut dz_b = Vector::<f32, N>::cast_from(dy[next]);
        if silu {
            dz_a = before_silu::<N>(dz_a, normal_a * w + b);
            dz_b = before_silu::<N>(dz_b, normal_b * w + b);
        }
        plain += dz_a + dz_b;
        weighted += dz_a * normal_a + dz_b * normal_b;
        p += 2;
    }
    if p < last {
        let at = base + p * vectors;
        let normal = (Vector::<f32, N>::cast_from(x[at]) - mean) * scale;
        let mut dz = Vector::<f32, N>::cast_from(dy[at]);
        if silu {
            dz = before_silu::<N>(dz, normal * w + b);
        }
        plain += dz;
        weighted += dz * normal;
    }
    let at = (image * chunks + part) * 2 * vectors + v;
    sums[at] = plain;
    sums[at + vectors] = weighted;
}

#[cube(launch, address_type = "dynamic")]
fn gradient_of_input<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    dy: &Tensor<Vector<E, N>>,
    moments: &Tensor<Vector<f32, N>>,
    means: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<f32, N>>,
    bias: &Tensor<Vector<f32, N>>,
    dx: &mut Tensor<Vector<E, N>>,
    pixels: usize,
    vectors: usize,
    rows: usize,
    chunk: usize,
    chunks: usize,
    threads: usize,
    #[comptime] silu: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let part = (ABSOLUTE_POS / vectors) % chunks;
    let image = ABSOLUTE_POS / (vectors * chunks);
    let at = image * 2 * vectors + v;
    let parameter = (image % rows) * vectors + v;
    let (w, b) = (weight[parameter], bias[parameter]);
    let (mean, scale) = (moments[at], moments[at + vectors]);
    let (plain, weighted) = (means[at], means[at + vectors]);
    let first = part * chunk;
    let mut last = first + chunk;
    if last > pixels {
        last = pixels;
    }
    for p in first..last {
        let at = (image * pixels + p) * vectors + v;
        let normal = (Vector::<f32, N>::cast_from(x[at]) - mean) * scale;
        let mut dz = Vector::<f32, N>::cast_from(dy[at]);
        if silu {
            dz = before_silu::<N>(dz, normal * w + b);
        }
        let d = (dz * w - plain - normal * weighted) * scale;
        dx[at] = Vector::cast_from(d);
    }
}

/// Mean and reciprocal deviation of dense `[batch, height, width, channels]`.
pub(super) fn moments(x: &CubeTensor, options: GroupNormOptions) -> Moments {
    let [batch, height, width, channels] = dims(x);
    let pixels = height * width;
    let size = vector_size(channels);
    let vectors = channels / size;
    let chunks = Chunks::new(batch, pixels, vectors);
    let sums = empty(x, [batch, chunks.chunks, 2, channels], DType::F32);
    let threads = batch * chunks.chunks * vectors;
    let (count, dim) = grid(&x.client, threads);
    partial_moments::launch(
        &x.client,
        count,
        dim,
        address(&[x, &sums]),
        size,
        x.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        pixels,
        vectors,
        chunks.chunk,
        chunks.chunks,
        threads,
        elem(x.dtype),
    );
    let moments = empty(x, [batch, 2, channels], DType::F32);
    let group = channels / options.groups;
    let blocks = Blocks::new(channels, group);
    let (count, dim, cubes) = blocks.launch(&x.client, batch);
    moments_of_groups::launch(
        &x.client,
        count,
        dim,
        address(&[x, &sums]),
        x.clone().into_tensor_arg(),
        sums.into_tensor_arg(),
        moments.clone().into_tensor_arg(),
        pixels,
        channels,
        chunks.chunks,
        group,
        blocks.block,
        blocks.blocks,
        cubes,
        options.eps as f32,
        blocks.room(),
        elem(x.dtype),
    );
    Moments(moments)
}

/// The normalised images, dense as `x`; `weight` and `bias` are dense `[1 or batch, channels]` in f32.
pub(super) fn forward(
    x: &CubeTensor,
    [weight, bias]: [&CubeTensor; 2],
    moments: &Moments,
    options: GroupNormOptions,
) -> CubeTensor {
    let [batch, height, width, channels] = dims(x);
    let size = vector_size(channels);
    let y = empty(x, [batch, height, width, channels], x.dtype);
    let (pixels, vectors) = (height * width, channels / size);
    let chunks = Chunks::of(4, batch, pixels, vectors);
    let threads = batch * chunks.chunks * vectors;
    let (count, dim) = grid(&x.client, threads);
    normalise::launch(
        &x.client,
        count,
        dim,
        address(&[x]),
        size,
        x.clone().into_tensor_arg(),
        moments.0.clone().into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        bias.clone().into_tensor_arg(),
        y.clone().into_tensor_arg(),
        pixels,
        vectors,
        weight.meta.shape()[0],
        chunks.chunk,
        chunks.chunks,
        threads,
        options.silu,
        elem(x.dtype),
    );
    y
}

/// Gradients of x (dense as it), weight and bias (as they are, f32).
pub(super) fn backward(
    x: &CubeTensor,
    dy: &CubeTensor,
    [weight, bias]: [&CubeTensor; 2],
    moments: &Moments,
    options: GroupNormOptions,
) -> (CubeTensor, [CubeTensor; 2]) {
    let [batch, height, width, channels] = dims(x);
    let pixels = height * width;
    let rows = weight.meta.shape()[0];
    let size = vector_size(channels);
    let vectors = channels / size;
    let chunks = Chunks::new(batch, pixels, vectors);
    let sums = empty(x, [batch, chunks.chunks, 2, channels], DType::F32);
    let threads = batch * chunks.chunks * vectors;
    let (count, dim) = grid(&x.client, threads);
    partial_gradients::launch(
        &x.client,
        count,
        dim,
        address(&[x, &sums]),
        size,
        x.clone().into_tensor_arg(),
        dy.clone().into_tensor_arg(),
        moments.0.clone().into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        bias.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        pixels,
        vectors,
        rows,
        chunks.chunk,
        chunks.chunks,
        threads,
        options.silu,
        elem(x.dtype),
    );
    let means = empty(x, [batch, 2, channels], DType::F32);
    let by_image = empty(x, [batch, 2, channels], DType::F32);
    let group = channels / options.groups;
    let blocks = Blocks::new(channels, group);
    let (count, dim, cubes) = blocks.launch(&x.client, batch);
    means_of_groups::launch(
        &x.client,
        count,
        dim,
        address(&[&sums]),
        sums.into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        by_image.clone().into_tensor_arg(),
        means.clone().into_tensor_arg(),
        pixels,
        channels,
        chunks.chunks,
        rows,
        group,
        blocks.block,
        blocks.blocks,
        cubes,
        blocks.room(),
    );
    let dx = empty(x, [batch, height, width, channels], x.dtype);
    let chunks = Chunks::of(4, batch, pixels, vectors);
    let threads = batch * chunks.chunks * vectors;
    let (count, dim) = grid(&x.client, threads);
    gradient_of_input::launch(
        &x.client,
        count,
        dim,
        address(&[x]),
        size,
        x.clone().into_tensor_arg(),
        dy.clone().into_tensor_arg(),
        moments.0.clone().into_tensor_arg(),
        means.into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        bias.clone().into_tensor_arg(),
        dx.clone().into_tensor_arg(),
        pixels,
        vectors,
        rows,
        chunks.chunk,
        chunks.chunks,
        threads,
        options.silu,
        elem(x.dtype),
    );
    // [batch, 2·channels] -> [rows, 2·channels]
    let totals = match rows {
        1 => totals(&by_image, 1, batch, 2 * channels),
        _ => by_image,
    };
    let part = |from: usize| {
        let start = from * channels;
        if rows == 1 && starts_a_tensor(start, DType::F32) {
            return slice(&totals, start, channels, [1, channels]);
        }
        let gradient = empty(x, [rows, channels], DType::F32);
        let mut view = totals.clone();
        view.meta = Box::new(Metadata::new([rows, channels], [2 * channels, 1]));
        super::relayout::copy_to(view, start, &gradient, 0);
        gradient
    };
    (dx, [part(1), part(0)])
}
