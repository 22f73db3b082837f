//! Convolutions with channels last, and their gradients.

use burn::tensor::DType;
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubek::convolution::{ConvolutionArgs, ConvolutionInputs, Strategy, launch_ref};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::std::InputBinding;

use super::algorithm::{Algorithm, CONVOLUTIONS, FEW, Part, UNALIGNED, WINDOWS, Work, fastest};
use super::gemm::{self, Geometry};
use super::hopper;
use super::images;
use super::matrix::{self, Addends};
use super::packed::PackedWeight;
use super::sums::{Chunks, totals};
use super::tensor::{address, dims, elem, empty, grid, reshaped, slice, vector_size};
use crate::conv2d::Conv2dOptions;

/// The sizes of a convolution of dense `x` by `[out, in, k, k]`.
pub(super) fn geometry(x: &CubeTensor, weight: [usize; 4], options: Conv2dOptions) -> Geometry {
    let [_, height, width, input] = dims(x);
    let [output, weight_input, rows, columns] = weight;
    assert_eq!(input, weight_input, "channels of x and weight");
    let (before, after) = options.padding;
    let out = |side: usize, taps: usize| (side + before + after - taps) / options.stride + 1;
    Geometry {
        input,
        height,
        width,
        output,
        out_height: out(height, rows),
        out_width: out(width, columns),
        kernel: (rows, columns),
        stride: options.stride,
        padding: before,
    }
}

/// `windows` and `few` say whether there are those that [`Algorithm::Window`] wants, and few results.
fn work(product: &str, x: &CubeTensor, g: &Geometry, windows: bool, few: bool) -> Work {
    let aligned = g.input.is_multiple_of(8) && g.output.is_multiple_of(8);
    let (which, candidates) = match (aligned, few) {
        _ if windows => (", windows", WINDOWS),
        (true, false) => ("", CONVOLUTIONS),
        (true, true) => (", few", FEW),
        (false, _) => (", unaligned", UNALIGNED),
    };
    Work {
        kind: format!(
            "{product}{which} {}x{} stride {} padding {}",
            g.kernel.0, g.kernel.1, g.stride, g.padding,
        ),
        sizes: format!(
            "{} to {} channels, {}x{}, batch {}",
            g.input,
            g.output,
            g.height,
            g.width,
            dims(x)[0],
        ),
        candidates,
    }
}

/// One of cubek's kernels; `None` if it cannot do this work here.
fn on_matrix_units(
    algorithm: Algorithm,
    inputs: ConvolutionInputs,
    g: &Geometry,
    factor: DType,
    out: &CubeTensor,
) -> Option<()> {
    let Algorithm::Matrix(algorithm, tile_kind) = algorithm else {
        return None;
    };
    let args = ConvolutionArgs::<2> {
        stride: [g.stride; 2],
        padding: [g.padding; 2],
        dilation: [1; 2],
    };
    let types = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: elem(factor),
        rhs: elem(factor),
        out: elem(out.dtype),
    });
    let strategy = Strategy::Inferred {
        algorithm,
        tile_kind,
    };
    launch_ref::<2>(&strategy, &out.client, inputs, args, types).ok()
}

fn binding(x: &CubeTensor) -> InputBinding {
    InputBinding::new(x.clone().binding(), elem(x.dtype))
}

/// The geometry with as many channels as [`hopper`] wants, if it is these that keep it from this work.
fn padded(x: &CubeTensor, g: &Geometry) -> Option<Geometry> {
    let wide = Geometry {
        input: g.input.next_multiple_of(8),
        output: g.output.next_multiple_of(8),
        ..*g
    };
    (wide != *g && hopper::can(x, &wide)).then_some(wide)
}

/// A weight with zeros for the channels that are not there.
fn padded_weight(w: &PackedWeight, g: &Geometry) -> PackedWeight {
    let [_, rows, columns, _] = dims(w.rows());
    let w = images::padded(w.rows(), g.input);
    let (there, wanted) = (
        w.meta.shape().num_elements(),
        g.output * rows * columns * g.input,
    );
    let all = images::padded(&reshaped(w, [1, 1, 1, there]), wanted);
    PackedWeight::of_rows(reshaped(all, [g.output, rows, columns, g.input]))
}

