//! The kernel: slices of both factors to shared memory, from there to the matrix units, results to the tensor.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout, MmaDefinition};
use cubecl::prelude::*;

use super::plan::{EACH, Instruction, LANES, PITCH, Plan, SIDE, WRITTEN};
use super::read::{
    Pixel, Sizes, advance, around, begin, of_pixel, pixel, right, slices, tap_channel,
};
use super::units;

/// Squares of factors and of results, as the plane has them.
#[derive(CubeType)]
struct Squares<F: Numeric> {
    a: Sequence<Matrix<F>>,
    b: Sequence<Matrix<F>>,
    results: Sequence<Matrix<f32>>,
}

/// No squares if the plan is to multiply registers.
#[cube]
fn squares<F: Numeric>(#[comptime] plan: Plan) -> Squares<F> {
    let mut a = Sequence::<Matrix<F>>::new();
    let mut b = Sequence::<Matrix<F>>::new();
    let mut results = Sequence::<Matrix<f32>>::new();
    if comptime!(plan.squares()) {
        let (step, zero) = (comptime!(plan.step()), F::from_int(0));
        #[unroll]
        for _ in 0..comptime!(plan.tile.each.0) {
            let layout = comptime!(plan.layout_a());
            a.push(Matrix::<F>::from_value(
                MatrixIdent::A,
                SIDE,
                SIDE,
                step,
                layout,
                zero,
            ));
        }
        #[unroll]
        for _ in 0..comptime!(plan.tile.each.1) {
            let layout = comptime!(plan.layout_b());
            b.push(Matrix::<F>::from_value(
                MatrixIdent::B,
                SIDE,
                SIDE,
                step,
                layout,
                zero,
            ));
        }
        #[unroll]
        for _ in 0..comptime!(plan.tile.each.0 * plan.tile.each.1) {
            let (ident, layout) = (MatrixIdent::Accumulator, MatrixLayout::Undefined);
            results.push(Matrix::<f32>::from_value(
                ident, SIDE, SIDE, step, layout, 0.0f32,
            ));
        }
    }
    Squares::<F> { a, b, results }
}

/// A lane's part of the results, if registers are multiplied: two pairs for each half of a square.
#[cube]
fn sums(#[comptime] plan: Plan) -> Sequence<Array<Vector<f32, Const<2>>>> {
    let mut sums = Sequence::<Array<Vector<f32, Const<2>>>>::new();
    if comptime!(plan.registers()) {
        #[unroll]
        for _ in 0..comptime!(plan.tile.each.0 * plan.tile.each.1 * 2) {
            let mut sum = Array::<Vector<f32, Const<2>>>::new(2usize);
            sum[0] = Vector::new(0.0f32);
            sum[1] = Vector::new(0.0f32);
            sums.push(sum);
        }
    }
    sums
}

/// Where a plane's results begin in its cube's.
#[derive(CubeType)]
pub(super) struct Corner {
    pub(super) m: usize,
    pub(super) n: usize,
}

/// Adds the products of slices in shared memory, which begin at `from_a` and `from_b`, by squares.
#[cube]
#[allow(clippy::too_many_arguments, reason = "two factors, and where they are")]
fn multiply_squares<S: Numeric, F: Numeric, N: Size>(
    slices_a: &Shared<[Vector<S, N>]>,
    slices_b: &Shared<[Vector<S, N>]>,
    from_a: usize,
    from_b: usize,
    corner: &Corner,
    squares: &mut Squares<F>,
    #[comptime] plan: Plan,
) {
    let (a, b) = comptime!((plan.a(), plan.b()));
    let (size, step) = comptime!((plan.size, plan.step()));
    #[unroll]
    for k in 0..comptime!(plan.slice() / step) {
        #[unroll]
        for i in 0..comptime!(plan.tile.each.0) {
            let at = match comptime!(a.deep) {
                true => (corner.m + i * SIDE) * a.pitch + comptime!(k * step / size),
                false => comptime!(k * step * a.pitch) + (corner.m + i * SIDE) / size,
            };
            cmma::load(
                squares.a.index_mut(i),
                &slices_a[from_a + at..comptime!(2 * a.length)],
                comptime!((a.pitch * size) as u32),
            );
        }
        #[unroll]
        for j in 0..comptime!(plan.tile.each.1) {
            let at = match comptime!(b.deep) {
                true => (corner.n + j * SIDE) * b.pitch + comptime!(k * step / size),
                false => comptime!(k * step * b.pitch) + (corner.n + j * SIDE) / size,
            };
            cmma::load(
                squares.b.index_mut(j),
                &slices_b[from_b + at..comptime!(2 * b.length)],
                comptime!((b.pitch * size) as u32),
            );
        }
        #[unroll]
        for i in 0..comptime!(plan.tile.each.0) {
            #[unroll]
            for j in 0..comptime!(plan.tile.each.1) {
                let result = squares.results.index(comptime!(i * plan.tile.each.1 + j));
                cmma::execute(squares.a.index(i), squares.b.index(j), result, result);
            }
        }
    }
}

