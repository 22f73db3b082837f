//! Matrix products on a GPU's matrix units: convolutions without unrolled patches, and their gradients.
//!
//! A cube makes 128×128 results, or 64×64 where there would be too few cubes, from slices of the depth in shared memory.
//! While one slice is multiplied, the next is on its way into registers. Slices lie as their tensors do, so nothing is
//! transposed: the matrix units read either order. Products are added up in f32, in order of depth, by any tile.

mod hardware;
mod kernel;
mod plan;
mod read;
mod units;

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::gemm::Geometry;
use super::tensor::{address, dims, elem, empty};
pub(super) use hardware::enough;
use hardware::{instruction, multiplies_squares, types};
use kernel::product;
pub use plan::Planes;
use plan::{DEEP, Instruction, LANES, MOVED, Operation, Plan, SMALL, Tile, WORDS, WRITTEN};
use read::SizesLaunch;

/// What is added to the results of a convolution: the bias (dense, f32, `[1 or batch, out]`) and a tensor like them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addends<'a> {
    pub(super) bias: &'a CubeTensor,
    pub(super) residual: Option<&'a CubeTensor>,
}

#[allow(clippy::too_many_arguments, reason = "a product has that many sizes")]
fn launch(
    a: &CubeTensor,
    b: &CubeTensor,
    out: &CubeTensor,
    added: Option<Addends>,
    [m, n, depth]: [usize; 3],
    (parts, part): (usize, usize),
    operation: Operation,
    g: &Geometry,
    tile: Tile,
) {
    let size = MOVED / a.dtype.size();
    let instruction = instruction(&a.client, a.dtype);
    let [read, kept, factor] = types(instruction, a.dtype);
    let side = tile.side();
    let count = [m.div_ceil(side), n.div_ceil(side), parts].map(|size| size as u32);
    // What is not added stands for nothing, but something has to stand there.
    let (bias_rows, bias) = added.map_or((0, a), |added| (added.bias.meta.shape()[0], added.bias));
    let (residuals, residual) = match added.and_then(|added| added.residual) {
        None => (0, bias),
        Some(residual) => (1, residual),
    };
    product::launch(
        &a.client,
        CubeCount::Static(count[0], count[1], count[2]),
        CubeDim::new_2d(LANES as u32, tile.planes() as u32),
        address(&[a, b, out]),
        match instruction {
            Instruction::Registers => WORDS,
            Instruction::Squares { .. } | Instruction::Units => size,
        },
        WRITTEN,
        a.clone().into_tensor_arg(),
        b.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        bias.clone().into_tensor_arg(),
        residual.clone().into_tensor_arg(),
        SizesLaunch::new(
            m,
            n,
            depth,
            part,
            g.input,
            g.height,
            g.width,
            g.output,
            g.out_height,
            g.out_width,
            g.kernel.0 * g.kernel.1,
            g.kernel.1,
            g.padding,
            bias_rows,
            residuals,
        ),
        Plan {
            operation,
            stride: g.stride,
            tile,
            instruction,
            size,
        },
        [read, kept, factor, elem(out.dtype)],
    );
}

/// Whether these kernels can do a convolution of this geometry in `dtype` here.
pub(super) fn can(x: &CubeTensor, g: &Geometry) -> bool {
    let size = MOVED / x.dtype.size();
    g.input.is_multiple_of(size)
        && g.output.is_multiple_of(size)
        && multiplies_squares(&x.client, x.dtype)
}

/// Whether large tiles of `[m, n]` would leave multiprocessors of the device of `like` without work.
pub(super) fn few(like: &CubeTensor, m: usize, n: usize) -> bool {
    Tile::large(Planes::Four).count(m, n) < enough(&like.client) || n <= SMALL.side()
}

/// The tile for `[m, n]` with the depth undivided.
fn tile(like: &CubeTensor, planes: Planes, m: usize, n: usize) -> Tile {
    match few(like, m, n) {
        true => SMALL,
        false => Tile::large(planes),
    }
}

/// Whether the gradient of a weight has fewer rows or columns than half a large tile.
pub(super) fn narrow(g: &Geometry) -> bool {
    g.output.min(g.kernel.0 * g.kernel.1 * g.input) <= SMALL.side()
}

/// The convolution of dense `[batch, height, width, in]` with dense `[out, k, k, in]` of the same type.
pub(super) fn forward(
    x: &CubeTensor,
    w: &CubeTensor,
    added: Option<Addends>,
    g: &Geometry,
    planes: Planes,
) -> CubeTensor {
    let [batch, ..] = dims(x);
    let y = empty(x, [batch, g.out_height, g.out_width, g.output], x.dtype);
    let (m, n) = (batch * g.out_height * g.out_width, g.output);
    let depth = g.kernel.0 * g.kernel.1 * g.input;
    let tile = tile(x, planes, m, n);
    launch(
        x,
        w,
        &y,
        added,
        [m, n, depth],
        (1, depth),
        Operation::Forward,
        g,
        tile,
    );
    y
}

/// The gradient of its input.
pub(super) fn data_gradient(
    dy: &CubeTensor,
    w: &CubeTensor,
    g: &Geometry,
    planes: Planes,
) -> CubeTensor {
    let [batch, ..] = dims(dy);
    let dx = empty(dy, [batch, g.height, g.width, g.input], dy.dtype);
    let (m, n) = (batch * g.height * g.width, g.input);
    let depth = g.kernel.0 * g.kernel.1 * g.output;
    let tile = tile(dy, planes, m, n);
    launch(
        dy,
        w,
        &dx,
        None,
        [m, n, depth],
        (1, depth),
        Operation::Data,
        g,
        tile,
    );
    dx
}

/// The gradient of its weight, `[out, k, k, in]` in f32. The depth, all pixels of the batch, is split among cubes,
/// since the result alone would keep few of a GPU's multiprocessors busy.
pub(super) fn weight_gradient(
    x: &CubeTensor,
    dy: &CubeTensor,
    g: &Geometry,
    planes: Planes,
) -> CubeTensor {
    let [batch, ..] = dims(dy);
    let depth = batch * g.out_height * g.out_width;
    let (m, n) = (g.output, g.kernel.0 * g.kernel.1 * g.input);
    let tile = match narrow(g) {
        true => SMALL,
        false => Tile::large(planes),
    };
    let slice = DEEP * MOVED / x.dtype.size();
    // Twice as many cubes as multiprocessors: two run on each.
    let parts = (2 * enough(&x.client)).div_ceil(tile.count(m, n));
    let parts = parts.min(depth.div_ceil(8 * slice)).max(1);
    let part = depth.div_ceil(parts).next_multiple_of(slice);
    let parts = depth.div_ceil(part);
    let sums = empty(x, [parts, m, n], DType::F32);
    launch(
        dy,
        x,
        &sums,
        None,
        [m, n, depth],
        (parts, part),
        Operation::Weight,
        g,
        tile,
    );
    let shape = [g.output, g.kernel.0, g.kernel.1, g.input];
    match parts {
        1 => super::tensor::reshaped(sums, shape),
        _ => super::tensor::reshaped(super::sums::totals(&sums, 1, parts, m * n), shape),
    }
}