/// x ∗ w + bias, and + residual if there is one, dense.
pub(super) fn forward(x: &CubeTensor, w: &PackedWeight, added: Addends, g: Geometry) -> CubeTensor {
    if let Some(wide) = padded(x, &g) {
        let bias = added.bias;
        let row = [1, 1, bias.meta.shape()[0], g.output];
        let bias = images::padded(&reshaped(bias.clone(), row), wide.output);
        let bias = reshaped(bias, [row[2], wide.output]);
        let residual = added.residual.map(|x| images::padded(x, wide.output));
        let added = Addends {
            bias: &bias,
            residual: residual.as_ref(),
        };
        let x = images::padded(x, wide.input);
        let y = forward(&x, &padded_weight(w, &wide), added, wide);
        return images::channels(&y, 0, g.output);
    }
    let work = || {
        let few = matrix::few(x, dims(x)[0] * g.out_height * g.out_width, g.output);
        let windows = hopper::window::does(x, &g, [g.input, g.output]);
        work("forward", x, &g, windows, few)
    };
    fastest(x, work, &|algorithm, part| {
        let added = (part == Part::All).then_some(added);
        let y = match algorithm {
            Algorithm::Tiles(planes) => {
                return matrix::can(x, &g).then(|| matrix::forward(x, w.rows(), added, &g, planes));
            }
            Algorithm::Window => {
                return hopper::window::forward(x, || w.slices(false), added, &g);
            }
            Algorithm::Hopper => {
                return hopper::can(x, &g).then(|| hopper::forward(x, w.rows(), added, &g));
            }
            Algorithm::Units => gemm::forward(x, w.rows(), g),
            _ => {
                let y = empty(
                    x,
                    [dims(x)[0], g.out_height, g.out_width, g.output],
                    x.dtype,
                );
                let inputs = ConvolutionInputs::Forward {
                    input: binding(x),
                    weight: binding(w.rows()),
                    bias: None,
                    out: y.clone().binding(),
                };
                on_matrix_units(algorithm, inputs, &g, x.dtype, &y)?;
                y
            }
        };
        if let Some(added) = added {
            add(&y, added);
        }
        Some(y)
    })
}

/// The gradient of x, dense.
pub(super) fn data_gradient(dy: &CubeTensor, w: &PackedWeight, g: Geometry) -> CubeTensor {
    if let Some(wide) = padded(dy, &g) {
        let w = padded_weight(w, &wide);
        let dx = data_gradient(&images::padded(dy, wide.output), &w, wide);
        return images::channels(&dx, 0, g.input);
    }
    let work = || {
        let few = matrix::few(dy, dims(dy)[0] * g.height * g.width, g.input);
        let windows = hopper::window::does(dy, &g, [g.output, g.input]);
        work("data gradient", dy, &g, windows, few)
    };
    fastest(dy, work, &|algorithm, _| match algorithm {
        Algorithm::Units => Some(gemm::data_gradient(dy, w.rows(), g)),
        Algorithm::Window => hopper::window::data_gradient(dy, || w.slices(true), &g),
        Algorithm::Hopper => {
            (g.stride == 1 && hopper::can(dy, &g)).then(|| hopper::data_gradient(dy, w.rows(), &g))
        }
        Algorithm::Tiles(planes) => {
            matrix::can(dy, &g).then(|| matrix::data_gradient(dy, w.rows(), &g, planes))
        }
        _ if g.stride != 1 => None,
        _ => {
            let dx = empty(dy, [dims(dy)[0], g.height, g.width, g.input], dy.dtype);
            let inputs = ConvolutionInputs::BackwardData {
                out_grad: binding(dy),
                weights: binding(w.rows()),
                in_grad: dx.clone().binding(),
            };
            on_matrix_units(algorithm, inputs, &g, dy.dtype, &dx).map(|()| dx)
        }
    })
}

/// The gradient of the weight, `[out, in, k, k]` in f32 (a view of `[out, k, k, in]`).
pub(super) fn weight_gradient(x: &CubeTensor, dy: &CubeTensor, g: Geometry) -> CubeTensor {
    if let Some(wide) = padded(x, &g) {
        let (x, dy) = (
            images::padded(x, wide.input),
            images::padded(dy, wide.output),
        );
        let dw = packed_weight_gradient(&x, &dy, wide);
        let shape = [g.output, g.kernel.0, g.kernel.1, wide.input];
        let dw = slice(&dw, 0, shape.iter().product(), shape);
        return permute(images::channels(&dw, 0, g.input), &[0, 3, 1, 2]);
    }
    permute(packed_weight_gradient(x, dy, g), &[0, 3, 1, 2])
}

