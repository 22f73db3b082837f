//! Attention with all pixels of an image as tokens, and its gradient, with channels last.
//!
//! Scores are made in f32, and made again in the backward pass from queries and keys instead of being kept.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::zspace::metadata::Metadata;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::std::InputBinding;

use super::algorithm::has_matrix_units;
use super::gemm::{self, Matrices};
use super::relayout;
use super::tensor::{address, dims, elem, empty};

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

/// Softmax of each row; a cube a row.
#[cube(launch, address_type = "dynamic")]
fn softmax_rows<E: Numeric>(
    scores: &Tensor<f32>,
    weights: &mut Tensor<E>,
    tokens: usize,
    rows: usize,
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
        sum += (scores[base + i] - most).exp();
        i += ROW_THREADS;
    }
    let sum = over_threads(&mut shared, sum, false);
    let mut i = UNIT_POS as usize;
    while i < tokens {
        weights[base + i] = E::cast_from((scores[base + i] - most).exp() / sum);
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

/// The sizes of an attention.
#[derive(Debug, Clone, Copy)]
struct Sizes {
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
            batch,
            heads,
            tokens: height * width,
            dim: channels / 3 / heads,
        }
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
            start: part * inner,
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

/// scale·a·b for each pair of matrices, written through the view `out` from its value `start` on.
fn product(a: Matrices, b: Matrices, out: Matrices, scale: f32) {
    if !has_matrix_units(&out.tensor.client, a.tensor.dtype) {
        return gemm::batched(a, b, out, scale);
    }
    // cubek's kernels want memory that begins with the matrix, and scale nothing.
    let [a_dense, b_dense] = [&a, &b].map(|factor| {
        let dense = empty(
            &factor.tensor,
            factor.tensor.meta.shape().to_vec(),
            factor.tensor.dtype,
        );
        relayout::copy_to(factor.tensor.clone(), factor.start, &dense, 0);
        dense
    });
    let result = empty(
        &out.tensor,
        out.tensor.meta.shape().to_vec(),
        out.tensor.dtype,
    );
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: elem(a_dense.dtype),
        rhs: elem(b_dense.dtype),
        out: elem(result.dtype),
    });
    let launched = cubek::matmul::launch::launch_ref(
        &cubek::matmul::multi_level::Strategy::SimpleCyclicCmma(Default::default()).into(),
        &result.client,
        InputBinding::new(a_dense.clone().binding(), elem(a_dense.dtype)),
        InputBinding::new(b_dense.clone().binding(), elem(b_dense.dtype)),
        result.clone().binding(),
        &mut types,
    );
    match launched {
        Ok(()) => relayout::write_through(&result, &out.tensor, out.start, scale),
        Err(_) => gemm::batched(a, b, out, scale),
    }
}

fn softmax(scores: &CubeTensor, sizes: &Sizes, dtype: DType) -> CubeTensor {
    let weights = sizes.empty_square(scores, dtype);
    let rows = sizes.batch * sizes.heads * sizes.tokens;
    let client = scores.client.clone();
    softmax_rows::launch(
        &client,
        rows_of_cubes(scores, rows),
        CubeDim::new_1d(ROW_THREADS as u32),
        address(&[scores]),
        scores.clone().into_tensor_arg(),
        weights.clone().into_tensor_arg(),
        sizes.tokens,
        rows,
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
    let scores = sizes.empty_square(qkv, DType::F32);
    product(
        sizes.view(qkv, 0, 3, false),
        sizes.view(qkv, 1, 3, true),
        sizes.square(&scores, false),
        sizes.scale(),
    );
    softmax(&scores, sizes, qkv.dtype)
}

/// Dense `[batch, height, width, 3·heads·dim]` to dense `[batch, height, width, heads·dim]`.
pub(super) fn forward(qkv: &CubeTensor, heads: usize) -> CubeTensor {
    let sizes = Sizes::new(qkv, heads);
    let [batch, height, width, channels] = dims(qkv);
    let y = empty(qkv, [batch, height, width, channels / 3], qkv.dtype);
    product(
        sizes.square(&weights(qkv, &sizes), false),
        sizes.view(qkv, 2, 3, false),
        sizes.view(&y, 0, 1, false),
        1.0,
    );
    y
}

/// The gradient of `qkv`, dense as it.
pub(super) fn backward(qkv: &CubeTensor, dy: &CubeTensor, heads: usize) -> CubeTensor {
    let sizes = Sizes::new(qkv, heads);
    let dqkv = empty(qkv, dims(qkv), qkv.dtype);
    let weights = weights(qkv, &sizes);
    // dv = weightsᵀ·dy
    product(
        sizes.square(&weights, true),
        sizes.view(dy, 0, 1, false),
        sizes.view(&dqkv, 2, 3, false),
        1.0,
    );
    // dweights = dy·vᵀ
    let dweights = sizes.empty_square(qkv, DType::F32);
    product(
        sizes.view(dy, 0, 1, false),
        sizes.view(qkv, 2, 3, true),
        sizes.square(&dweights, false),
        1.0,
    );
    let dscores = sizes.empty_square(qkv, qkv.dtype);
    let rows = sizes.batch * sizes.heads * sizes.tokens;
    let client = qkv.client.clone();
    softmax_gradient::launch(
        &client,
        rows_of_cubes(qkv, rows),
        CubeDim::new_1d(ROW_THREADS as u32),
        address(&[&dweights]),
        weights.into_tensor_arg(),
        dweights.into_tensor_arg(),
        dscores.clone().into_tensor_arg(),
        sizes.tokens,
        rows,
        sizes.scale(),
        elem(qkv.dtype),
    );
    // dq = dscores·k, dk = dscoresᵀ·q
    for (part, other, transposed) in [(0, 1, false), (1, 0, true)] {
        product(
            sizes.square(&dscores, transposed),
            sizes.view(qkv, other, 3, false),
            sizes.view(&dqkv, part, 3, false),
            1.0,
        );
    }
    dqkv
}
