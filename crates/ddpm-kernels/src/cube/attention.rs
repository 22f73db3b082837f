//! Attention with all pixels of an image as tokens, and its gradient, with channels last.
//!
//! Scores are made in f32, and made again in the backward pass from queries and keys instead of being kept. There are
//! those of as many images at a time as a fixed piece of memory holds, so that they do not grow with the batch.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::zspace::metadata::Metadata;
use cubek::convolution::AcceleratedTileKind;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::std::InputBinding;

use super::algorithm::{Algorithm, PRODUCTS, Work, fastest, has_matrix_units};
use super::gemm::{self, Matrices};
use super::hopper;
use super::relayout;
use super::tensor::{address, dense, dims, elem, empty, is_dense, reshaped};

/// The most bytes that scores may take, unless those of one image take more.
const SCORES_BYTES: usize = 1 << 28;

/// Threads that share a row of scores.
const ROW_THREADS: usize = 64;
/// How often their number can be halved.
const ROW_STEPS: usize = ROW_THREADS.ilog2() as usize;

/// Adds up, or takes the largest of, one value of each thread of a cube.
#[cube]
fn over_threads(shared: &mut Shared<[f32]>, value: f32, #[comptime] largest: bool) -> f32 {
    let thread = UNIT_POS as usize;
    // Nobody still reads what was there before.
    sync_cube();
    shared[thread] = value;
    sync_cube();
    #[unroll]
    for step in 0..ROW_STEPS {
        let width = comptime!(ROW_THREADS >> (step + 1));
        if thread < width {
            let (mine, other) = (shared[thread], shared[thread + width]);
            if comptime!(largest) {
                shared[thread] = select(other > mine, other, mine);
            } else {
                shared[thread] = mine + other;
            }
        }
        sync_cube();
    }
    shared[0]
}

/// The most scores of a row that a thread keeps.
const KEPT: usize = 16;

/// Softmax of each row of `threads` · `kept` scores, which are read once; a cube a row.
#[cube(launch, address_type = "dynamic")]
fn softmax_kept<E: Numeric>(
    scores: &Tensor<f32>,
    weights: &mut Tensor<E>,
    rows: usize,
    scale: f32,
    #[comptime] kept: usize,
    #[define(E)] _type: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(ROW_THREADS);
    let row = CUBE_POS;
    // The same for all threads of a cube.
    if row >= rows {
        terminate!();
    }
    let base = row * comptime!(kept * ROW_THREADS) + UNIT_POS as usize;
    let mut mine = Array::<f32>::new(kept);
    let mut most = f32::cast_from(-3.0e38f32);
    #[unroll]
    for i in 0..kept {
        mine[i] = scores[base + i * ROW_THREADS];
        most = select(mine[i] > most, mine[i], most);
    }
    let most = over_threads(&mut shared, most, true);
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..kept {
        mine[i] = ((mine[i] - most) * scale).exp();
        sum += mine[i];
    }
    let sum = over_threads(&mut shared, sum, false);
    #[unroll]
    for i in 0..kept {
        weights[base + i * ROW_THREADS] = E::cast_from(mine[i] / sum);
    }
}

/// Softmax of each row; a cube a row.
#[cube(launch, address_type = "dynamic")]
fn softmax_rows<E: Numeric>(
    scores: &Tensor<f32>,
    weights: &mut Tensor<E>,
    tokens: usize,
    rows: usize,
    scale: f32,
    #[define(E)] _type: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(ROW_THREADS);
    let row = CUBE_POS;
    // The same for all threads of a cube.
    if row >= rows {
        terminate!();
    }
    let base = row * tokens;
    let mut most = f32::cast_from(-3.0e38f32);
    let mut i = UNIT_POS as usize;
    while i < tokens {
        let score = scores[base + i];
        most = select(score > most, score, most);
        i += ROW_THREADS;
    }
    let most = over_threads(&mut shared, most, true);
    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < tokens {
        sum += ((scores[base + i] - most) * scale).exp();
        i += ROW_THREADS;
    }
    let sum = over_threads(&mut shared, sum, false);
    let mut i = UNIT_POS as usize;
    while i < tokens {
        weights[base + i] = E::cast_from(((scores[base + i] - most) * scale).exp() / sum);
        i += ROW_THREADS;
    }
}

