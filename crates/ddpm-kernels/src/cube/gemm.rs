//! Matrix products on a GPU's ordinary units, for every device: convolutions without unrolled patches,
//! their gradients, and products of batches of matrices.
//!
//! A cube of 256 threads makes 64×64 results, 16 of them each thread, from slices of 16 in shared memory; where there
//! would be too few cubes to keep a GPU busy, 16×16 from slices of 64. Factors may be of any float type; products are
//! added up in f32, in order of depth, by either.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{address, dims, elem, empty};

/// Threads of a cube in each direction.
const SIDE: usize = 16;

/// What a cube makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Tile {
    /// Results a thread makes, in each direction.
    each: usize,
    /// Depth of a slice in shared memory.
    depth: usize,
}

const LARGE: Tile = Tile { each: 4, depth: 16 };
const SMALL: Tile = Tile { each: 1, depth: 64 };

/// With fewer large tiles than this, small ones.
const ENOUGH: usize = 64;

impl Tile {
    /// The tile for `parts` products of `[m, n]`.
    fn new(m: usize, n: usize, parts: usize) -> Self {
        match LARGE.count(m, n) * parts < ENOUGH {
            true => SMALL,
            false => LARGE,
        }
    }

    /// Results a cube makes, in each direction.
    const fn side(self) -> usize {
        SIDE * self.each
    }

    /// How many there are for `[m, n]`.
    fn count(self, m: usize, n: usize) -> usize {
        m.div_ceil(self.side()) * n.div_ceil(self.side())
    }
}

/// The sizes of a convolution, known when its kernel is compiled, so that dividing by them is cheap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    pub(super) input: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) output: usize,
    pub(super) out_height: usize,
    pub(super) out_width: usize,
    pub(super) kernel: (usize, usize),
    pub(super) stride: usize,
    /// Zeros above and left.
    pub(super) padding: usize,
}

/// Which product of x `[batch, height, width, in]`, w `[out, k, k, in]` and y `[batch, height', width', out]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    /// y = x ∗ w
    Forward,
    /// dx from dy and w
    Data,
    /// dw from dy and x
    Weight,
}

/// Where a pixel of x lies that the tap (u, v) of output pixel (i, j) reads, or that there is none.
#[cube]
fn read_x<E: Numeric>(
    x: &Tensor<E>,
    pixel: usize,
    tap_channel: usize,
    #[comptime] g: Geometry,
) -> f32 {
    let c = tap_channel % comptime!(g.input);
    let tap = tap_channel / comptime!(g.input);
    let v = tap % comptime!(g.kernel.1);
    let u = tap / comptime!(g.kernel.1);
    let j = pixel % comptime!(g.out_width);
    let rest = pixel / comptime!(g.out_width);
    let i = rest % comptime!(g.out_height);
    let image = rest / comptime!(g.out_height);
    let row = i * comptime!(g.stride) + u;
    let column = j * comptime!(g.stride) + v;
    let mut value = 0.0f32;
    if row >= comptime!(g.padding)
        && row < comptime!(g.height + g.padding)
        && column >= comptime!(g.padding)
        && column < comptime!(g.width + g.padding)
    {
        let at = (image * comptime!(g.height) + row - comptime!(g.padding)) * comptime!(g.width)
            + column
            - comptime!(g.padding);
        value = f32::cast_from(x[at * comptime!(g.input) + c]);
    }
    value
}

/// The value of dy that the tap (u, v) brings to pixel (i, j) of dx, or 0 if there is none.
#[cube]
fn read_dy<E: Numeric>(
    dy: &Tensor<E>,
    pixel: usize,
    tap_channel: usize,
    #[comptime] g: Geometry,
) -> f32 {
    let o = tap_channel % comptime!(g.output);
    let tap = tap_channel / comptime!(g.output);
    let v = tap % comptime!(g.kernel.1);
    let u = tap / comptime!(g.kernel.1);
    let j = pixel % comptime!(g.width);
    let rest = pixel / comptime!(g.width);
    let i = rest % comptime!(g.height);
    let image = rest / comptime!(g.height);
    let row = i + comptime!(g.padding);
    let column = j + comptime!(g.padding);
    let mut value = 0.0f32;
    if row >= u && column >= v {
        let (row, column) = (row - u, column - v);
        let (i, j) = (row / comptime!(g.stride), column / comptime!(g.stride));
        if row % comptime!(g.stride) == 0
            && column % comptime!(g.stride) == 0
            && i < comptime!(g.out_height)
            && j < comptime!(g.out_width)
        {
            let at = (image * comptime!(g.out_height) + i) * comptime!(g.out_width) + j;
            value = f32::cast_from(dy[at * comptime!(g.output) + o]);
        }
    }
    value
}

