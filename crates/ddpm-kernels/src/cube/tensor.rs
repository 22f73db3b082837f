//! Tensors of GPUs as the kernels want them: dense, and images with channels last.

use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// An uninitialised dense tensor on the device of `like`.
pub(super) fn empty(
    like: &CubeTensor,
    shape: impl IntoIterator<Item = usize>,
    dtype: DType,
) -> CubeTensor {
    let shape = Shape::from(shape.into_iter().collect::<Vec<_>>());
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// The element type as kernels are told of it.
pub(super) fn elem(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// `[batch, channels, height, width]` as dense `[batch, height, width, channels]`: the memory itself if
/// channels are last there already, else a copy.
pub(super) fn channels_last(x: CubeTensor) -> CubeTensor {
    dense(permute_nchw_to_nhwc(x))
}

/// Dense `[batch, height, width, channels]` seen as `[batch, channels, height, width]`, without a copy.
pub(super) fn channels_first_view(x: CubeTensor) -> CubeTensor {
    permute_nhwc_to_nchw(x)
}

/// The tensor with its values in order, one after the other.
pub(super) fn dense(x: CubeTensor) -> CubeTensor {
    match is_dense(&x) {
        true => {
            let shape = x.meta.shape().to_vec();
            reshaped(x, shape)
        }
        false => super::relayout::copy(x, None),
    }
}

/// Whether the values lie in order; what the stride of a dimension of one value is, does not matter.
pub(super) fn is_dense(x: &CubeTensor) -> bool {
    let mut step = 1;
    let sizes = x.meta.shape().iter().zip(x.meta.strides().iter()).rev();
    for (&size, &stride) in sizes {
        if size != 1 && stride != step {
            return false;
        }
        step *= size;
    }
    !x.meta.is_tiled()
}

/// How many values a kernel reads at once where `length` values lie in order.
pub(super) fn vector_size(length: usize) -> usize {
    [4, 2]
        .into_iter()
        .find(|size| length.is_multiple_of(*size))
        .unwrap_or(1)
}

/// A kernel's grid for `threads` threads that share nothing.
pub(super) fn grid(client: &Client, threads: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(256);
    (
        cubecl::calculate_cube_count_elemwise(client, threads, dim),
        dim,
    )
}

/// How wide an index must be for all of `tensors`.
pub(super) fn address(tensors: &[&CubeTensor]) -> AddressType {
    tensors
        .iter()
        .map(|tensor| tensor.required_address_type())
        .max()
        .unwrap_or_default()
}

/// The sizes of an image tensor.
pub(super) fn dims(x: &CubeTensor) -> [usize; 4] {
    x.meta.shape().dims()
}

/// The same memory with another shape; `x` must be dense.
pub(super) fn reshaped(x: CubeTensor, shape: impl IntoIterator<Item = usize>) -> CubeTensor {
    let shape = Shape::from(shape.into_iter().collect::<Vec<_>>());
    CubeTensor::new_contiguous(x.client, x.device, shape, x.handle, x.dtype)
}

/// Bytes that the graphics interfaces align memory to.
const ALIGN: usize = 256;

/// Whether a tensor may begin at this value of another one's memory.
pub(super) fn starts_a_tensor(start: usize, dtype: DType) -> bool {
    (start * dtype.size()).is_multiple_of(ALIGN)
}

/// `length` values of dense `x` from its value `start` on, which is to be one that [`starts_a_tensor`], as a dense
/// tensor of the same memory.
pub(super) fn slice(
    x: &CubeTensor,
    start: usize,
    length: usize,
    shape: impl IntoIterator<Item = usize>,
) -> CubeTensor {
    let bytes = |values: usize| (values * x.dtype.size()) as u64;
    let mut view = x.clone();
    let all = view.meta.shape().num_elements();
    let (before, after) = (view.handle.offset_start, view.handle.offset_end);
    view.handle.offset_start = Some(before.unwrap_or(0) + bytes(start));
    view.handle.offset_end = Some(after.unwrap_or(0) + bytes(all - start - length));
    reshaped(view, shape)
}

/// What f32 values read back from a GPU are.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let words = bytes.chunks_exact(4);
    words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}
