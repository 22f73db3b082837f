//! Joining, cutting and resizing images with channels last.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{address, dims, elem, empty, grid, vector_size};

#[cube(launch, address_type = "dynamic")]
fn join<E: Numeric, N: Size>(
    a: &Tensor<Vector<E, N>>,
    b: &Tensor<Vector<E, N>>,
    out: &mut Tensor<Vector<E, N>>,
    of_a: usize,
    of_b: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % (of_a + of_b);
    let pixel = ABSOLUTE_POS / (of_a + of_b);
    if v < of_a {
        out[ABSOLUTE_POS] = a[pixel * of_a + v];
    } else {
        out[ABSOLUTE_POS] = b[pixel * of_b + v - of_a];
    }
}

#[cube(launch, address_type = "dynamic")]
fn cut<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    out: &mut Tensor<Vector<E, N>>,
    from: usize,
    of_x: usize,
    of_out: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % of_out;
    let pixel = ABSOLUTE_POS / of_out;
    out[ABSOLUTE_POS] = x[pixel * of_x + from + v];
}

#[cube(launch, address_type = "dynamic")]
fn enlarge<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    out: &mut Tensor<Vector<E, N>>,
    height: usize,
    width: usize,
    vectors: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let rest = ABSOLUTE_POS / vectors;
    let j = rest % (2 * width);
    let rest = rest / (2 * width);
    let i = rest % (2 * height);
    let image = rest / (2 * height);
    out[ABSOLUTE_POS] = x[((image * height + i / 2) * width + j / 2) * vectors + v];
}

/// The sum of each 2×2 square.
#[cube(launch, address_type = "dynamic")]
fn gather_squares<E: Numeric, N: Size>(
    dy: &Tensor<Vector<E, N>>,
    dx: &mut Tensor<Vector<E, N>>,
    height: usize,
    width: usize,
    vectors: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let rest = ABSOLUTE_POS / vectors;
    let j = rest % width;
    let rest = rest / width;
    let i = rest % height;
    let image = rest / height;
    let at = ((image * 2 * height + 2 * i) * 2 * width + 2 * j) * vectors + v;
    let below = at + 2 * width * vectors;
    let sum = Vector::<f32, N>::cast_from(dy[at])
        + Vector::<f32, N>::cast_from(dy[at + vectors])
        + Vector::<f32, N>::cast_from(dy[below])
        + Vector::<f32, N>::cast_from(dy[below + vectors]);
    dx[ABSOLUTE_POS] = Vector::cast_from(sum);
}

/// The channels of `a`, then those of `b`.
pub(super) fn concatenated(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let [batch, height, width, of_a] = dims(a);
    let [.., of_b] = dims(b);
    let size = vector_size(of_a).min(vector_size(of_b));
    let out = empty(a, [batch, height, width, of_a + of_b], a.dtype);
    let threads = batch * height * width * (of_a + of_b) / size;
    let (count, dim) = grid(&a.client, threads);
    join::launch(
        &a.client,
        count,
        dim,
        address(&[&out]),
        size,
        a.clone().into_tensor_arg(),
        b.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        of_a / size,
        of_b / size,
        threads,
        elem(a.dtype),
    );
    out
}

/// `count` channels from `from` on.
pub(super) fn channels(x: &CubeTensor, from: usize, count: usize) -> CubeTensor {
    let [batch, height, width, of_x] = dims(x);
    let size = [from, count, of_x]
        .map(vector_size)
        .into_iter()
        .min()
        .unwrap_or(1);
    let out = empty(x, [batch, height, width, count], x.dtype);
    let threads = batch * height * width * count / size;
    let (cubes, dim) = grid(&x.client, threads);
    cut::launch(
        &x.client,
        cubes,
        dim,
        address(&[x]),
        size,
        x.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        from / size,
        of_x / size,
        count / size,
        threads,
        elem(x.dtype),
    );
    out
}

#[cube(launch, address_type = "dynamic")]
fn pad<E: Numeric>(
    x: &Tensor<E>,
    out: &mut Tensor<E>,
    of_x: usize,
    of_out: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let c = ABSOLUTE_POS % of_out;
    let mut value = E::from_int(0);
    if c < of_x {
        value = x[(ABSOLUTE_POS / of_out) * of_x + c];
    }
    out[ABSOLUTE_POS] = value;
}

/// Dense `[batch, height, width, channels]` with channels of zeros after its own, `count` in all; itself if it has them.
pub(super) fn padded(x: &CubeTensor, count: usize) -> CubeTensor {
    let [batch, height, width, of_x] = dims(x);
    if of_x == count {
        return x.clone();
    }
    let out = empty(x, [batch, height, width, count], x.dtype);
    let threads = batch * height * width * count;
    let (cubes, dim) = grid(&x.client, threads);
    pad::launch(
        &x.client,
        cubes,
        dim,
        address(&[&out]),
        x.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        of_x,
        count,
        threads,
        elem(x.dtype),
    );
    out
}

/// Each pixel four times: twice the height and width.
pub(super) fn doubled(x: &CubeTensor) -> CubeTensor {
    let [batch, height, width, channels] = dims(x);
    let size = vector_size(channels);
    let out = empty(x, [batch, 2 * height, 2 * width, channels], x.dtype);
    let threads = 4 * batch * height * width * channels / size;
    let (count, dim) = grid(&x.client, threads);
    enlarge::launch(
        &x.client,
        count,
        dim,
        address(&[&out]),
        size,
        x.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        height,
        width,
        channels / size,
        threads,
        elem(x.dtype),
    );
    out
}

/// The gradient of [`doubled`]'s input.
pub(super) fn undoubled(dy: &CubeTensor) -> CubeTensor {
    let [batch, height, width, channels] = dims(dy);
    let (height, width) = (height / 2, width / 2);
    let size = vector_size(channels);
    let dx = empty(dy, [batch, height, width, channels], dy.dtype);
    let threads = batch * height * width * channels / size;
    let (count, dim) = grid(&dy.client, threads);
    gather_squares::launch(
        &dy.client,
        count,
        dim,
        address(&[dy]),
        size,
        dy.clone().into_tensor_arg(),
        dx.clone().into_tensor_arg(),
        height,
        width,
        channels / size,
        threads,
        elem(dy.dtype),
    );
    dx
}
