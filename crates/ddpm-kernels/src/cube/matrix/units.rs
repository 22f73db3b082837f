//! The same products on ordinary units: slow, for devices without matrix units, on which everything else of these kernels
//! can be checked by it.

use cubecl::prelude::*;

use super::kernel::Corner;
use super::plan::{EACH, LANES, Lie, Plan, SIDE, WRITTEN};

/// A lane's part of the results, if ordinary units multiply: of each square the vectors that it writes.
#[cube]
pub(super) fn zeros<W: Size>(#[comptime] plan: Plan) -> Sequence<Array<Vector<f32, W>>> {
    let mut zeros = Sequence::<Array<Vector<f32, W>>>::new();
    if comptime!(plan.units()) {
        #[unroll]
        for _ in 0..comptime!(plan.tile.each.0 * plan.tile.each.1) {
            let mut zero = Array::<Vector<f32, W>>::new(EACH);
            #[unroll]
            for i in 0..EACH {
                zero[i] = Vector::new(0.0f32);
            }
            zeros.push(zero);
        }
    }
    zeros
}

/// One value of a slice: at `along` of its rows or columns of the product, `k` deep.
#[cube]
fn value<S: Numeric, N: Size>(
    slices: &Shared<[Vector<S, N>]>,
    from: usize,
    along: usize,
    k: usize,
    #[comptime] lie: Lie,
    #[comptime] size: usize,
) -> f32 {
    let (row, inner) = match comptime!(lie.deep) {
        true => (along, k),
        false => (k, along),
    };
    let vector = slices[from + row * lie.pitch + inner / size];
    f32::cast_from(vector.extract_dynamic(inner % size))
}

/// Adds the products of slices in shared memory, which begin at `from_a` and `from_b`.
#[cube]
#[allow(clippy::too_many_arguments, reason = "two factors, and where they are")]
pub(super) fn multiply<S: Numeric, N: Size, W: Size>(
    slices_a: &Shared<[Vector<S, N>]>,
    slices_b: &Shared<[Vector<S, N>]>,
    from_a: usize,
    from_b: usize,
    corner: &Corner,
    sums: &mut Sequence<Array<Vector<f32, W>>>,
    #[comptime] plan: Plan,
) {
    let (a, b) = comptime!((plan.a(), plan.b()));
    let size = comptime!(plan.size);
    let lane = UNIT_POS_X as usize;
    #[unroll]
    for i in 0..comptime!(plan.tile.each.0) {
        #[unroll]
        for j in 0..comptime!(plan.tile.each.1) {
            let sums = sums.index_mut(comptime!(i * plan.tile.each.1 + j));
            #[unroll]
            for part in 0..EACH {
                let at = lane + part * LANES;
                let m = corner.m + i * SIDE + at / comptime!(SIDE / WRITTEN);
                let n = corner.n + j * SIDE + at % comptime!(SIDE / WRITTEN) * WRITTEN;
                let mut sum = sums[part];
                for k in 0..comptime!(plan.slice()) {
                    let left = value::<S, N>(slices_a, from_a, m, k, a, size);
                    #[unroll]
                    for column in 0..WRITTEN {
                        let right = value::<S, N>(slices_b, from_b, n + column, k, b, size);
                        let before = sum.extract(column);
                        sum.insert(column, before + left * right);
                    }
                }
                sums[part] = sum;
            }
        }
    }
}
