//! Matrix products over blocks of channels, a few rows by one or two blocks in registers.
//!
//! Every result is one chain of multiply-adds over the depth in its order, whatever rows and blocks
//! are computed beside it: the same values give the same bits in any batch and on any number of threads.

#![allow(unsafe_code, reason = "operands are addressed by tables of offsets")]

use super::vector::Vector;

/// The factor that is broadcast: value (i, p) lies at
/// `rows[i] + outer[p / inner] + (p % inner)·step`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: *const f32,
    pub(super) rows: &'a [usize],
    pub(super) outer: &'a [usize],
    pub(super) inner: usize,
    pub(super) step: usize,
}

/// The factor that is read a block at a time: lanes (j, p) lie at `j·block + p·step`.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub(super) values: *const f32,
    pub(super) block: usize,
    pub(super) step: usize,
}

/// The result: lanes (i, j) lie at `j·block + i·row`.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) values: *mut f32,
    pub(super) block: usize,
    pub(super) row: usize,
    /// Whether the product is added to what is there.
    pub(super) accumulate: bool,
}

/// out(i, j) (+)= Σ_p left(i, p) · right(j, p) for all rows i of `left` and `blocks` blocks j.
///
/// # Safety
/// All values that the strides and tables name must be readable, and those of `out` writable by this
/// thread alone.
#[inline(always)]
pub(super) unsafe fn product<V: Vector>(blocks: usize, left: Left<'_>, right: Right, out: Target) {
    let rows = left.rows.len();
    let mut j = 0;
    while j < blocks {
        // SAFETY: j < blocks, i < rows, and what each call reads and writes lies among those the
        // caller vouches for.
        unsafe {
            let right = Right {
                values: right.values.add(j * right.block),
                ..right
            };
            let to = out.values.add(j * out.block);
            let mut i = 0;
            if blocks - j >= 2 {
                while i < rows {
                    let out = Target {
                        values: to.add(i * out.row),
                        ..out
                    };
                    i += match rows - i {
                        1 => tile::<V, 1, 2>(left, i, right, out),
                        2 => tile::<V, 2, 2>(left, i, right, out),
                        3 => tile::<V, 3, 2>(left, i, right, out),
                        // 8 = 4 + 4 is faster than 6 + 2.
                        4 | 8 => tile::<V, 4, 2>(left, i, right, out),
                        5 => tile::<V, 5, 2>(left, i, right, out),
                        _ => tile::<V, 6, 2>(left, i, right, out),
                    };
                }
                j += 2;
            } else {
                while i < rows {
                    let out = Target {
                        values: to.add(i * out.row),
                        ..out
                    };
                    i += match rows - i {
                        1 => tile::<V, 1, 1>(left, i, right, out),
                        2 => tile::<V, 2, 1>(left, i, right, out),
                        3 => tile::<V, 3, 1>(left, i, right, out),
                        4 | 5 => tile::<V, 4, 1>(left, i, right, out),
                        _ => tile::<V, 6, 1>(left, i, right, out),
                    };
                }
                j += 1;
            }
        }
    }
}

/// `M` rows from `first` on by `N` blocks; returns `M`.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize>(
    left: Left<'_>,
    first: usize,
    right: Right,
    out: Target,
) -> usize {
    // SAFETY: see `product`.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; M];
        let mut rows = [left.values; M];
        for i in 0..M {
            rows[i] = left.values.add(*left.rows.get_unchecked(first + i));
        }
        let mut b = right.values;
        for &outer in left.outer {
            let mut at = outer;
            for _ in 0..left.inner {
                let mut block = [V::splat(0.0); N];
                for j in 0..N {
                    block[j] = V::load(b.add(j * right.block));
                }
                for i in 0..M {
                    let a = V::splat(*rows[i].add(at));
                    for j in 0..N {
                        sums[i][j] = a.mul_add(block[j], sums[i][j]);
                    }
                }
                at += left.step;
                b = b.add(right.step);
            }
        }
        for i in 0..M {
            for j in 0..N {
                let to = out.values.add(j * out.block + i * out.row);
                let sum = if out.accumulate {
                    sums[i][j].add(V::load(to))
                } else {
                    sums[i][j]
                };
                sum.store(to);
            }
        }
    }
    M
}
