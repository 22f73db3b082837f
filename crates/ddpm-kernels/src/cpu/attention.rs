//! Attention over the pixels of each image, a block of queries at a time.
//!
//! Channels come first, `[head_dim, tokens]`, as in the images, so that nothing is permuted: the scores
//! are held transposed, `[keys, queries]`, with the queries in the lanes, and the softmax runs over the
//! keys without leaving its lane. Only one block of scores exists at a time; the backward pass computes
//! it again from the saved logarithm of each query's normaliser (Dao et al. 2022).

#![allow(unsafe_code, reason = "operands are addressed by tables of offsets")]

use rayon::prelude::*;

use super::element::{Element, narrow, widen};
use super::isa::{Isa, Kernel, dispatch};
use super::matrix;
use super::memory::{Scratch, Shared, filled};
use super::product::{Left, Right, Target, product};
use super::vector::{MOST_LANES, Vector, exp};

/// Lane blocks of queries that are worked on together.
pub(super) const BLOCKS: usize = 4;

/// The extents of one attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) heads: usize,
    /// Channels of a head.
    pub(super) dim: usize,
    pub(super) tokens: usize,
}

impl Shape {
    /// Of queries, keys or values of one head.
    fn head_len(&self) -> usize {
        self.dim * self.tokens
    }

    /// Where head `head` of image `image` begins in queries (0), keys (1) or values (2), which lie one
    /// after the other in `[batch, 3, heads, dim, tokens]`.
    pub(super) fn part(&self, image: usize, head: usize, part: usize) -> usize {
        ((image * 3 + part) * self.heads + head) * self.head_len()
    }

    pub(super) fn scale(&self) -> f32 {
        (1.0 / (self.dim as f64).sqrt()) as f32
    }
}

struct Forward<'a, E> {
    shape: Shape,
    qkv: &'a [E],
    image: usize,
    head: usize,
    /// Blocks of queries, each of `BLOCKS · L`.
    queries: std::ops::Range<usize>,
    y: Shared<E>,
    /// The logarithm of each query's normaliser, `[batch, heads, tokens]`.
    normaliser: Shared,
    /// 0, 1, 2, …
    count: &'a [usize],
}

impl<E: Element> Kernel for Forward<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Shape { dim, tokens, .. } = self.shape;
        let width = BLOCKS * V::LANES;
        let len = self.shape.head_len();
        let q = &self.qkv[self.shape.part(self.image, self.head, 0)..][..len];
        let k = &self.qkv[self.shape.part(self.image, self.head, 1)..][..len];
        let v = &self.qkv[self.shape.part(self.image, self.head, 2)..][..len];
        let mut scratch = Scratch::new((tokens + 2 * dim) * width + 2 * widened::<E>(len));
        let scores = scratch.pointer();
        let first_row = self.image * self.shape.heads + self.head;
        // SAFETY: the parts of the scratch memory lie one after the other; the queries' outputs and
        // normalisers are this thread's alone.
        unsafe {
            let block_q = scores.add(tokens * width);
            let block_y = block_q.add(dim * width);
            let wide = block_y.add(dim * width);
            let k = as_f32::<V, E>(k, wide);
            let v = as_f32::<V, E>(v, wide.add(widened::<E>(len)));
            for block in self.queries.clone() {
                let first = block * width;
                let present = (tokens - first).min(width);
                for d in 0..dim {
                    let to = block_q.add(d * width);
                    widen::<V, E>(q.as_ptr().add(d * tokens + first), to, present);
                    std::ptr::write_bytes(to.add(present), 0, width - present);
                }
                score::<V>(&self.shape, k, block_q, scores, self.count);
                let mut normaliser = [0.0f32; BLOCKS * MOST_LANES];
                softmax::<V>(scores, tokens, self.shape.scale(), &mut normaliser);
                // y[d] = Σ over keys of v[d, key] · weight[key]
                weigh::<V>(v, dim, tokens, scores, block_y);
                let y = self.y.pointer().add(first_row * self.shape.head_len());
                for d in 0..dim {
                    let from = block_y.add(d * width);
                    narrow::<V, E>(from, y.add(d * tokens + first), present);
                }
                let to = self.normaliser.pointer().add(first_row * tokens + first);
                for i in 0..present {
                    *to.add(i) = normaliser[i];
                }
            }
        }
    }
}

/// The f32 that values need to be as f32.
#[inline(always)]
fn widened<E: Element>(len: usize) -> usize {
    match E::as_f32(&[]) {
        Some(_) => 0,
        None => len,
    }
}

/// The values as f32: where they lie, or at `room`.
#[inline(always)]
unsafe fn as_f32<V: Vector, E: Element>(values: &[E], room: *mut f32) -> *const f32 {
    if let Some(values) = E::as_f32(values) {
        return values.as_ptr();
    }
    // SAFETY: the caller has room for them.
    unsafe { widen::<V, E>(values.as_ptr(), room, values.len()) };
    room
}

