//! Group normalisation with SiLU (Wu & He 2018), and its gradient, with channels last.
//!
//! Sums go in two stages without atomics: a thread adds up some pixels of its channels, then others add up
//! those sums in order, so that the same input gives the same bits.

use burn::tensor::DType;
use burn_cubecl::cubecl::zspace::metadata::Metadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{address, dims, elem, empty, grid, slice, starts_a_tensor, vector_size};
use crate::group_norm::GroupNormOptions;

/// Threads that keep a card busy.
const THREADS: usize = 1 << 16;

/// What the backward pass needs of the forward pass: mean and reciprocal deviation of each image's groups,
/// repeated for each channel, `[batch, 2, channels]`.
#[derive(Debug, Clone)]
pub(super) struct Moments(CubeTensor);

/// How pixels are shared among threads: `chunks` times `chunk` pixels an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    pub(super) chunks: usize,
    pub(super) chunk: usize,
}

impl Chunks {
    pub(super) fn new(batch: usize, pixels: usize, vectors: usize) -> Self {
        let wanted = THREADS
            .div_ceil(batch * vectors)
            .clamp(1, pixels.div_ceil(16).max(1));
        let chunk = pixels.div_ceil(wanted);
        Self {
            chunks: pixels.div_ceil(chunk),
            chunk,
        }
    }
}

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
    for p in first..last {
        let d = Vector::<f32, N>::cast_from(x[base + p * vectors]) - origin;
        sum += d;
        squares += d * d;
    }
    let at = (image * chunks + part) * 2 * vectors + v;
    sums[at] = sum;
    sums[at + vectors] = squares;
}

/// Mean and reciprocal deviation of each group from its channels' sums (Chan et al. 1983).
#[cube(launch, address_type = "dynamic")]
fn moments_of_groups<E: Numeric>(
    x: &Tensor<E>,
    sums: &Tensor<f32>,
    moments: &mut Tensor<f32>,
    pixels: usize,
    channels: usize,
    chunks: usize,
    group: usize,
    eps: f32,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    // One thread a group of an image.
    let groups = channels / group;
    let image = ABSOLUTE_POS / groups;
    let first = (ABSOLUTE_POS % groups) * group;
    let n = f32::cast_from(pixels as u32);
    let mut mean = 0.0f32;
    let mut m2 = 0.0f32;
    for i in 0..group {
        let c = first + i;
        let mut sum = 0.0f32;
        let mut squares = 0.0f32;
        for part in 0..chunks {
            let at = (image * chunks + part) * 2 * channels + c;
            sum += sums[at];
            squares += sums[at + channels];
        }
        let here = f32::cast_from(x[image * pixels * channels + c]) + sum / n;
        let own = squares - sum * sum / n;
        let step = here - mean;
        let seen = f32::cast_from(i as u32);
        mean += step / (seen + 1.0f32);
        m2 += own + step * step * n * seen / (seen + 1.0f32);
    }
    let variance = m2 / (n * f32::cast_from(group as u32));
    let scale = 1.0f32 / (variance + eps).sqrt();
    for i in 0..group {
        let at = image * 2 * channels + first + i;
        moments[at] = mean;
        moments[at + channels] = scale;
    }
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
    threads: usize,
    #[comptime] silu: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let image = ABSOLUTE_POS / (vectors * pixels);
    let at = image * 2 * vectors + v;
    let parameter = (image % rows) * vectors + v;
    let normal =
        (Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]) - moments[at]) * moments[at + vectors];
    let mut z = normal * weight[parameter] + bias[parameter];
    if silu {
        z = z * sigmoid::<N>(z);
    }
    y[ABSOLUTE_POS] = Vector::cast_from(z);
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
    for p in first..last {
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

/// Adds up `parts` blocks of `[2, channels]` an image: `[images, parts, 2·channels]` -> `[images, 2·channels]`.
#[cube(launch, address_type = "dynamic")]
fn add_up(sums: &Tensor<f32>, total: &mut Tensor<f32>, parts: usize, width: usize, threads: usize) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let image = ABSOLUTE_POS / width;
    let c = ABSOLUTE_POS % width;
    let mut sum = 0.0f32;
    for part in 0..parts {
        sum += sums[(image * parts + part) * width + c];
    }
    total[ABSOLUTE_POS] = sum;
}

/// Columns that a cube of [`add_tall`] adds up, and threads for each.
const COLUMNS: usize = 16;
const ROWS: usize = 16;

