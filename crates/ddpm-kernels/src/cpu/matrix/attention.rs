//! Attention of bf16 as products of tiles, a block of queries at a time; see [`super::super::attention`].
//!
//! Scores are `[keys, queries]` in f32, as sums of tiles are; weights are rounded to bf16 in the form that the next
//! product reads them.

#![allow(unsafe_code, reason = "operands are parts of scratch memory")]

use rayon::prelude::*;

use super::super::attention::{BLOCKS, HeadGradient, Shape, softmax};
use super::super::element::{Element, narrow};
use super::super::isa::{Isa, Kernel, dispatch};
use super::super::memory::{Scratch, Shared, filled};
use super::super::tile::{DEPTH, Products, SIDE, Unit};
use super::super::vector::{MOST_LANES, Vector};

/// Numbers after a row, against rows of a tile meeting in one set of the cache.
const APART: usize = 32;

/// The extents of one head in tiles.
#[derive(Clone, Copy)]
struct Extents {
    shape: Shape,
    /// Channels and tokens, in whole depths of a product.
    dim: usize,
    tokens: usize,
    /// Queries of a block.
    width: usize,
}

impl Extents {
    fn new(shape: Shape, lanes: usize) -> Self {
        let width = BLOCKS * lanes;
        Self {
            shape,
            dim: shape.dim.next_multiple_of(DEPTH),
            tokens: shape.tokens.next_multiple_of(DEPTH.max(width)),
            width,
        }
    }

    /// Numbers of `[dim, tokens]`, of `[tokens, dim]`, and of `[dim / 2, tokens]` pairs.
    fn natural(&self) -> usize {
        self.dim * (self.tokens + APART)
    }

    fn turned(&self) -> usize {
        self.tokens * (self.dim + APART)
    }

    fn pairs(&self) -> usize {
        self.dim / 2 * (self.tokens + APART / 2)
    }
}

/// Hands out parts of scratch memory, each at the beginning of a cache line.
struct Parts(*mut f32);

impl Parts {
    /// Room for `bytes`.
    unsafe fn take<T>(&mut self, count: usize) -> *mut T {
        let part = self.0;
        // SAFETY: the scratch memory is as large as all parts together.
        self.0 = unsafe { part.byte_add((count * size_of::<T>()).next_multiple_of(64)) };
        part.cast()
    }
}

/// The f32 that parts of these sizes in bytes take.
fn room(bytes: &[usize]) -> usize {
    let all: usize = bytes.iter().map(|bytes| bytes.next_multiple_of(64)).sum();
    all / 4 + SIDE
}

/// Rows of tokens as bf16, `APART` after each, zeros where there is no token or channel.
#[inline(always)]
unsafe fn natural<V: Vector, E: Element>(of: &Extents, from: &[E], to: *mut u16) {
    let row = of.tokens + APART;
    let tokens = of.shape.tokens;
    // SAFETY: the caller's head and room.
    unsafe {
        for d in 0..of.shape.dim {
            let to = to.add(d * row);
            E::to_bf16::<V>(from.as_ptr().add(d * tokens), to, tokens);
            std::ptr::write_bytes(to.add(tokens), 0, row - tokens);
        }
        let rest = of.dim - of.shape.dim;
        std::ptr::write_bytes(to.add(of.shape.dim * row), 0, rest * row);
    }
}

/// Pairs of channels of each token, from [`natural`] rows.
#[inline(always)]
unsafe fn pairs<V: Vector>(of: &Extents, natural: *const u16, to: *mut u32) {
    let (row, to_row) = (of.tokens + APART, of.tokens + APART / 2);
    // SAFETY: the caller's room; tokens are a multiple of the lanes.
    unsafe {
        for pair in 0..of.dim / 2 {
            let (first, second) = (
                natural.add(2 * pair * row),
                natural.add((2 * pair + 1) * row),
            );
            let to = to.add(pair * to_row);
            for t in (0..of.tokens).step_by(V::LANES) {
                let (a, b) = (V::load_bf16(first.add(t)), V::load_bf16(second.add(t)));
                V::store_bf16_pairs(a, b, to.add(t));
            }
        }
    }
}