/// scores[key][query] = Σ over d of k[d, key] · q[d][query], for one block of queries.
#[inline(always)]
unsafe fn score<V: Vector>(
    shape: &Shape,
    k: *const f32,
    q: *const f32,
    scores: *mut f32,
    count: &[usize],
) {
    let left = Left {
        values: k,
        rows: &count[..shape.tokens],
        outer: &[0],
        inner: shape.dim,
        step: shape.tokens,
    };
    let right = Right {
        values: q,
        block: V::LANES,
        step: BLOCKS * V::LANES,
    };
    let out = Target {
        values: scores,
        block: V::LANES,
        row: BLOCKS * V::LANES,
        accumulate: false,
    };
    // SAFETY: keys `[dim, tokens]`, queries `[dim, width]`, scores `[tokens, width]`.
    unsafe { product::<V>(BLOCKS, left, right, out) };
}

/// out[d][query] = Σ over keys of x[d, key] · weights[key][query]
#[inline(always)]
unsafe fn weigh<V: Vector>(
    x: *const f32,
    dim: usize,
    tokens: usize,
    weights: *const f32,
    out: *mut f32,
) {
    // Rows of x, `tokens` apart: six at a time, so that their table fits on the stack.
    let mut d = 0;
    while d < dim {
        let rows = (dim - d).min(6);
        let offsets = [0, tokens, 2 * tokens, 3 * tokens, 4 * tokens, 5 * tokens];
        // SAFETY: rows d..d+rows of x and of the result.
        unsafe {
            let left = Left {
                values: x.add(d * tokens),
                rows: &offsets[..rows],
                outer: &[0],
                inner: tokens,
                step: 1,
            };
            let right = Right {
                values: weights,
                block: V::LANES,
                step: BLOCKS * V::LANES,
            };
            let out = Target {
                values: out.add(d * BLOCKS * V::LANES),
                block: V::LANES,
                row: BLOCKS * V::LANES,
                accumulate: false,
            };
            product::<V>(BLOCKS, left, right, out);
        }
        d += rows;
    }
}

/// Softmax of scale·scores over the keys, in place; the logarithm of each query's normaliser.
#[inline(always)]
pub(super) unsafe fn softmax<V: Vector>(
    scores: *mut f32,
    tokens: usize,
    scale: f32,
    normaliser: &mut [f32; BLOCKS * MOST_LANES],
) {
    for b in 0..BLOCKS {
        // SAFETY: scores are `[tokens, BLOCKS, V::LANES]`.
        unsafe {
            let column = scores.add(b * V::LANES);
            let mut most = V::splat(f32::NEG_INFINITY);
            for key in 0..tokens {
                most = most.max(V::load(column.add(key * BLOCKS * V::LANES)));
            }
            let scale = V::splat(scale);
            let mut sum = V::splat(0.0);
            for key in 0..tokens {
                let at = column.add(key * BLOCKS * V::LANES);
                let value = exp(V::load(at).sub(most).mul(scale));
                sum = sum.add(value);
                value.store(at);
            }
            let inverse = V::splat(1.0).div(sum);
            for key in 0..tokens {
                let at = column.add(key * BLOCKS * V::LANES);
                V::load(at).mul(inverse).store(at);
            }
            let normaliser = &mut normaliser[b * V::LANES..];
            let mut sums = [0.0f32; MOST_LANES];
            sum.store(sums.as_mut_ptr());
            most.mul(scale).store(normaliser.as_mut_ptr());
            for l in 0..V::LANES {
                normaliser[l] += sums[l].ln();
            }
        }
    }
}

/// Softmax(q·kᵀ/√dim)·v of every head, `[batch, heads, dim, tokens]`, and the logarithms of the
/// normalisers, `[batch, heads, tokens]`.
pub(super) fn forward<E: Element>(isa: Isa, shape: Shape, qkv: &[E]) -> (Vec<E>, Vec<f32>) {
    if let Some(unit) = E::unit() {
        return matrix::attention::forward(isa, unit, shape, qkv);
    }
    let count: Vec<usize> = (0..shape.tokens).collect();
    let width = BLOCKS * isa.lanes();
    let blocks = shape.tokens.div_ceil(width);
    let heads = shape.batch * shape.heads;
    // With fewer heads than threads, threads share a head's queries.
    let sharing = rayon::current_num_threads()
        .div_ceil(heads.max(1))
        .min(blocks.max(1));
    let each = blocks.div_ceil(sharing);
    let mut normaliser = Vec::new();
    // SAFETY: the tasks are all queries of all heads, and write all of both results.
    let y = unsafe {
        filled(heads * shape.head_len(), |y| {
            normaliser = filled(heads * shape.tokens, |normaliser| {
                (0..heads * sharing).into_par_iter().for_each(|task| {
                    let (at, share) = (task / sharing, task % sharing);
                    let forward = Forward {
                        shape,
                        qkv,
                        image: at / shape.heads,
                        head: at % shape.heads,
                        queries: (share * each).min(blocks)..((share + 1) * each).min(blocks),
                        y,
                        normaliser,
                        count: &count,
                    };
                    dispatch(isa, forward);
                });
            });
        })
    };
    (y, normaliser)
}