/// A factor of the product: row `m` of the left one, or column `n` of the right one, at depth `k`.
#[cube]
fn left<E: Numeric>(
    x: &Tensor<E>,
    m: usize,
    k: usize,
    #[comptime] operation: Operation,
    #[comptime] g: Geometry,
) -> f32 {
    match comptime!(operation) {
        Operation::Forward => read_x::<E>(x, m, k, g),
        Operation::Data => read_dy::<E>(x, m, k, g),
        // [pixels, out]
        Operation::Weight => f32::cast_from(x[k * comptime!(g.output) + m]),
    }
}

#[cube]
fn right<E: Numeric>(
    w: &Tensor<E>,
    k: usize,
    n: usize,
    #[comptime] operation: Operation,
    #[comptime] g: Geometry,
) -> f32 {
    match comptime!(operation) {
        // [out, k·k·in]
        Operation::Forward => {
            f32::cast_from(w[n * comptime!(g.kernel.0 * g.kernel.1 * g.input) + k])
        }
        Operation::Data => {
            let o = k % comptime!(g.output);
            let tap = k / comptime!(g.output);
            f32::cast_from(
                w[(o * comptime!(g.kernel.0 * g.kernel.1) + tap) * comptime!(g.input) + n],
            )
        }
        Operation::Weight => read_x::<E>(w, k, n, g),
    }
}

/// Adds the products of a slice in shared memory to each thread's results.
#[cube]
fn multiply(
    rows: &Shared<[f32]>,
    columns: &Shared<[f32]>,
    results: &mut Array<f32>,
    row: usize,
    column: usize,
    #[comptime] tile: Tile,
) {
    let each = comptime!(tile.each);
    let side = comptime!(tile.side());
    for k in 0..tile.depth {
        let mut a = Array::<f32>::new(each);
        let mut b = Array::<f32>::new(each);
        #[unroll]
        for i in 0..each {
            a[i] = rows[k * side + row + i * SIDE];
            b[i] = columns[k * side + column + i * SIDE];
        }
        #[unroll]
        for i in 0..each {
            #[unroll]
            for j in 0..each {
                results[i * each + j] += a[i] * b[j];
            }
        }
    }
}

/// out\[z, m, n\] = Σ left(m, k)·right(k, n) over the z-th part of the depth.
#[cube(launch, address_type = "dynamic")]
fn implicit_product<E: Numeric, O: Numeric>(
    a: &Tensor<E>,
    b: &Tensor<E>,
    out: &mut Tensor<O>,
    m: usize,
    n: usize,
    depth: usize,
    part: usize,
    #[comptime] operation: Operation,
    #[comptime] g: Geometry,
    #[comptime] tile: Tile,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let each = comptime!(tile.each);
    let side = comptime!(tile.side());
    let slice = comptime!(tile.depth);
    let mut rows = Shared::<[f32]>::new_slice(slice * side);
    let mut columns = Shared::<[f32]>::new_slice(slice * side);
    let mut results = Array::<f32>::new(each * each);
    #[unroll]
    for i in 0..each * each {
        results[i] = 0.0f32;
    }
    let thread = UNIT_POS as usize;
    let first_row = CUBE_POS_X as usize * side;
    let first_column = CUBE_POS_Y as usize * side;
    let z = CUBE_POS_Z as usize;
    let begin = z * part;
    let mut end = begin + part;
    if end > depth {
        end = depth;
    }
    // A thread's results lie SIDE apart, so that neighbours read and write neighbours.
    let row = thread / SIDE;
    let column = thread % SIDE;
    let mut k0 = begin;
    while k0 < end {
        #[unroll]
        for i in 0..slice * side / (SIDE * SIDE) {
            let at = thread + i * (SIDE * SIDE);
            // Neighbouring threads read along what lies in order: channels of x and dy; columns of w.
            let (km, mm) = match comptime!(operation) {
                Operation::Forward | Operation::Data => (at % slice, at / slice),
                Operation::Weight => (at / side, at % side),
            };
            let (kn, nn) = match comptime!(operation) {
                Operation::Forward => (at % slice, at / slice),
                Operation::Data | Operation::Weight => (at / side, at % side),
            };
            let mut value = 0.0f32;
            if first_row + mm < m && k0 + km < end {
                value = left::<E>(a, first_row + mm, k0 + km, operation, g);
            }
            rows[km * side + mm] = value;
            let mut value = 0.0f32;
            if first_column + nn < n && k0 + kn < end {
                value = right::<E>(b, k0 + kn, first_column + nn, operation, g);
            }
            columns[kn * side + nn] = value;
        }
        sync_cube();
        multiply(&rows, &columns, &mut results, row, column, tile);
        sync_cube();
        k0 += slice;
    }
    #[unroll]
    for i in 0..each {
        #[unroll]
        for j in 0..each {
            let (at_m, at_n) = (first_row + row + i * SIDE, first_column + column + j * SIDE);
            if at_m < m && at_n < n {
                out[(z * m + at_m) * n + at_n] = O::cast_from(results[i * each + j]);
            }
        }
    }
}