/// Rows to columns of 32-bit numbers; both counts are multiples of the lanes.
#[inline(always)]
unsafe fn turn<V: Vector>(
    (from, row): (*const u32, usize),
    (rows, columns): (usize, usize),
    (to, to_row): (*mut u32, usize),
) {
    // SAFETY: the caller's memory. Vectors are moved, not computed with.
    unsafe {
        for i in (0..rows).step_by(V::LANES) {
            for j in (0..columns).step_by(V::LANES) {
                let mut square = V::square();
                for l in 0..V::LANES {
                    square.as_mut()[l] = V::load(from.add((i + l) * row + j).cast());
                }
                V::transpose(&mut square);
                for l in 0..V::LANES {
                    let to = to.add((j + l) * to_row + i);
                    square.as_ref()[l].store(to.cast());
                }
            }
        }
    }
}

/// One factor: its first number, bytes from row to row, and bytes from step to step.
#[derive(Clone, Copy)]
struct Factor {
    values: *const u16,
    row: usize,
    step: usize,
    /// Bytes from one tile to the next one beside it.
    tile: usize,
}

/// sums (+)= left · right: `rows` by `columns` sums over `depth`, all of them multiples of a tile's.
#[inline(always)]
unsafe fn product(
    unit: Unit,
    (rows, columns, depth): (usize, usize, usize),
    left: Factor,
    right: Factor,
    (sums, sums_row): (*mut f32, usize),
    accumulate: bool,
) {
    let steps = depth / DEPTH;
    let left_steps: Vec<usize> = (0..steps).map(|step| step * left.step).collect();
    let right_steps: Vec<usize> = (0..steps).map(|step| step * right.step).collect();
    let tiles = |of: usize| (0..of / SIDE).step_by(2);
    for i in tiles(rows) {
        for j in tiles(columns) {
            // SAFETY: the caller's factors and sums.
            unsafe {
                let at = sums.add(i * SIDE * sums_row + j * SIDE);
                let low = at.add(SIDE * sums_row);
                let lefts = left.values.byte_add(i * left.tile);
                let rights = right.values.byte_add(j * right.tile);
                let products = Products {
                    left: [lefts.cast(), lefts.byte_add(left.tile).cast()],
                    left_row: left.row,
                    left_steps: &left_steps,
                    right: [rights.cast(), rights.byte_add(right.tile).cast()],
                    right_row: right.row,
                    right_steps: &right_steps,
                    sums: [[at, at.add(SIDE)], [low, low.add(SIDE)]],
                    sums_row: 4 * sums_row,
                    count: [2.min(rows / SIDE - i), 2.min(columns / SIDE - j)],
                    accumulate,
                };
                unit.multiply(products);
            }
        }
    }
}

impl Extents {
    /// [`natural`] rows, channels by tokens, as a left factor from token `first` on.
    fn rows(&self, values: *const u16, first: usize) -> Factor {
        let row = 2 * (self.tokens + APART);
        Factor {
            values: values.wrapping_add(first),
            row,
            step: 2 * DEPTH,
            tile: SIDE * row,
        }
    }

    /// Tokens by channels as a left factor.
    fn columns(&self, values: *const u32) -> Factor {
        let row = 2 * (self.dim + APART);
        Factor {
            values: values.cast(),
            row,
            step: 2 * DEPTH,
            tile: SIDE * row,
        }
    }

    /// Pairs as a right factor, from column `first` on of rows of `columns`.
    fn by_pairs(values: *const u32, first: usize, columns: usize) -> Factor {
        Factor {
            values: values.wrapping_add(first).cast(),
            row: 4 * columns,
            step: 4 * columns * DEPTH / 2,
            tile: 4 * SIDE,
        }
    }