struct Backward<'a, E> {
    shape: Shape,
    qkv: &'a [E],
    y: &'a [E],
    normaliser: &'a [f32],
    dy: &'a [E],
    image: usize,
    head: usize,
    dqkv: Shared<E>,
    count: &'a [usize],
}

impl<E: Element> Kernel for Backward<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let shape = self.shape;
        let Shape { dim, tokens, .. } = shape;
        let width = BLOCKS * V::LANES;
        let padded = dim.next_multiple_of(V::LANES);
        let len = shape.head_len();
        let q = &self.qkv[shape.part(self.image, self.head, 0)..][..len];
        let k = &self.qkv[shape.part(self.image, self.head, 1)..][..len];
        let v = &self.qkv[shape.part(self.image, self.head, 2)..][..len];
        let row = self.image * shape.heads + self.head;
        let head = row * shape.head_len()..(row + 1) * shape.head_len();
        let (y, dy) = (&self.y[head.clone()], &self.dy[head]);
        let normaliser = &self.normaliser[row * tokens..][..tokens];
        // weights and their gradients [tokens, width]; q, dy, dq [dim, width]; q and dy turned
        // [width, padded]; dk and dv turned [tokens, padded]
        let mut scratch = Scratch::new(
            2 * tokens * width
                + 3 * dim * width
                + 2 * width * padded
                + 2 * tokens * padded
                + 2 * widened::<E>(len)
                + tokens,
        );
        // SAFETY: the parts of the scratch memory lie one after the other; the gradients of this head
        // are this thread's alone.
        unsafe {
            let weights = scratch.pointer();
            let d_weights = weights.add(tokens * width);
            let block_q = d_weights.add(tokens * width);
            let block_dy = block_q.add(dim * width);
            let block_dq = block_dy.add(dim * width);
            let turned_q = block_dq.add(dim * width);
            let turned_dy = turned_q.add(width * padded);
            let dk = turned_dy.add(width * padded);
            let dv = dk.add(tokens * padded);
            let wide = dv.add(tokens * padded);
            let k = as_f32::<V, E>(k, wide);
            let v = as_f32::<V, E>(v, wide.add(widened::<E>(len)));
            let row_of_keys = wide.add(2 * widened::<E>(len));
            let dq_out = self
                .dqkv
                .pointer()
                .add(shape.part(self.image, self.head, 0));
            for first in (0..tokens).step_by(width) {
                let present = (tokens - first).min(width);
                for (from, to) in [(q, block_q), (dy, block_dy)] {
                    for d in 0..dim {
                        let to = to.add(d * width);
                        let from = from.as_ptr().add(d * tokens + first);
                        widen::<V, E>(from, to, present);
                        std::ptr::write_bytes(to.add(present), 0, width - present);
                    }
                }
                turn::<V>(block_q, dim, width, turned_q, padded);
                turn::<V>(block_dy, dim, width, turned_dy, padded);
                score::<V>(&shape, k, block_q, weights, self.count);
                score::<V>(&shape, v, block_dy, d_weights, self.count);
                let of = HeadGradient {
                    shape,
                    y,
                    dy,
                    normaliser,
                };
                of.softmax::<V>(first, weights, d_weights);
                weigh::<V>(k, dim, tokens, d_weights, block_dq);
                for d in 0..dim {
                    let from = block_dq.add(d * width);
                    narrow::<V, E>(from, dq_out.add(d * tokens + first), present);
                }
                let accumulate = first > 0;
                for (weights, turned, to) in [(d_weights, turned_q, dk), (weights, turned_dy, dv)] {
                    collect::<V>(weights, turned, padded, tokens, to, accumulate);
                }
            }
            for (part, from) in [(1, dk), (2, dv)] {
                let to = self
                    .dqkv
                    .pointer()
                    .add(shape.part(self.image, self.head, part));
                for d in 0..dim {
                    for key in 0..tokens {
                        *row_of_keys.add(key) = *from.add(key * padded + d);
                    }
                    narrow::<V, E>(row_of_keys, to.add(d * tokens), tokens);
                }
            }
        }
    }
}

/// What the gradient of a head's softmax is made of: the head's result, its gradient, and the logarithms of the queries'
/// normalisers.
pub(super) struct HeadGradient<'a, E> {
    pub(super) shape: Shape,
    pub(super) y: &'a [E],
    pub(super) dy: &'a [E],
    pub(super) normaliser: &'a [f32],
}