/// weights ∘ (dweights - Σ weights·dweights) · scale for each row: the gradient of the unscaled scores.
#[cube(launch, address_type = "dynamic")]
fn softmax_gradient<E: Numeric>(
    weights: &Tensor<E>,
    dweights: &Tensor<f32>,
    dscores: &mut Tensor<E>,
    tokens: usize,
    rows: usize,
    scale: f32,
    #[define(E)] _type: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(ROW_THREADS);
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let base = row * tokens;
    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < tokens {
        sum += f32::cast_from(weights[base + i]) * dweights[base + i];
        i += ROW_THREADS;
    }
    let sum = over_threads(&mut shared, sum, false);
    let mut i = UNIT_POS as usize;
    while i < tokens {
        let d = f32::cast_from(weights[base + i]) * (dweights[base + i] - sum) * scale;
        dscores[base + i] = E::cast_from(d);
        i += ROW_THREADS;
    }
}

/// The sizes of an attention over some images of a batch.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// The first of the images, and how many there are.
    first: usize,
    batch: usize,
    heads: usize,
    tokens: usize,
    dim: usize,
}

impl Sizes {
    fn new(qkv: &CubeTensor, heads: usize) -> Self {
        let [batch, height, width, channels] = dims(qkv);
        assert!(
            heads > 0 && channels.is_multiple_of(3 * heads),
            "queries, keys and values of every head"
        );
        Self {
            first: 0,
            batch,
            heads,
            tokens: height * width,
            dim: channels / 3 / heads,
        }
    }

    /// Images whose scores fit into the memory for them, at least one.
    fn at_once(&self) -> usize {
        let image = self.heads * self.tokens * self.tokens * size_of::<f32>();
        (SCORES_BYTES / image).max(1)
    }

    /// The same for `count` images after the other.
    fn split(self, count: usize) -> impl Iterator<Item = Self> {
        (0..self.batch).step_by(count).map(move |first| Self {
            first,
            batch: count.min(self.batch - first),
            ..self
        })
    }

    fn scale(&self) -> f32 {
        (self.dim as f32).sqrt().recip()
    }

    /// `[batch, heads, tokens, dim]` (or with the last two exchanged) in the memory of `x`, whose tokens have
    /// `parts` times the channels of one of queries, keys and values, at part `part`.
    fn view(&self, x: &CubeTensor, part: usize, parts: usize, transposed: bool) -> Matrices {
        let inner = self.heads * self.dim;
        let row = parts * inner;
        let (mut shape, mut strides) = (
            [self.batch, self.heads, self.tokens, self.dim],
            [self.tokens * row, self.dim, row, 1],
        );
        if transposed {
            shape.swap(2, 3);
            strides.swap(2, 3);
        }
        let mut tensor = x.clone();
        tensor.meta = Box::new(Metadata::new(shape, strides));
        Matrices {
            tensor,
            start: self.first * self.tokens * row + part * inner,
        }
    }

    /// A square matrix of each head, or its transpose.
    fn square(&self, x: &CubeTensor, transposed: bool) -> Matrices {
        let mut tensor = x.clone();
        let square = self.tokens * self.tokens;
        let (row, column) = if transposed {
            (1, self.tokens)
        } else {
            (self.tokens, 1)
        };
        tensor.meta = Box::new(Metadata::new(
            [self.batch, self.heads, self.tokens, self.tokens],
            [self.heads * square, square, row, column],
        ));
        Matrices { tensor, start: 0 }
    }

    fn empty_square(&self, like: &CubeTensor, dtype: DType) -> CubeTensor {
        empty(
            like,
            [self.batch, self.heads, self.tokens, self.tokens],
            dtype,
        )
    }
}

impl Matrices {
    fn of(tensor: CubeTensor) -> Self {
        Self { tensor, start: 0 }
    }

    /// As lines of values that lie in order: rows, or columns.
    fn lines(&self) -> hopper::Matrices<'_> {
        let strides = self.tensor.meta.strides();
        let transposed = strides[3] != 1;
        hopper::Matrices {
            tensor: &self.tensor,
            place: hopper::Place {
                pitch: strides[if transposed { 3 } else { 2 }],
                start: self.start,
                image: strides[0],
                head: strides[1],
            },
            transposed,
        }
    }

    /// As a tensor of its own, with its values in order; the memory itself if it is one already.
    fn dense(&self) -> CubeTensor {
        if self.start == 0 && is_dense(&self.tensor) {
            return dense(self.tensor.clone());
        }
        let (x, shape) = (&self.tensor, self.tensor.meta.shape().to_vec());
        let dense = empty(x, shape, x.dtype);
        relayout::copy_to(x.clone(), self.start, &dense, 0);
        dense
    }
}