    /// Pairs of keys of weights `[keys, queries]`.
    #[inline(always)]
    unsafe fn pair_keys<V: Vector>(&self, weights: *const f32, to: *mut u32) {
        // SAFETY: the caller's memory; keys are even in number.
        unsafe {
            for pair in 0..self.tokens / 2 {
                let first = weights.add(2 * pair * self.width);
                for i in (0..self.width).step_by(V::LANES) {
                    let (a, b) = (V::load(first.add(i)), V::load(first.add(self.width + i)));
                    V::store_bf16_pairs(a, b, to.add(pair * self.width + i));
                }
            }
        }
    }

    /// Pairs of queries of weights `[keys, queries]`: `[queries / 2, keys]`, by way of `room`, as large.
    #[inline(always)]
    unsafe fn pair_queries<V: Vector>(&self, weights: *const f32, room: *mut u32, to: *mut u32) {
        let rounded: *mut u16 = room.cast();
        // SAFETY: the caller's memory.
        unsafe {
            for i in (0..self.tokens * self.width).step_by(V::LANES) {
                V::load(weights.add(i)).store_bf16(rounded.add(i));
            }
            let half = self.width / 2;
            turn::<V>((room, half), (self.tokens, half), (to, self.tokens));
        }
    }
}

struct Forward<'a, E> {
    of: Extents,
    unit: Unit,
    qkv: &'a [E],
    image: usize,
    head: usize,
    queries: std::ops::Range<usize>,
    y: Shared<E>,
    normaliser: Shared,
}

impl<E: Element> Kernel for Forward<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let of = self.of;
        let Shape { dim, tokens, .. } = of.shape;
        let len = dim * tokens;
        let part = |i: usize| &self.qkv[of.shape.part(self.image, self.head, i)..][..len];
        let head = self.image * of.shape.heads + self.head;
        let wide = of.width;
        let mut scratch = Scratch::new(room(&[
            2 * of.natural(),
            2 * of.natural(),
            4 * of.pairs(),
            4 * of.pairs(),
            2 * of.turned(),
            4 * of.tokens * wide,
            2 * of.tokens * wide,
            4 * of.dim * wide,
        ]));
        // SAFETY: the parts of the scratch memory lie one after the other; this head's queries are this thread's.
        unsafe {
            let start = scratch.pointer();
            let mut parts = Parts(start.byte_add(start.addr().wrapping_neg() % 64));
            let rows: *mut u16 = parts.take(of.natural());
            let v: *mut u16 = parts.take(of.natural());
            let q: *mut u32 = parts.take(of.pairs());
            let k: *mut u32 = parts.take(of.pairs());
            let turned: *mut u32 = parts.take(of.turned() / 2);
            let scores: *mut f32 = parts.take(of.tokens * wide);
            let weights: *mut u32 = parts.take(of.tokens / 2 * wide);
            let sums: *mut f32 = parts.take(of.dim * wide);
            let pair_row = of.tokens + APART / 2;
            natural::<V, E>(&of, part(0), rows);
            pairs::<V>(&of, rows, q);
            natural::<V, E>(&of, part(1), rows);
            pairs::<V>(&of, rows, k);
            let turned_row = (of.dim + APART) / 2;
            turn::<V>((k, pair_row), (of.dim / 2, of.tokens), (turned, turned_row));
            natural::<V, E>(&of, part(2), v);
            self.unit.begin();
            for block in self.queries.clone() {
                let first = block * wide;
                let present = (tokens - first).min(wide);
                product(
                    self.unit,
                    (of.tokens, wide, of.dim),
                    of.columns(turned),
                    Extents::by_pairs(q, first, pair_row),
                    (scores, wide),
                    false,
                );
                let mut normaliser = [0.0f32; BLOCKS * MOST_LANES];
                softmax::<V>(scores, tokens, of.shape.scale(), &mut normaliser);
                // No weight is given to what is no key.
                let rest = (of.tokens - tokens) * wide;
                std::ptr::write_bytes(scores.add(tokens * wide), 0, rest);
                of.pair_keys::<V>(scores, weights);
                product(
                    self.unit,
                    (of.dim, wide, of.tokens),
                    of.rows(v, 0),
                    Extents::by_pairs(weights, 0, wide),
                    (sums, wide),
                    false,
                );
                let y = self.y.pointer().add(head * len + first);
                for d in 0..dim {
                    narrow::<V, E>(sums.add(d * wide), y.add(d * tokens), present);
                }
                let to = self.normaliser.pointer().add(head * tokens + first);
                for i in 0..present {
                    *to.add(i) = normaliser[i];
                }
            }
            self.unit.end();
        }
    }
}