impl<E: Element> HeadGradient<'_, E> {
    /// Scores and the gradients of weights, `[keys, BLOCKS, V::LANES]`, to weights and the gradients of scores, for the
    /// block of queries from `first` on.
    ///
    /// # Safety
    /// Both have a row for each token.
    #[inline(always)]
    pub(super) unsafe fn softmax<V: Vector>(
        &self,
        first: usize,
        weights: *mut f32,
        d_weights: *mut f32,
    ) {
        let Shape { dim, tokens, .. } = self.shape;
        let scale = V::splat(self.shape.scale());
        let present = (tokens - first).min(BLOCKS * V::LANES);
        for b in 0..BLOCKS {
            // log of the normaliser, and Σ over d of y·dy, of each query
            let mut log = [f32::INFINITY; MOST_LANES];
            let mut inner = [0.0f32; MOST_LANES];
            for l in 0..V::LANES.min(present.saturating_sub(b * V::LANES)) {
                let query = first + b * V::LANES + l;
                log[l] = self.normaliser[query];
                for d in 0..dim {
                    let at = d * tokens + query;
                    inner[l] += self.y[at].to_f32() * self.dy[at].to_f32();
                }
            }
            // SAFETY: no vector has more lanes, and the caller's rows.
            unsafe {
                let (log, inner) = (V::load(log.as_ptr()), V::load(inner.as_ptr()));
                for key in 0..tokens {
                    let at = (key * BLOCKS + b) * V::LANES;
                    let (weight, d_weight) = (weights.add(at), d_weights.add(at));
                    let p = exp(V::load(weight).mul(scale).sub(log));
                    p.store(weight);
                    let dp = V::load(d_weight).sub(inner);
                    p.mul(dp).mul(scale).store(d_weight);
                }
            }
        }
    }
}

/// out[key][d] (+)= Σ over the block's queries of weights[key][query] · x[query][d]
#[inline(always)]
unsafe fn collect<V: Vector>(
    weights: *const f32,
    x: *const f32,
    padded: usize,
    tokens: usize,
    out: *mut f32,
    accumulate: bool,
) {
    let width = BLOCKS * V::LANES;
    let mut key = 0;
    while key < tokens {
        let rows = (tokens - key).min(6);
        let offsets = [0, width, 2 * width, 3 * width, 4 * width, 5 * width];
        // SAFETY: rows key..key+rows of the weights and of the result.
        unsafe {
            let left = Left {
                values: weights.add(key * width),
                rows: &offsets[..rows],
                outer: &[0],
                inner: width,
                step: 1,
            };
            let right = Right {
                values: x,
                block: V::LANES,
                step: padded,
            };
            let out = Target {
                values: out.add(key * padded),
                block: V::LANES,
                row: padded,
                accumulate,
            };
            product::<V>(padded / V::LANES, left, right, out);
        }
        key += rows;
    }
}

/// `[dim, width]` to `[width, padded]`, zeros where there is no channel.
#[inline(always)]
unsafe fn turn<V: Vector>(from: *const f32, dim: usize, width: usize, to: *mut f32, padded: usize) {
    // SAFETY: the caller has room for both.
    unsafe {
        for d in (0..padded).step_by(V::LANES) {
            for i in (0..width).step_by(V::LANES) {
                let mut square = V::square();
                for l in 0..V::LANES.min(dim.saturating_sub(d)) {
                    square.as_mut()[l] = V::load(from.add((d + l) * width + i));
                }
                V::transpose(&mut square);
                for l in 0..V::LANES {
                    square.as_ref()[l].store(to.add((i + l) * padded + d));
                }
            }
        }
    }
}

/// The gradient of queries, keys and values, laid out as they are, from that of the result.
pub(super) fn backward<E: Element>(
    isa: Isa,
    shape: Shape,
    qkv: &[E],
    (y, normaliser): (&[E], &[f32]),
    dy: &[E],
) -> Vec<E> {
    if let Some(unit) = E::unit() {
        return matrix::attention::backward(isa, unit, shape, qkv, (y, normaliser), dy);
    }
    let count: Vec<usize> = (0..shape.tokens).collect();
    // SAFETY: every head writes the gradients of its queries, keys and values.
    unsafe {
        filled(qkv.len(), |dqkv| {
            (0..shape.batch * shape.heads)
                .into_par_iter()
                .for_each(|at| {
                    let backward = Backward {
                        shape,
                        qkv,
                        y,
                        normaliser,
                        dy,
                        image: at / shape.heads,
                        head: at % shape.heads,
                        dqkv,
                        count: &count,
                    };
                    dispatch(isa, backward);
                });
        })
    }
}