/// The same in order, `[out, k, k, in]`.
fn packed_weight_gradient(x: &CubeTensor, dy: &CubeTensor, g: Geometry) -> CubeTensor {
    let work = || work("weight gradient", x, &g, false, matrix::narrow(&g));
    fastest(x, work, &|algorithm, _| match algorithm {
        Algorithm::Units => Some(gemm::weight_gradient(x, dy, g)),
        Algorithm::Window => None,
        Algorithm::Hopper => hopper::can(x, &g).then(|| hopper::weight_gradient(x, dy, &g)),
        Algorithm::Tiles(planes) => {
            matrix::can(x, &g).then(|| matrix::weight_gradient(x, dy, &g, planes))
        }
        _ => {
            let dw = empty(x, [g.output, g.kernel.0, g.kernel.1, g.input], DType::F32);
            let inputs = ConvolutionInputs::BackwardWeight {
                input: binding(x),
                out_grad: binding(dy),
                weight_grad: dw.clone().binding(),
            };
            on_matrix_units(algorithm, inputs, &g, x.dtype, &dw).map(|()| dw)
        }
    })
}

/// y + bias, and + residual if there is one, in place.
#[cube(launch, address_type = "dynamic")]
fn add_bias<E: Numeric, N: Size>(
    y: &mut Tensor<Vector<E, N>>,
    bias: &Tensor<Vector<f32, N>>,
    residual: &Tensor<Vector<E, N>>,
    pixels: usize,
    vectors: usize,
    rows: usize,
    threads: usize,
    #[comptime] with_residual: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let image = ABSOLUTE_POS / (vectors * pixels);
    let mut sum = Vector::<f32, N>::cast_from(y[ABSOLUTE_POS]) + bias[(image % rows) * vectors + v];
    if with_residual {
        sum += Vector::<f32, N>::cast_from(residual[ABSOLUTE_POS]);
    }
    y[ABSOLUTE_POS] = Vector::cast_from(sum);
}

/// Adds to `y`, in place.
fn add(y: &CubeTensor, Addends { bias, residual }: Addends) {
    let [batch, height, width, channels] = dims(y);
    let size = vector_size(channels);
    let threads = batch * height * width * channels / size;
    let (count, dim) = grid(&y.client, threads);
    add_bias::launch(
        &y.client,
        count,
        dim,
        address(&[y]),
        size,
        y.clone().into_tensor_arg(),
        bias.clone().into_tensor_arg(),
        residual.unwrap_or(bias).clone().into_tensor_arg(),
        height * width,
        channels / size,
        bias.meta.shape()[0],
        threads,
        residual.is_some(),
        elem(y.dtype),
    );
}

/// Σ over some pixels of each channel.
#[cube(launch, address_type = "dynamic")]
fn partial_sums<E: Numeric, N: Size>(
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
    let first = part * chunk;
    let mut last = first + chunk;
    if last > pixels {
        last = pixels;
    }
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut p = first;
    // Four at a time, so that their reads do not wait for each other.
    while p + 4 <= last {
        let at = (image * pixels + p) * vectors + v;
        let a = Vector::<f32, N>::cast_from(x[at]);
        let b = Vector::<f32, N>::cast_from(x[at + vectors]);
        let c = Vector::<f32, N>::cast_from(x[at + 2 * vectors]);
        let d = Vector::<f32, N>::cast_from(x[at + 3 * vectors]);
        sum += a + b + (c + d);
        p += 4;
    }
    while p < last {
        sum += Vector::<f32, N>::cast_from(x[(image * pixels + p) * vectors + v]);
        p += 1;
    }
    sums[(image * chunks + part) * vectors + v] = sum;
}

/// The gradient of the bias: dense `dy` summed over pixels, and over images where they share one row.
pub(super) fn bias_gradient(dy: &CubeTensor, rows: usize) -> CubeTensor {
    let [batch, height, width, channels] = dims(dy);
    let pixels = height * width;
    let size = vector_size(channels);
    let vectors = channels / size;
    let chunks = Chunks::new(batch, pixels, vectors);
    let sums = empty(dy, [batch, chunks.chunks, channels], DType::F32);
    let threads = batch * chunks.chunks * vectors;
    let (count, dim) = grid(&dy.client, threads);
    partial_sums::launch(
        &dy.client,
        count,
        dim,
        address(&[dy]),
        size,
        dy.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        pixels,
        vectors,
        chunks.chunk,
        chunks.chunks,
        threads,
        elem(dy.dtype),
    );
    let by_image = totals(&sums, batch, chunks.chunks, channels);
    match rows {
        1 => totals(&by_image, 1, batch, channels),
        _ => by_image,
    }
}
