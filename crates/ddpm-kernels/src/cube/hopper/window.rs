//! 3×3 convolutions of stride 1 and the gradients of their inputs, by `window.cu`.

use burn_cubecl::tensor::CubeTensor;

use super::super::gemm::Geometry;
use super::super::matrix::{Addends, enough};
use super::super::packed::{SLICE_COLUMNS, SLICE_DEPTH};
use super::super::tensor::{dims, empty};
use super::text::Program;
use super::{VALUES, is_hopper};

/// Threads of a block.
const THREADS: u32 = 384;

/// Pixels of a block, down and across.
const SIDE: usize = 16;

/// Whether the kernel does a convolution, or the gradient of its input, of `input` to `output` channels here.
///
/// The batch makes no difference: this kernel adds in another order than `product.cu`, and an image is the same in any
/// batch.
pub(in crate::cube) fn does(x: &CubeTensor, g: &Geometry, [input, output]: [usize; 2]) -> bool {
    let pixels = dims(x)[0] * g.height * g.width;
    is_hopper(x)
        && (g.kernel, g.stride, g.padding) == ((3, 3), 1, 1)
        && g.height.is_multiple_of(SIDE)
        && g.width.is_multiple_of(SIDE)
        && input.is_multiple_of(SLICE_DEPTH)
        && output.is_multiple_of(SLICE_COLUMNS)
        && pixels.max(9 * output) * input.max(output) < VALUES
}

/// x ∗ w and what is added, dense, if the kernel does this; `slices` are of w.
pub(in crate::cube) fn forward(
    x: &CubeTensor,
    slices: impl FnOnce() -> Option<CubeTensor>,
    added: Option<Addends>,
    g: &Geometry,
) -> Option<CubeTensor> {
    does(x, g, [g.input, g.output])
        .then(slices)?
        .map(|slices| convolved(x, &slices, added, g.output))
}

/// The gradient of x, dense, if the kernel does this; `slices` are of w transposed and mirrored.
pub(in crate::cube) fn data_gradient(
    dy: &CubeTensor,
    slices: impl FnOnce() -> Option<CubeTensor>,
    g: &Geometry,
) -> Option<CubeTensor> {
    does(dy, g, [g.output, g.input])
        .then(slices)?
        .map(|slices| convolved(dy, &slices, None, g.input))
}

fn convolved(
    x: &CubeTensor,
    slices: &CubeTensor,
    added: Option<Addends>,
    output: usize,
) -> CubeTensor {
    let [batch, height, width, input] = dims(x);
    let out = empty(x, [batch, height, width, output], x.dtype);
    let of_image = (height / SIDE) * (width / SIDE);
    let count = |columns: usize| batch * of_image * (output / columns);
    let multiprocessors = enough(&x.client);
    let columns = match 4 * count(SLICE_COLUMNS) < 3 * multiprocessors {
        true => SLICE_COLUMNS / 2,
        false => SLICE_COLUMNS,
    };
    // What is not added stands for nothing, but something has to stand there.
    let bias = added.map_or(x, |added| added.bias);
    let residual = added.and_then(|added| added.residual);
    // As `Sizes` in `window.cu`.
    let words = [
        input,
        output,
        height,
        width,
        width / SIDE,
        of_image,
        output / columns,
        count(columns),
        added.map_or(0, |added| added.bias.meta.shape()[0]),
        usize::from(residual.is_some()),
    ]
    .map(|size| size as u32);
    let program = Program {
        name: "hopper_window",
        text: include_str!("window.cu"),
        threads: THREADS,
        dtype: x.dtype,
        defines: vec![("COLUMNS", columns.to_string())],
    };
    // A block goes through several results: one runs on each multiprocessor.
    let blocks = count(columns).min(multiprocessors);
    let read = [x, slices, bias, residual.unwrap_or(x)];
    program.launch(&read, (2, &out), &words, [blocks, 1, 1]);
    out
}