/// `[parts, width]` -> `[width]`, by a cube for some columns: parts are many where a thread for each column would be slow
/// and leave a card idle.
#[cube(launch, address_type = "dynamic")]
fn add_tall(sums: &Tensor<f32>, total: &mut Tensor<f32>, parts: usize, width: usize) {
    let mut shares = Shared::<[f32]>::new_slice(COLUMNS * ROWS);
    let unit = UNIT_POS as usize;
    let c = CUBE_POS_X as usize * COLUMNS + unit % COLUMNS;
    let mut sum = 0.0f32;
    if c < width {
        let mut part = unit / COLUMNS;
        while part < parts {
            sum += sums[part * width + c];
            part += ROWS;
        }
    }
    shares[unit] = sum;
    sync_cube();
    if unit < COLUMNS && c < width {
        let mut all = 0.0f32;
        #[unroll]
        for row in 0..ROWS {
            all += shares[row * COLUMNS + unit];
        }
        total[c] = all;
    }
}

/// Means over each group of weight·Σdz and weight·Σdz·x̂, repeated for each channel; `sums` are those of
/// [`partial_gradients`].
#[cube(launch, address_type = "dynamic")]
fn means_of_groups(
    sums: &Tensor<f32>,
    weight: &Tensor<f32>,
    means: &mut Tensor<f32>,
    pixels: usize,
    channels: usize,
    chunks: usize,
    rows: usize,
    group: usize,
    threads: usize,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let groups = channels / group;
    let image = ABSOLUTE_POS / groups;
    let first = (ABSOLUTE_POS % groups) * group;
    let mut plain = 0.0f32;
    let mut weighted = 0.0f32;
    for i in 0..group {
        let c = first + i;
        let w = weight[(image % rows) * channels + c];
        for part in 0..chunks {
            let at = (image * chunks + part) * 2 * channels + c;
            plain += w * sums[at];
            weighted += w * sums[at + channels];
        }
    }
    let n = f32::cast_from(pixels as u32) * f32::cast_from(group as u32);
    for i in 0..group {
        let at = image * 2 * channels + first + i;
        means[at] = plain / n;
        means[at + channels] = weighted / n;
    }
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
    threads: usize,
    #[comptime] silu: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let image = ABSOLUTE_POS / (vectors * pixels);
    let at = image * 2 * vectors + v;
    let parameter = (image % rows) * vectors + v;
    let (w, b) = (weight[parameter], bias[parameter]);
    let scale = moments[at + vectors];
    let normal = (Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]) - moments[at]) * scale;
    let mut dz = Vector::<f32, N>::cast_from(dy[ABSOLUTE_POS]);
    if silu {
        dz = before_silu::<N>(dz, normal * w + b);
    }
    let d = (dz * w - means[at] - normal * means[at + vectors]) * scale;
    dx[ABSOLUTE_POS] = Vector::cast_from(d);
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
    let threads = batch * options.groups;
    let (count, dim) = grid(&x.client, threads);
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
        channels / options.groups,
        options.eps as f32,
        threads,
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
    let threads = batch * height * width * channels / size;
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
        height * width,
        channels / size,
        weight.meta.shape()[0],
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
    let groups = batch * options.groups;
    let (count, dim) = grid(&x.client, groups);
    means_of_groups::launch(
        &x.client,
        count,
        dim,
        address(&[&sums]),
        sums.clone().into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        means.clone().into_tensor_arg(),
        pixels,
        channels,
        chunks.chunks,
        rows,
        channels / options.groups,
        groups,
    );
    let dx = empty(x, [batch, height, width, channels], x.dtype);
    let threads = batch * pixels * vectors;
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
        threads,
        options.silu,
        elem(x.dtype),
    );
    // [batch, chunks, 2·channels] -> [rows, 2·channels]
    let totals = match rows {
        1 => totals(&sums, 1, batch * chunks.chunks, 2 * channels),
        _ => totals(&sums, batch, chunks.chunks, 2 * channels),
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

/// `[images, parts, width]` summed to `[images, width]`, in order.
pub(super) fn totals(sums: &CubeTensor, images: usize, parts: usize, width: usize) -> CubeTensor {
    let total = empty(sums, [images, width], DType::F32);
    if images == 1 && parts > ROWS {
        add_tall::launch(
            &sums.client,
            CubeCount::new_1d(width.div_ceil(COLUMNS) as u32),
            CubeDim::new_1d((COLUMNS * ROWS) as u32),
            address(&[sums]),
            sums.clone().into_tensor_arg(),
            total.clone().into_tensor_arg(),
            parts,
            width,
        );
        return total;
    }
    let threads = images * width;
    let (count, dim) = grid(&sums.client, threads);
    add_up::launch(
        &sums.client,
        count,
        dim,
        address(&[sums]),
        sums.clone().into_tensor_arg(),
        total.clone().into_tensor_arg(),
        parts,
        width,
        threads,
    );
    total
}