/// The same by registers. The lanes hand the matrix units the four 8×8 parts of a square eight rows after the other.
#[cube]
#[allow(clippy::too_many_arguments, reason = "two factors, and where they are")]
fn multiply_registers<S: Numeric, F: Numeric, N: Size>(
    slices_a: &Shared<[Vector<S, N>]>,
    slices_b: &Shared<[Vector<S, N>]>,
    from_a: usize,
    from_b: usize,
    corner: &Corner,
    sums: &mut Sequence<Array<Vector<f32, Const<2>>>>,
    #[comptime] plan: Plan,
) {
    let (a, b) = comptime!((plan.a(), plan.b()));
    let (size, step) = comptime!((plan.size, plan.step()));
    let definition = MmaDefinition::<F, F, f32>::new(SIDE, comptime!(SIDE / 2), SIDE);
    let lane = UNIT_POS_X as usize;
    let (quarter, line) = (lane / 8, lane % 8);
    #[unroll]
    for k in 0..comptime!(plan.slice() / step) {
        let mut registers_a = Sequence::<Array<Vector<F, Const<2>>>>::new();
        #[unroll]
        for i in 0..comptime!(plan.tile.each.0) {
            let at = match comptime!(a.deep) {
                true => {
                    (corner.m + i * SIDE + line + (quarter % 2) * 8) * a.pitch
                        + comptime!(k * step / size)
                        + quarter / 2
                }
                false => {
                    (comptime!(k * step) + line + (quarter / 2) * 8) * a.pitch
                        + (corner.m + i * SIDE) / size
                        + quarter % 2
                }
            };
            let words = definition.load_matrix::<Vector<S, N>, Const<1>>(
                &slices_a[from_a + at..from_a + at + 1],
                MatrixIdent::A,
                4usize,
                comptime!(!a.deep),
            );
            let mut registers = Array::<Vector<F, Const<2>>>::new(4usize);
            #[unroll]
            for word in 0..4usize {
                registers[word] = Vector::<F, Const<2>>::reinterpret(words[word]);
            }
            registers_a.push(registers);
        }
        #[unroll]
        for j in 0..comptime!(plan.tile.each.1) {
            let at = match comptime!(b.deep) {
                true => {
                    (corner.n + j * SIDE + line + (quarter / 2) * 8) * b.pitch
                        + comptime!(k * step / size)
                        + quarter % 2
                }
                false => {
                    (comptime!(k * step) + line + (quarter % 2) * 8) * b.pitch
                        + (corner.n + j * SIDE) / size
                        + quarter / 2
                }
            };
            let words = definition.load_matrix::<Vector<S, N>, Const<1>>(
                &slices_b[from_b + at..from_b + at + 1],
                MatrixIdent::B,
                4usize,
                comptime!(!b.deep),
            );
            #[unroll]
            for half in 0..2usize {
                let mut registers_b = Array::<Vector<F, Const<2>>>::new(2usize);
                #[unroll]
                for word in 0..2usize {
                    registers_b[word] =
                        Vector::<F, Const<2>>::reinterpret(words[comptime!(half * 2 + word)]);
                }
                #[unroll]
                for i in 0..comptime!(plan.tile.each.0) {
                    let at = comptime!((i * plan.tile.each.1 + j) * 2 + half);
                    definition.execute_inplace(
                        registers_a.index(i),
                        &registers_b,
                        sums.index_mut(at),
                    );
                }
            }
        }
    }
}