/// out\[z, m, n\] = Σ a\[z, m, k\]·b\[z, k, n\], z counted over two leading sizes, any strides.
#[cube(launch, address_type = "dynamic")]
fn batched_product<E: Numeric, O: Numeric>(
    a: &Tensor<E>,
    b: &Tensor<E>,
    out: &mut Tensor<O>,
    a_start: usize,
    b_start: usize,
    out_start: usize,
    #[comptime] tile: Tile,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let each = comptime!(tile.each);
    let side = comptime!(tile.side());
    let slice = comptime!(tile.depth);
    let mut rows = Shared::<[f32]>::new_slice(slice * side);
    let mut columns = Shared::<[f32]>::new_slice(slice * side);
    let mut results = Array::<f32>::new(each * each);
    #[unroll]
    for i in 0..each * each {
        results[i] = 0.0f32;
    }
    let (m, n, depth) = (a.shape(2), b.shape(3), a.shape(3));
    let thread = UNIT_POS as usize;
    let first_row = CUBE_POS_X as usize * side;
    let first_column = CUBE_POS_Y as usize * side;
    let z = CUBE_POS_Z as usize;
    let (z0, z1) = (z / a.shape(1), z % a.shape(1));
    let a_base = a_start + z0 * a.stride(0) + z1 * a.stride(1);
    let b_base = b_start + z0 * b.stride(0) + z1 * b.stride(1);
    let row = thread / SIDE;
    let column = thread % SIDE;
    let mut k0 = 0usize;
    while k0 < depth {
        #[unroll]
        for i in 0..slice * side / (SIDE * SIDE) {
            let at = thread + i * (SIDE * SIDE);
            let (k, mn) = (at % slice, at / slice);
            let mut value = 0.0f32;
            if first_row + mn < m && k0 + k < depth {
                value = f32::cast_from(
                    a[a_base + (first_row + mn) * a.stride(2) + (k0 + k) * a.stride(3)],
                );
            }
            rows[k * side + mn] = value;
            let (k, mn) = (at / side, at % side);
            let mut value = 0.0f32;
            if first_column + mn < n && k0 + k < depth {
                value = f32::cast_from(
                    b[b_base + (k0 + k) * b.stride(2) + (first_column + mn) * b.stride(3)],
                );
            }
            columns[k * side + mn] = value;
        }
        sync_cube();
        multiply(&rows, &columns, &mut results, row, column, tile);
        sync_cube();
        k0 += slice;
    }
    let out_base = out_start + z0 * out.stride(0) + z1 * out.stride(1);
    #[unroll]
    for i in 0..each {
        #[unroll]
        for j in 0..each {
            let (at_m, at_n) = (first_row + row + i * SIDE, first_column + column + j * SIDE);
            if at_m < m && at_n < n {
                let at = out_base + at_m * out.stride(2) + at_n * out.stride(3);
                out[at] = O::cast_from(results[i * each + j]);
            }
        }
    }
}

fn cubes(tile: Tile, m: usize, n: usize, z: usize) -> (CubeCount, CubeDim) {
    let side = tile.side();
    let count = [m.div_ceil(side), n.div_ceil(side), z].map(|size| size as u32);
    (
        CubeCount::Static(count[0], count[1], count[2]),
        CubeDim::new_1d((SIDE * SIDE) as u32),
    )
}

