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
    let (b, c, d) = (input.shape(1), input.shape(2), input.shape(3));
    let i3 = ABSOLUTE_POS % d;
    let rest = ABSOLUTE_POS / d;
    let i2 = rest % c;
    let rest = rest / c;
    let i1 = rest % b;
    let i0 = rest / b;
    let from =
        i0 * input.stride(0) + i1 * input.stride(1) + i2 * input.stride(2) + i3 * input.stride(3);
    output[offset + ABSOLUTE_POS] = O::cast_from(input[start + from]);
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

/// Writes dense values, multiplied, in order into memory with any strides.
#[cube(launch, address_type = "dynamic")]
fn scatter<I: Numeric, O: Numeric>(
    input: &Tensor<I>,
    output: &mut Tensor<O>,
    start: usize,
    values: usize,
    scale: f32,
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
    output[start + to] = O::cast_from(f32::cast_from(input[ABSOLUTE_POS]) * scale);
}

/// Writes dense `x`, times `scale`, through the four-dimensional view `output` that begins at value `start`.
pub(super) fn write_through(x: &CubeTensor, output: &CubeTensor, start: usize, scale: f32) {
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
        scale,
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