/// out\[z, m, n\] = Σ left(m, k)·right(k, n) over the z-th part of the depth, and what is added.
///
/// `E` is read from the tensors, `S` lies in shared memory and `F` is multiplied.
#[cube(launch, address_type = "dynamic")]
pub(super) fn product<E: Numeric, S: Numeric, F: Numeric, O: Numeric, N: Size, W: Size>(
    a: &Tensor<Vector<E, N>>,
    b: &Tensor<Vector<E, N>>,
    out: &mut Tensor<Vector<O, W>>,
    bias: &Tensor<Vector<f32, W>>,
    residual: &Tensor<Vector<O, W>>,
    sizes: Sizes,
    #[comptime] plan: Plan,
    #[define(E, S, F, O)] _types: [ElemType; 4],
) {
    let (lie_a, lie_b) = comptime!((plan.a(), plan.b()));
    let (count, size) = comptime!((plan.brought(), plan.size));
    let mut slices_a =
        Shared::<[Vector<S, N>]>::new_aligned_slice(comptime!(2 * lie_a.length), 128usize);
    let mut slices_b =
        Shared::<[Vector<S, N>]>::new_aligned_slice(comptime!(2 * lie_b.length), 128usize);

    let thread = UNIT_POS as usize;
    let plane = UNIT_POS_Y as usize;
    let first_m = CUBE_POS_X as usize * comptime!(plan.tile.side());
    let first_n = CUBE_POS_Y as usize * comptime!(plan.tile.side());
    let corner = Corner {
        m: (plane / comptime!(plan.tile.planes.1)) * comptime!(plan.tile.each.0 * SIDE),
        n: (plane % comptime!(plan.tile.planes.1)) * comptime!(plan.tile.each.1 * SIDE),
    };

    // Which vectors of a slice the thread brings: the same in every slice.
    let (row_a, column_a) = (thread / lie_a.row, thread % lie_a.row);
    let (row_b, column_b) = (thread / lie_b.row, thread % lie_b.row);
    let mut pixels = Sequence::<Pixel>::new();
    if comptime!(plan.through_taps()) {
        #[unroll]
        for i in 0..count {
            pixels.push(pixel(first_m + row_a + i * lie_a.apart, &sizes, plan));
        }
    }
    let tap_channel = tap_channel(first_n + column_b * size, &sizes);
    let mut place = begin(&sizes, plan);
    let slices = slices(&place, &sizes, plan);

    let mut squares = squares::<F>(plan);
    let mut sums = sums(plan);
    let mut plain = units::zeros::<W>(plan);
    let mut next_a = Array::<Vector<E, N>>::new(count);
    let mut next_b = Array::<Vector<E, N>>::new(count);
    // One turn more than there are slices: the first only brings, the last only multiplies.
    for turn in 0..slices + 1 {
        if turn < slices {
            #[unroll]
            for i in 0..count {
                next_a[i] = match comptime!(plan.through_taps()) {
                    true => {
                        around::<E, N>(a, pixels.index(i), column_a * size, &place, &sizes, plan)
                    }
                    false => {
                        let k = place.first + row_a + i * lie_a.apart;
                        of_pixel::<E, N>(a, k, first_m + column_a * size, &place, &sizes, plan)
                    }
                };
                let row = row_b + i * lie_b.apart;
                let along = column_b * size;
                next_b[i] =
                    right::<E, N>(b, row, along, first_n, &tap_channel, &place, &sizes, plan);
            }
            advance(&mut place, &sizes, plan);
        }
        if turn > 0 {
            let odd = (turn - 1) % 2;
            let (from_a, from_b) = (odd * lie_a.length, odd * lie_b.length);
            match comptime!(plan.instruction) {
                Instruction::Squares { .. } => multiply_squares::<S, F, N>(
                    &slices_a,
                    &slices_b,
                    from_a,
                    from_b,
                    &corner,
                    &mut squares,
                    plan,
                ),
                Instruction::Registers => multiply_registers::<S, F, N>(
                    &slices_a, &slices_b, from_a, from_b, &corner, &mut sums, plan,
                ),
                Instruction::Units => units::multiply::<S, N, W>(
                    &slices_a, &slices_b, from_a, from_b, &corner, &mut plain, plan,
                ),
            }
        }
        if turn < slices {
            // The other slice than the one that planes may still be multiplying.
            let odd = turn % 2;
            #[unroll]
            for i in 0..count {
                let at_a = (row_a + i * lie_a.apart) * lie_a.pitch + column_a;
                let at_b = (row_b + i * lie_b.apart) * lie_b.pitch + column_b;
                slices_a[odd * lie_a.length + at_a] = Vector::cast_from(next_a[i]);
                slices_b[odd * lie_b.length + at_b] = Vector::cast_from(next_b[i]);
            }
        }
        sync_cube();
    }

    let corner = Corner {
        m: first_m + corner.m,
        n: first_n + corner.n,
    };
    write::<F, O, W>(
        &squares, &sums, &plain, &corner, out, bias, residual, &sizes, plan,
    );
}

