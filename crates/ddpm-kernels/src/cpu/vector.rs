//! The vectors that kernels compute with: one type for each set of instructions.

#![allow(unsafe_code, reason = "instructions that not every machine has")]

/// A vector of f32, one value for each of `LANES` channels.
///
/// The methods of a type may only be called where its instructions are there: kernels get the type
/// from [`super::isa::dispatch`], which has looked.
pub(super) trait Vector: Copy {
    /// Values in a vector.
    const LANES: usize;
    /// `LANES` vectors.
    type Square: Copy + AsRef<[Self]> + AsMut<[Self]>;

    /// The same value in each lane.
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `LANES` values must be readable at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` values must be writable at `to`.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// `LANES` bf16 must be readable at `from`.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Rounded to the nearest bf16, the even one of two; what is not a number stays so.
    ///
    /// # Safety
    /// `LANES` bf16 must be writable at `to`.
    unsafe fn store_bf16(self, to: *mut u16);
    /// Pairs of bf16, the first one's number in the lower half; rounded as by [`Vector::store_bf16`].
    ///
    /// # Safety
    /// `LANES` pairs must be writable at `to`.
    unsafe fn store_bf16_pairs(first: Self, second: Self, to: *mut u32);
    /// self + b
    fn add(self, b: Self) -> Self;
    /// self - b
    fn sub(self, b: Self) -> Self;
    /// self·b
    fn mul(self, b: Self) -> Self;
    /// self / b
    fn div(self, b: Self) -> Self;
    /// self·b + c, with one rounding where that is one instruction.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger of each pair; `b` if one is not a number.
    fn max(self, b: Self) -> Self;
    /// The smaller of each pair; `b` if one is not a number.
    fn min(self, b: Self) -> Self;
    /// √self
    fn sqrt(self) -> Self;
    /// 2^n for self = 1.5·2^23 + n with an integer n from -126 to 127: the bits (self + 127) << 23.
    fn power_of_two(self) -> Self;
    /// Vectors of zeros.
    fn square() -> Self::Square;
    /// Rows to columns.
    fn transpose(square: &mut Self::Square);

    /// The sum of the lanes in their order, in f64.
    #[inline(always)]
    fn total(self) -> f64 {
        let mut lanes = [0.0f32; MOST_LANES];
        // SAFETY: no vector has more lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        let mut total = 0.0;
        for lane in &lanes[..Self::LANES] {
            total += f64::from(*lane);
        }
        total
    }

    /// The first `count` lanes from `from`, zeros in the others.
    ///
    /// # Safety
    /// `count` values, at most `LANES`, must be readable `stride` apart.
    #[inline(always)]
    unsafe fn gather(from: *const f32, count: usize, stride: usize) -> Self {
        let mut lanes = [0.0f32; MOST_LANES];
        for (l, lane) in lanes[..Self::LANES].iter_mut().enumerate().take(count) {
            // SAFETY: l < count.
            *lane = unsafe { *from.add(l * stride) };
        }
        // SAFETY: no vector has more lanes.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// A value for each lane, `stride` apart.
    ///
    /// # Safety
    /// They must be readable, and the last one less than 2^31 values away.
    #[inline(always)]
    unsafe fn strided(from: *const f32, stride: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { Self::gather(from, Self::LANES, stride) }
    }

    /// Writes the first `count` lanes `stride` apart.
    ///
    /// # Safety
    /// `count` values, at most `LANES`, must be writable `stride` apart.
    #[inline(always)]
    unsafe fn scatter(self, to: *mut f32, count: usize, stride: usize) {
        let mut lanes = [0.0f32; MOST_LANES];
        // SAFETY: no vector has more lanes, and l < count.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for (l, lane) in lanes[..Self::LANES].iter().enumerate().take(count) {
                *to.add(l * stride) = *lane;
            }
        }
    }
}

/// Lanes of the widest vector.
pub(super) const MOST_LANES: usize = 16;

/// e^x within 2 ulp for |x| < 87, and clamped beyond (Cephes' expf: 2^n · e^r with a polynomial over
/// |r| ≤ ln(2)/2).
#[inline(always)]
pub(super) fn exp<V: Vector>(x: V) -> V {
    // Adding 1.5·2^23 leaves the nearest integer in the low bits.
    let magic = V::splat(12_582_912.0);
    // In this order, what is not a number stays so: both take the second operand then.
    let x = V::splat(-87.0).max(V::splat(87.0).min(x));
    let shifted = x.mul_add(V::splat(std::f32::consts::LOG2_E), magic);
    let n = shifted.sub(magic);
    // ln(2) in two parts, so that n·ln(2) is exact where it matters.
    let r = n.mul_add(V::splat(-0.693_359_4), x);
    let r = n.mul_add(V::splat(2.121_944_4e-4), r);
    let p = V::splat(1.987_569_1e-4);
    let p = p.mul_add(r, V::splat(1.398_199_9e-3));
    let p = p.mul_add(r, V::splat(8.333_452e-3));
    let p = p.mul_add(r, V::splat(4.166_579_6e-2));
    let p = p.mul_add(r, V::splat(1.666_666_6e-1));
    let p = p.mul_add(r, V::splat(0.5));
    let value = p.mul(r).mul_add(r, r).add(V::splat(1.0));
    value.mul(shifted.power_of_two())
}

/// 1 / (1 + e^-x)
#[inline(always)]
pub(super) fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp(V::splat(0.0).sub(x))))
}

/// x·sigmoid(x)
#[inline(always)]
pub(super) fn silu<V: Vector>(x: V) -> V {
    x.mul(sigmoid(x))
}

/// Eight lanes in an array, for every machine; the compiler makes of it what the target has (SSE2, NEON).
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut result = self.0;
        for l in 0..8 {
            result[l] = f(result[l], b.0[l]);
        }
        Self(result)
    }
}

impl Vector for Portable {
    const LANES: usize = 8;
    type Square = [Self; 8];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's values; an array of f32 needs no more alignment than they have.
        Self(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { *to.cast() = self.0 };
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: as in `load`.
        let bits: [u16; 8] = unsafe { *from.cast() };
        Self(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: as in `load`.
        unsafe { *to.cast() = self.0.map(|x| burn::tensor::bf16::from_f32(x).to_bits()) };
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(first: Self, second: Self, to: *mut u32) {
        let bits = |x: f32| u32::from(burn::tensor::bf16::from_f32(x).to_bits());
        let mut pairs = [0; 8];
        for l in 0..8 {
            pairs[l] = bits(first.0[l]) | bits(second.0[l]) << 16;
        }
        // SAFETY: as in `load`.
        unsafe { *to.cast() = pairs };
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let mut result = c.0;
        for l in 0..8 {
            // One instruction on aarch64; on x86-64 without FMA it would be a library call.
            result[l] = if cfg!(target_arch = "aarch64") {
                self.0[l].mul_add(b.0[l], result[l])
            } else {
                self.0[l] * b.0[l] + result[l]
            };
        }
        Self(result)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.zip(self, |a, _| a.sqrt())
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        self.zip(self, |a, _| {
            f32::from_bits(a.to_bits().wrapping_add(127) << 23)
        })
    }
    #[inline(always)]
    fn square() -> Self::Square {
        [Self([0.0; 8]); 8]
    }
    #[inline(always)]
    fn transpose(square: &mut Self::Square) {
        for i in 0..8 {
            for j in 0..i {
                (square[i].0[j], square[j].0[i]) = (square[j].0[i], square[i].0[j]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Kernel, dispatch};
    use super::*;

    struct Exp<'a> {
        x: &'a [f32],
        y: &'a mut [f32],
    }

    impl Kernel for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self) {
            let lanes = self.x.chunks_exact(V::LANES);
            for (y, x) in self.y.chunks_exact_mut(V::LANES).zip(lanes) {
                // SAFETY: chunks of a vector's length.
                unsafe { exp(V::load(x.as_ptr())).store(y.as_mut_ptr()) };
            }
        }
    }

    #[test]
    fn exponential_is_accurate() {
        let x: Vec<f32> = (-870_000..870_000).map(|i| i as f32 * 1e-4).collect();
        for &isa in Isa::available() {
            let mut y = vec![0.0f32; x.len()];
            dispatch(isa, Exp { x: &x, y: &mut y });
            let worst = x.iter().zip(&y).fold(0.0f64, |worst, (x, y)| {
                let exact = f64::from(*x).exp();
                worst.max((f64::from(*y) - exact).abs() / exact)
            });
            // Two units in the last place of an f32.
            assert!(worst < 2.4e-7, "{isa:?}: {worst:e}");
            let far = [1000.0, -1000.0].repeat(MOST_LANES / 2);
            let mut y = vec![0.0f32; MOST_LANES];
            dispatch(isa, Exp { x: &far, y: &mut y });
            assert!(y[0].is_finite() && y[1] < 1e-37, "{isa:?}: {y:?}");
            let none = [f32::NAN; MOST_LANES];
            dispatch(
                isa,
                Exp {
                    x: &none,
                    y: &mut y,
                },
            );
            assert!(y.iter().all(|y| y.is_nan()), "{isa:?}: {y:?}");
        }
    }

    /// Everything else that a vector does, on numbers that tell lanes and operands apart.
    struct Arithmetic;

    impl Kernel for Arithmetic {
        type Output = ();

        fn run<V: Vector>(self) {
            let a: Vec<f32> = (0..V::LANES).map(|l| l as f32 + 1.0).collect();
            let b: Vec<f32> = (0..V::LANES).map(|l| 20.0 - 3.0 * l as f32).collect();
            // SAFETY: the slices have a vector's length.
            unsafe {
                let (x, y) = (V::load(a.as_ptr()), V::load(b.as_ptr()));
                let check = |found: V, expected: fn(f32, f32) -> f32| {
                    let mut lanes = [0.0; MOST_LANES];
                    found.store(lanes.as_mut_ptr());
                    for l in 0..V::LANES {
                        assert_eq!(lanes[l], expected(a[l], b[l]), "lane {l}");
                    }
                };
                check(x.add(y), |a, b| a + b);
                check(x.sub(y), |a, b| a - b);
                check(x.mul(y), |a, b| a * b);
                check(x.div(y), |a, b| a / b);
                check(x.max(y), f32::max);
                check(x.min(y), f32::min);
                check(x.sqrt(), |a, _| a.sqrt());
                check(x.mul_add(y, x), |a, b| a * b + a);
                check(V::splat(3.0), |_, _| 3.0);
                let (magic, two) = (V::splat(12_582_912.0), V::splat(2.0));
                check(magic.add(two).power_of_two(), |_, _| 4.0);
                assert_eq!(x.total(), a.iter().map(|&a| f64::from(a)).sum::<f64>());
                check(
                    V::gather(a.as_ptr(), 1, 1),
                    |a, _| if a == 1.0 { a } else { 0.0 },
                );
                let two: Vec<f32> = a.iter().flat_map(|&a| [a, 0.0]).collect();
                check(V::strided(two.as_ptr(), 2), |a, _| a);
                let mut apart = [0.0f32; 4];
                x.scatter(apart.as_mut_ptr(), 2, 3);
                assert_eq!(apart, [1.0, 0.0, 0.0, 2.0]);
                let mut square = V::square();
                for (i, row) in square.as_mut().iter_mut().enumerate() {
                    let values: Vec<f32> = (0..V::LANES).map(|j| (100 * i + j) as f32).collect();
                    *row = V::load(values.as_ptr());
                }
                V::transpose(&mut square);
                for (i, row) in square.as_ref().iter().enumerate() {
                    let mut lanes = [0.0; MOST_LANES];
                    row.store(lanes.as_mut_ptr());
                    for (j, lane) in lanes[..V::LANES].iter().enumerate() {
                        assert_eq!(*lane, (100 * j + i) as f32, "row {i}, lane {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn arithmetic_is_that_of_each_lane() {
        for &isa in Isa::available() {
            dispatch(isa, Arithmetic);
        }
    }
}