/// a·b for each pair of matrices, dense `[batch, heads, m, n]`.
fn product(a: &Matrices, b: &Matrices, dtype: DType) -> CubeTensor {
    let [batch, heads, m, depth] = dims(&a.tensor);
    let n = dims(&b.tensor)[3];
    let out = || empty(&a.tensor, [batch, heads, m, n], dtype);
    let work = || Work {
        kind: format!(
            "product, {} by {}, to {dtype:?}",
            order(&a.tensor),
            order(&b.tensor)
        ),
        sizes: format!("{batch} times {heads}, {m}x{depth}x{n}"),
        candidates: PRODUCTS,
    };
    fastest(&a.tensor, work, &|algorithm, _| {
        let out = Matrices::of(out());
        match algorithm {
            Algorithm::Product(tile) => on_matrix_units(tile, a, b, &out.tensor)?,
            Algorithm::Hopper => {
                if !on_hopper(a, b, &out) {
                    return None;
                }
            }
            _ => gemm::batched(a, b, &out),
        }
        Some(out.tensor)
    })
}

/// Does the product by Hopper's kernel; false if that cannot do it.
fn on_hopper(a: &Matrices, b: &Matrices, out: &Matrices) -> bool {
    let [images, heads, m, n] = dims(&out.tensor);
    let depth = dims(&a.tensor)[3];
    let [a, b, out] = [a, b, out].map(Matrices::lines);
    let can = hopper::multiplies(a.tensor, images * heads, [m, depth, n])
        && [a, b, out]
            .into_iter()
            .all(|matrices| matrices.place.fits())
        && !(a.transposed && b.transposed)
        && !out.transposed;
    if can {
        hopper::products(a, b, out, [images, heads], [m, depth, n]);
    }
    can
}

/// Which way the matrices lie.
fn order(x: &CubeTensor) -> &'static str {
    match x.meta.strides()[3] {
        1 => "rows",
        _ => "columns",
    }
}

/// One of cubek's kernels, which want memory that begins with the matrix; `None` if it cannot do this work here.
fn on_matrix_units(
    tile: AcceleratedTileKind,
    a: &Matrices,
    b: &Matrices,
    out: &CubeTensor,
) -> Option<()> {
    use cubek::matmul::multi_level::Strategy;
    let strategy = match tile {
        AcceleratedTileKind::Cmma => Strategy::SimpleCyclicCmma(Default::default()),
        AcceleratedTileKind::Mma => Strategy::SimpleCyclicMma(Default::default()),
    };
    let (a, b) = (a.dense(), b.dense());
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: elem(a.dtype),
        rhs: elem(b.dtype),
        out: elem(out.dtype),
    });
    cubek::matmul::launch::launch_ref(
        &strategy.into(),
        &out.client,
        InputBinding::new(a.clone().binding(), elem(a.dtype)),
        InputBinding::new(b.clone().binding(), elem(b.dtype)),
        out.clone().binding(),
        &mut types,
    )
    .ok()
}

/// a·b for each pair of matrices, written through the view `out`.
fn product_into(a: &Matrices, b: &Matrices, out: &Matrices) {
    if on_hopper(a, b, out) {
        return;
    }
    if has_matrix_units(&out.tensor.client, a.tensor.dtype) {
        let result = product(a, b, out.tensor.dtype);
        relayout::write_through(&result, &out.tensor, out.start);
    } else {
        gemm::batched(a, b, out);
    }
}

fn softmax(scores: &CubeTensor, sizes: &Sizes, dtype: DType) -> CubeTensor {
    let weights = sizes.empty_square(scores, dtype);
    let rows = sizes.batch * sizes.heads * sizes.tokens;
    let client = scores.client.clone();
    let kept = sizes.tokens / ROW_THREADS;
    if sizes.tokens.is_multiple_of(ROW_THREADS) && kept <= KEPT {
        softmax_kept::launch(
            &client,
            rows_of_cubes(scores, rows),
            CubeDim::new_1d(ROW_THREADS as u32),
            address(&[scores]),
            scores.clone().into_tensor_arg(),
            weights.clone().into_tensor_arg(),
            rows,
            sizes.scale(),
            kept,
            elem(dtype),
        );
        return weights;
    }
    softmax_rows::launch(
        &client,
        rows_of_cubes(scores, rows),
        CubeDim::new_1d(ROW_THREADS as u32),
        address(&[scores]),
        scores.clone().into_tensor_arg(),
        weights.clone().into_tensor_arg(),
        sizes.tokens,
        rows,
        sizes.scale(),
        elem(dtype),
    );
    weights
}