/// Writes a plane's results, by way of shared memory, from which each lane gets some that lie in order.
#[cube]
#[allow(
    clippy::too_many_arguments,
    reason = "a convolution has that many operands"
)]
fn write<F: Numeric, O: Numeric, W: Size>(
    squares: &Squares<F>,
    sums: &Sequence<Array<Vector<f32, Const<2>>>>,
    plain: &Sequence<Array<Vector<f32, W>>>,
    corner: &Corner,
    out: &mut Tensor<Vector<O, W>>,
    bias: &Tensor<Vector<f32, W>>,
    residual: &Tensor<Vector<O, W>>,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) {
    let scratch_length = comptime!(plan.scratch());
    let mut scratch = Shared::<[Vector<f32, W>]>::new_aligned_slice(scratch_length, 128usize);
    let lane = UNIT_POS_X as usize;
    let mine = UNIT_POS_Y as usize * comptime!(SIDE * PITCH);
    #[unroll]
    for i in 0..comptime!(plan.tile.each.0) {
        #[unroll]
        for j in 0..comptime!(plan.tile.each.1) {
            let square = comptime!(i * plan.tile.each.1 + j);
            if comptime!(plan.squares()) {
                cmma::store(
                    &mut scratch[mine..scratch_length],
                    squares.results.index(square),
                    comptime!((PITCH * WRITTEN) as u32),
                    MatrixLayout::RowMajor,
                );
            }
            if comptime!(plan.registers()) {
                let pairs = scratch[mine..scratch_length].with_vector_size_mut::<Const<2>>();
                #[unroll]
                for half in 0..2usize {
                    let sum = sums.index(comptime!(square * 2 + half));
                    #[unroll]
                    for down in 0..2usize {
                        let row = lane / 4 + down * 8;
                        pairs[row * comptime!(PITCH * WRITTEN / 2) + half * 4 + lane % 4] =
                            sum[down];
                    }
                }
            }
            if comptime!(!plan.units()) {
                sync_plane();
            }
            #[unroll]
            for k in 0..EACH {
                let at = lane + k * LANES;
                let row = at / comptime!(SIDE / WRITTEN);
                let column = at % comptime!(SIDE / WRITTEN);
                let m = corner.m + i * SIDE + row;
                let n = corner.n + j * SIDE + column * WRITTEN;
                if m < sizes.m && n < sizes.n {
                    let mut sum = match comptime!(plan.units()) {
                        true => plain.index(square)[k],
                        false => scratch[mine + row * PITCH + column],
                    };
                    if sizes.bias_rows > 0 {
                        let image = sizes.out_height.div(sizes.out_width.div(m));
                        sum += bias[((image % sizes.bias_rows) * sizes.n + n) / WRITTEN];
                    }
                    let at = ((CUBE_POS_Z as usize * sizes.m + m) * sizes.n + n) / WRITTEN;
                    if sizes.residuals > 0 {
                        sum += Vector::<f32, W>::cast_from(residual[at]);
                    }
                    out[at] = Vector::cast_from(sum);
                }
            }
            if comptime!(!plan.units()) {
                sync_plane();
            }
        }
    }
}