#[allow(clippy::too_many_arguments, reason = "a product has that many sizes")]
fn launch(
    a: &CubeTensor,
    b: &CubeTensor,
    out: &CubeTensor,
    [m, n, depth]: [usize; 3],
    parts: usize,
    part: usize,
    operation: Operation,
    g: Geometry,
) {
    let tile = Tile::new(m, n, parts);
    let (count, dim) = cubes(tile, m, n, parts);
    implicit_product::launch(
        &a.client,
        count,
        dim,
        address(&[a, b, out]),
        a.clone().into_tensor_arg(),
        b.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        m,
        n,
        depth,
        part,
        operation,
        g,
        tile,
        [elem(a.dtype), elem(out.dtype)],
    );
}

/// The convolution of dense `[batch, height, width, in]` with dense `[out, k, k, in]` of the same type.
pub(super) fn forward(x: &CubeTensor, w: &CubeTensor, g: Geometry) -> CubeTensor {
    let [batch, ..] = dims(x);
    let y = empty(x, [batch, g.out_height, g.out_width, g.output], x.dtype);
    let depth = g.kernel.0 * g.kernel.1 * g.input;
    let sizes = [batch * g.out_height * g.out_width, g.output, depth];
    launch(x, w, &y, sizes, 1, depth, Operation::Forward, g);
    y
}

/// The gradient of its input.
pub(super) fn data_gradient(dy: &CubeTensor, w: &CubeTensor, g: Geometry) -> CubeTensor {
    let [batch, ..] = dims(dy);
    let dx = empty(dy, [batch, g.height, g.width, g.input], dy.dtype);
    let depth = g.kernel.0 * g.kernel.1 * g.output;
    let sizes = [batch * g.height * g.width, g.input, depth];
    launch(dy, w, &dx, sizes, 1, depth, Operation::Data, g);
    dx
}

/// The gradient of its weight, `[out, k, k, in]` in f32. The depth, all pixels of the batch, is split among
/// cubes where the result alone would not keep a GPU busy.
pub(super) fn weight_gradient(x: &CubeTensor, dy: &CubeTensor, g: Geometry) -> CubeTensor {
    let [batch, ..] = dims(dy);
    let depth = batch * g.out_height * g.out_width;
    let (m, n) = (g.output, g.kernel.0 * g.kernel.1 * g.input);
    let tiles = LARGE.count(m, n);
    let parts = 256usize
        .div_ceil(tiles)
        .min(depth.div_ceil(8 * LARGE.depth))
        .max(1);
    let part = depth.div_ceil(parts).next_multiple_of(LARGE.depth);
    let parts = depth.div_ceil(part);
    let sums = empty(x, [parts, m, n], DType::F32);
    launch(
        dy,
        x,
        &sums,
        [m, n, depth],
        parts,
        part,
        Operation::Weight,
        g,
    );
    let dw = super::sums::totals(&sums, 1, parts, m * n);
    super::tensor::reshaped(dw, [g.output, g.kernel.0, g.kernel.1, g.input])
}

/// A matrix of each of `[batch, heads]`, as strides into memory that begins at value `start`.
pub(super) struct Matrices {
    pub(super) tensor: CubeTensor,
    pub(super) start: usize,
}

/// a·b for each pair of matrices: `[batch, heads, m, k]` × `[batch, heads, k, n]` -> `out`,
/// `[batch, heads, m, n]`.
pub(super) fn batched(a: &Matrices, b: &Matrices, out: &Matrices) {
    let [batch, heads, m, n] = dims(&out.tensor);
    let tile = Tile::new(m, n, batch * heads);
    let (count, dim) = cubes(tile, m, n, batch * heads);
    let types = [elem(a.tensor.dtype), elem(out.tensor.dtype)];
    batched_product::launch(
        &out.tensor.client,
        count,
        dim,
        address(&[&a.tensor, &b.tensor, &out.tensor]),
        a.tensor.clone().into_tensor_arg(),
        b.tensor.clone().into_tensor_arg(),
        out.tensor.clone().into_tensor_arg(),
        a.start,
        b.start,
        out.start,
        tile,
        types,
    );
}