/// As [`super::super::attention::forward`].
pub(in super::super) fn forward<E: Element>(
    isa: Isa,
    unit: Unit,
    shape: Shape,
    qkv: &[E],
) -> (Vec<E>, Vec<f32>) {
    let of = Extents::new(shape, isa.lanes());
    let blocks = shape.tokens.div_ceil(of.width);
    let heads = shape.batch * shape.heads;
    // With fewer heads than threads, threads share a head's queries.
    let sharing = rayon::current_num_threads()
        .div_ceil(heads.max(1))
        .min(blocks.max(1));
    let each = blocks.div_ceil(sharing);
    let mut normaliser = Vec::new();
    // SAFETY: the tasks are all queries of all heads, and write all of both results.
    let y = unsafe {
        filled(heads * shape.dim * shape.tokens, |y| {
            normaliser = filled(heads * shape.tokens, |normaliser| {
                (0..heads * sharing).into_par_iter().for_each(|task| {
                    let (at, share) = (task / sharing, task % sharing);
                    let forward = Forward {
                        of,
                        unit,
                        qkv,
                        image: at / shape.heads,
                        head: at % shape.heads,
                        queries: (share * each).min(blocks)..((share + 1) * each).min(blocks),
                        y,
                        normaliser,
                    };
                    dispatch(isa, forward);
                });
            });
        })
    };
    (y, normaliser)
}

struct Backward<'a, E> {
    of: Extents,
    unit: Unit,
    qkv: &'a [E],
    y: &'a [E],
    normaliser: &'a [f32],
    dy: &'a [E],
    image: usize,
    head: usize,
    dqkv: Shared<E>,
}