/// A cube for each of `rows` rows.
fn rows_of_cubes(like: &CubeTensor, rows: usize) -> CubeCount {
    let dim = CubeDim::new_1d(ROW_THREADS as u32);
    cubecl::calculate_cube_count_elemwise(&like.client, rows * ROW_THREADS, dim)
}

/// softmax(q·kᵀ/√dim), in the type of `qkv`.
fn weights(qkv: &CubeTensor, sizes: &Sizes) -> CubeTensor {
    let (q, k) = (sizes.view(qkv, 0, 3, false), sizes.view(qkv, 1, 3, true));
    let scores = product(&q, &k, DType::F32);
    softmax(&scores, sizes, qkv.dtype)
}

/// Dense `[batch, height, width, 3·heads·dim]` to dense `[batch, height, width, heads·dim]`.
pub(super) fn forward(qkv: &CubeTensor, heads: usize) -> CubeTensor {
    forward_of(qkv, heads, Sizes::new(qkv, heads).at_once())
}

/// The same with the scores of `at_once` images at a time.
pub(super) fn forward_of(qkv: &CubeTensor, heads: usize, at_once: usize) -> CubeTensor {
    let sizes = Sizes::new(qkv, heads);
    let [batch, height, width, channels] = dims(qkv);
    let shape = [batch, height, width, channels / 3];
    if heads == 1 && batch <= at_once {
        let weights = sizes.square(&weights(qkv, &sizes), false);
        let values = sizes.view(qkv, 2, 3, false);
        return reshaped(product(&weights, &values, qkv.dtype), shape);
    }
    let y = empty(qkv, shape, qkv.dtype);
    for sizes in sizes.split(at_once) {
        let weights = sizes.square(&weights(qkv, &sizes), false);
        let values = sizes.view(qkv, 2, 3, false);
        product_into(&weights, &values, &sizes.view(&y, 0, 1, false));
    }
    y
}

/// The gradient of `qkv`, dense as it.
pub(super) fn backward(qkv: &CubeTensor, dy: &CubeTensor, heads: usize) -> CubeTensor {
    backward_of(qkv, dy, heads, Sizes::new(qkv, heads).at_once())
}

/// The same with the scores of `at_once` images at a time.
pub(super) fn backward_of(
    qkv: &CubeTensor,
    dy: &CubeTensor,
    heads: usize,
    at_once: usize,
) -> CubeTensor {
    let dqkv = empty(qkv, dims(qkv), qkv.dtype);
    for sizes in Sizes::new(qkv, heads).split(at_once) {
        backward_into(qkv, dy, &dqkv, &sizes);
    }
    dqkv
}

/// The gradient of some images.
fn backward_into(qkv: &CubeTensor, dy: &CubeTensor, dqkv: &CubeTensor, sizes: &Sizes) {
    let weights = weights(qkv, sizes);
    // dv = weightsᵀ·dy
    let out = sizes.view(dy, 0, 1, false);
    product_into(
        &sizes.square(&weights, true),
        &out,
        &sizes.view(dqkv, 2, 3, false),
    );
    // dweights = dy·vᵀ
    let dweights = product(&out, &sizes.view(qkv, 2, 3, true), DType::F32);
    let dscores = softmax_backward(weights, dweights, sizes, qkv.dtype);
    // dq = dscores·k, dk = dscoresᵀ·q
    for (part, other, transposed) in [(0, 1, false), (1, 0, true)] {
        product_into(
            &sizes.square(&dscores, transposed),
            &sizes.view(qkv, other, 3, false),
            &sizes.view(dqkv, part, 3, false),
        );
    }
}

/// The gradient of the unscaled scores, of type `dtype`.
fn softmax_backward(
    weights: CubeTensor,
    dweights: CubeTensor,
    sizes: &Sizes,
    dtype: DType,
) -> CubeTensor {
    let dscores = sizes.empty_square(&weights, dtype);
    let rows = sizes.batch * sizes.heads * sizes.tokens;
    let client = weights.client.clone();
    softmax_gradient::launch(
        &client,
        rows_of_cubes(&weights, rows),
        CubeDim::new_1d(ROW_THREADS as u32),
        address(&[&dweights]),
        weights.into_tensor_arg(),
        dweights.into_tensor_arg(),
        dscores.clone().into_tensor_arg(),
        sizes.tokens,
        rows,
        sizes.scale(),
        elem(dtype),
    );
    dscores
}
