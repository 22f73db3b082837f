//! One kernel for every change of order and type: weights, gradients, images.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{address, elem, empty, grid};

/// Reads `[a, b, c, d]` with any strides and writes it in order.
#[cube(launch, address_type = "dynamic")]
fn relayout<I: Numeric, O: Numeric>(
    input: &Tensor<I>,
    output: &mut Tensor<O>,
    start: usize,
    offset: usize,
    values: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS >= values {
        terminate!();
    }
    output[offset + ABSOLUTE_POS] = O::cast_from(input[start + place(input, ABSOLUTE_POS)]);
}

/// Where the value that comes at `position` in order lies in the memory of `[a, b, c, d]`.
#[cube]
fn place<E: Numeric>(x: &Tensor<E>, position: usize) -> usize {
    let (b, c, d) = (x.shape(1), x.shape(2), x.shape(3));
    let i3 = position % d;
    let rest = position / d;
    let i2 = rest % c;
    let rest = rest / c;
    let i1 = rest % b;
    let i0 = rest / b;
    i0 * x.stride(0) + i1 * x.stride(1) + i2 * x.stride(2) + i3 * x.stride(3)
}

/// As many tensors as one kernel can read everywhere, besides what it writes and their sizes.
const TOGETHER: usize = 6;

/// Where a tensor's values go, and how many there are.
#[derive(CubeLaunch, CubeType)]
struct Part {
    start: usize,
    values: usize,
}

#[cube]
fn put(input: &Tensor<f32>, output: &mut Tensor<f32>, at: usize, part: &Part) {
    if at >= part.start && at < part.start + part.values {
        output[at] = input[place(input, at - part.start)];
    }
}

/// Writes [`TOGETHER`] tensors with any strides in order, each to its place.
#[cube(launch, address_type = "dynamic")]
fn gather_parts(
    a: &Tensor<f32>,
    b: &Tensor<f32>,
    c: &Tensor<f32>,
    d: &Tensor<f32>,
    e: &Tensor<f32>,
    f: &Tensor<f32>,
    output: &mut Tensor<f32>,
    parts: &Sequence<Part>,
    first: usize,
    threads: usize,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let at = first + ABSOLUTE_POS;
    put(a, output, at, parts.index(0));
    put(b, output, at, parts.index(1));
    put(c, output, at, parts.index(2));
    put(d, output, at, parts.index(3));
    put(e, output, at, parts.index(4));
    put(f, output, at, parts.index(5));
}

/// Writes the values of each of `parts` in order, in f32, into `output`, from the value in `starts` on; starts rise.
pub(super) fn gather(parts: Vec<CubeTensor>, starts: &[usize], output: &CubeTensor) {
    let parts: Vec<_> = parts
        .into_iter()
        .map(|part| match part.dtype {
            DType::F32 => four_dimensions(part),
            _ => four_dimensions(copy(part, Some(DType::F32))),
        })
        .collect();
    for (parts, starts) in parts.chunks(TOGETHER).zip(starts.chunks(TOGETHER)) {
        let counts: Vec<usize> = parts
            .iter()
            .map(|x| x.meta.shape().num_elements())
            .collect();
        let (first, end) = (
            starts[0],
            starts[starts.len() - 1] + counts[counts.len() - 1],
        );
        if end == first {
            continue;
        }
        let (count, dim) = grid(&output.client, end - first);
        let mut tensors: Vec<&CubeTensor> = parts.iter().collect();
        tensors.push(output);
        // Where there are fewer, nothing is read of the others.
        let arg = |i: usize| parts.get(i).unwrap_or(&parts[0]).clone().into_tensor_arg();
        let part = |i: usize| match (starts.get(i), counts.get(i)) {
            (Some(&start), Some(&values)) => PartLaunch::new(start, values),
            _ => PartLaunch::new(0, 0),
        };
        gather_parts::launch(
            &output.client,
            count,
            dim,
            address(&tensors),
            arg(0),
            arg(1),
            arg(2),
            arg(3),
            arg(4),
            arg(5),
            output.clone().into_tensor_arg(),
            (0..TOGETHER).map(part).collect(),
            first,
            end - first,
        );
    }
}

/// A dense copy, in another type if `dtype` says so.
pub(super) fn copy(x: CubeTensor, dtype: Option<DType>) -> CubeTensor {
    let output = empty(&x, x.meta.shape().to_vec(), dtype.unwrap_or(x.dtype));
    copy_to(x, 0, &output, 0);
    output
}

/// Writes the values of `x` in order into `output`, from its value `offset` on. The view of `x` begins at the
/// value `start` of its memory.
pub(super) fn copy_to(x: CubeTensor, start: usize, output: &CubeTensor, offset: usize) {
    let x = four_dimensions(x);
    let values = x.meta.shape().num_elements();
    if values == 0 {
        return;
    }
    let (count, dim) = grid(&x.client, values);
    let types = [elem(x.dtype), elem(output.dtype)];
    let client = x.client.clone();
    let width = address(&[&x, output]);
    relayout::launch(
        &client,
        count,
        dim,
        width,
        x.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        start,
        offset,
        values,
        types,
    );
}

/// Writes dense values in order into memory with any strides.
#[cube(launch, address_type = "dynamic")]
fn scatter<I: Numeric, O: Numeric>(
    input: &Tensor<I>,
    output: &mut Tensor<O>,
    start: usize,
    values: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS >= values {
        terminate!();
    }
    let (b, c, d) = (output.shape(1), output.shape(2), output.shape(3));
    let i3 = ABSOLUTE_POS % d;
    let rest = ABSOLUTE_POS / d;
    let i2 = rest % c;
    let rest = rest / c;
    let i1 = rest % b;
    let i0 = rest / b;
    let to = i0 * output.stride(0)
        + i1 * output.stride(1)
        + i2 * output.stride(2)
        + i3 * output.stride(3);
    output[start + to] = O::cast_from(input[ABSOLUTE_POS]);
}

/// Writes dense `x` through the four-dimensional view `output` that begins at value `start`.
pub(super) fn write_through(x: &CubeTensor, output: &CubeTensor, start: usize) {
    let values = x.meta.shape().num_elements();
    let (count, dim) = grid(&x.client, values);
    scatter::launch(
        &x.client,
        count,
        dim,
        address(&[x, output]),
        x.clone().into_tensor_arg(),
        output.clone().into_tensor_arg(),
        start,
        values,
        [elem(x.dtype), elem(output.dtype)],
    );
}

/// A view with leading sizes of 1, or with the leading sizes of a dense tensor joined.
fn four_dimensions(mut x: CubeTensor) -> CubeTensor {
    while x.meta.num_dims() < 4 {
        let stride = x.meta.strides().first().copied().unwrap_or(1);
        x.meta.insert(0, 1, stride);
    }
    assert_eq!(
        x.meta.num_dims(),
        4,
        "images, weights, vectors and matrices"
    );
    x
}