impl<E: Element> Kernel for Backward<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let of = self.of;
        let Shape { dim, tokens, .. } = of.shape;
        let (len, wide) = (dim * tokens, of.width);
        let part = |i: usize| of.shape.part(self.image, self.head, i);
        let operand = |i: usize| &self.qkv[part(i)..][..len];
        let head = self.image * of.shape.heads + self.head;
        let (y, dy) = (&self.y[head * len..][..len], &self.dy[head * len..][..len]);
        let gradient = HeadGradient {
            shape: of.shape,
            y,
            dy,
            normaliser: &self.normaliser[head * tokens..][..tokens],
        };
        let (natural_b, pairs_b, turned_b) = (2 * of.natural(), 4 * of.pairs(), 2 * of.turned());
        let weights_b = 4 * of.tokens * wide;
        let mut scratch = Scratch::new(room(&[
            natural_b,
            natural_b,
            natural_b,
            pairs_b,
            pairs_b,
            pairs_b,
            turned_b,
            turned_b,
            weights_b,
            weights_b,
            weights_b / 2,
            weights_b / 2,
            4 * of.dim * wide,
            4 * of.dim * of.tokens,
            4 * of.dim * of.tokens,
        ]));
        // SAFETY: the parts of the scratch memory lie one after the other; the gradients of this head are this thread's.
        unsafe {
            let start = scratch.pointer();
            let mut parts = Parts(start.byte_add(start.addr().wrapping_neg() % 64));
            let q: *mut u16 = parts.take(of.natural());
            let k: *mut u16 = parts.take(of.natural());
            let natural_dy: *mut u16 = parts.take(of.natural());
            let q_pairs: *mut u32 = parts.take(of.pairs());
            let dy_pairs: *mut u32 = parts.take(of.pairs());
            let other_pairs: *mut u32 = parts.take(of.pairs());
            let turned_k: *mut u32 = parts.take(of.turned() / 2);
            let turned_v: *mut u32 = parts.take(of.turned() / 2);
            let weights: *mut f32 = parts.take(of.tokens * wide);
            let d_weights: *mut f32 = parts.take(of.tokens * wide);
            let room: *mut u32 = parts.take(of.tokens / 2 * wide);
            let paired: *mut u32 = parts.take(of.tokens / 2 * wide);
            let sums: *mut f32 = parts.take(of.dim * wide);
            let dk: *mut f32 = parts.take(of.dim * of.tokens);
            let dv: *mut f32 = parts.take(of.dim * of.tokens);
            let (pair_row, turned_row) = (of.tokens + APART / 2, (of.dim + APART) / 2);
            for (i, turned) in [(2, turned_v), (1, turned_k)] {
                // Of v the turned form alone is needed.
                natural::<V, E>(&of, operand(i), k);
                pairs::<V>(&of, k, other_pairs);
                let extents = (of.dim / 2, of.tokens);
                turn::<V>((other_pairs, pair_row), extents, (turned, turned_row));
            }
            natural::<V, E>(&of, operand(0), q);
            pairs::<V>(&of, q, q_pairs);
            natural::<V, E>(&of, dy, natural_dy);
            pairs::<V>(&of, natural_dy, dy_pairs);
            self.unit.begin();
            for first in (0..tokens).step_by(wide) {
                let present = (tokens - first).min(wide);
                let extents = (of.tokens, wide, of.dim);
                for (turned, pairs, to) in [
                    (turned_k, q_pairs, weights),
                    (turned_v, dy_pairs, d_weights),
                ] {
                    let (left, right) = (
                        of.columns(turned),
                        Extents::by_pairs(pairs, first, pair_row),
                    );
                    product(self.unit, extents, left, right, (to, wide), false);
                }
                gradient.softmax::<V>(first, weights, d_weights);
                // What is no key has no weight.
                for weights in [weights, d_weights] {
                    let rest = (of.tokens - tokens) * wide;
                    std::ptr::write_bytes(weights.add(tokens * wide), 0, rest);
                }
                of.pair_keys::<V>(d_weights, paired);
                product(
                    self.unit,
                    (of.dim, wide, of.tokens),
                    of.rows(k, 0),
                    Extents::by_pairs(paired, 0, wide),
                    (sums, wide),
                    false,
                );
                let dq = self.dqkv.pointer().add(part(0) + first);
                for d in 0..dim {
                    narrow::<V, E>(sums.add(d * wide), dq.add(d * tokens), present);
                }
                for (from, rows, to) in [(d_weights, q, dk), (weights, natural_dy, dv)] {
                    of.pair_queries::<V>(from, room, paired);
                    product(
                        self.unit,
                        (of.dim, of.tokens, wide),
                        of.rows(rows, first),
                        Extents::by_pairs(paired, 0, of.tokens),
                        (to, of.tokens),
                        first > 0,
                    );
                }
            }
            self.unit.end();
            for (i, from) in [(1, dk), (2, dv)] {
                let to = self.dqkv.pointer().add(part(i));
                for d in 0..dim {
                    narrow::<V, E>(from.add(d * of.tokens), to.add(d * tokens), tokens);
                }
            }
        }
    }
}

/// As [`super::super::attention::backward`].
pub(in super::super) fn backward<E: Element>(
    isa: Isa,
    unit: Unit,
    shape: Shape,
    qkv: &[E],
    (y, normaliser): (&[E], &[f32]),
    dy: &[E],
) -> Vec<E> {
    let of = Extents::new(shape, isa.lanes());
    // SAFETY: every head writes the gradients of its queries, keys and values.
    unsafe {
        filled(qkv.len(), |dqkv| {
            (0..shape.batch * shape.heads)
                .into_par_iter()
                .for_each(|at| {
                    let backward = Backward {
                        of,
                        unit,
                        qkv,
                        y,
                        normaliser,
                        dy,
                        image: at / shape.heads,
                        head: at % shape.heads,
                        dqkv,
                    };
                    dispatch(isa, backward);
                });
        })
    }
}
