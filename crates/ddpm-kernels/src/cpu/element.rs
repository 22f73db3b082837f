//! Numbers as they lie in memory. Kernels compute in f32, whatever they read and write.

#![allow(unsafe_code, reason = "vectors are loaded and stored through pointers")]

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape, bf16};

use super::tile::Unit;
use super::vector::{MOST_LANES, Vector};

/// A number that activations and their gradients are kept as.
pub(super) trait Element: Copy + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;

    /// What multiplies tiles of such numbers on this machine, if anything does.
    fn unit() -> Option<Unit>;
    /// The values of a tensor of such numbers.
    fn values(tensor: &FlexTensor) -> &[Self];
    /// The same, to write.
    fn values_mut(tensor: &mut FlexTensor) -> &mut [Self];
    /// A tensor that owns `values`.
    fn tensor(values: Vec<Self>, shape: Shape) -> FlexTensor;
    /// The nearest such number, the even one of two (IEEE 754, 4.3.1).
    fn from_f32(x: f32) -> Self;
    /// The same number.
    fn to_f32(self) -> f32;
    /// The values themselves, if they are f32.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;
    /// # Safety
    /// `V::LANES` values must be readable at `from`.
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    /// # Safety
    /// `V::LANES` values must be writable at `to`.
    unsafe fn store<V: Vector>(value: V, to: *mut Self);

    /// `count` numbers as bf16.
    ///
    /// # Safety
    /// They must be readable at `from` and writable at `to`.
    #[inline(always)]
    unsafe fn to_bf16<V: Vector>(from: *const Self, to: *mut u16, count: usize) {
        // SAFETY: at most `count` numbers are read and written.
        unsafe {
            let mut i = 0;
            while i + V::LANES <= count {
                Self::load::<V>(from.add(i)).store_bf16(to.add(i));
                i += V::LANES;
            }
            while i < count {
                *to.add(i) = bf16::from_f32((*from.add(i)).to_f32()).to_bits();
                i += 1;
            }
        }
    }

    /// The first `count` lanes from `from`, zeros in the others.
    ///
    /// # Safety
    /// `count` values, at most `V::LANES`, must be readable `stride` apart.
    #[inline(always)]
    unsafe fn gather<V: Vector>(from: *const Self, count: usize, stride: usize) -> V {
        let mut lanes = [0.0f32; MOST_LANES];
        for (l, lane) in lanes[..V::LANES].iter_mut().enumerate().take(count) {
            // SAFETY: l < count.
            *lane = unsafe { *from.add(l * stride) }.to_f32();
        }
        // SAFETY: no vector has more lanes.
        unsafe { V::load(lanes.as_ptr()) }
    }

    /// Writes the first `count` lanes `stride` apart.
    ///
    /// # Safety
    /// `count` values, at most `V::LANES`, must be writable `stride` apart.
    #[inline(always)]
    unsafe fn scatter<V: Vector>(value: V, to: *mut Self, count: usize, stride: usize) {
        let mut lanes = [0.0f32; MOST_LANES];
        // SAFETY: no vector has more lanes, and l < count.
        unsafe {
            value.store(lanes.as_mut_ptr());
            for (l, lane) in lanes[..V::LANES].iter().enumerate().take(count) {
                *to.add(l * stride) = Self::from_f32(*lane);
            }
        }
    }
}

/// `count` values as f32.
///
/// # Safety
/// They must be readable at `from` and writable at `to`.
#[inline(always)]
pub(super) unsafe fn widen<V: Vector, E: Element>(from: *const E, to: *mut f32, count: usize) {
    // SAFETY: at most `count` values are read and written.
    unsafe {
        let mut i = 0;
        while i + V::LANES <= count {
            E::load::<V>(from.add(i)).store(to.add(i));
            i += V::LANES;
        }
        while i < count {
            *to.add(i) = (*from.add(i)).to_f32();
            i += 1;
        }
    }
}

/// `count` f32, rounded.
///
/// # Safety
/// They must be readable at `from` and writable at `to`.
#[inline(always)]
pub(super) unsafe fn narrow<V: Vector, E: Element>(from: *const f32, to: *mut E, count: usize) {
    // SAFETY: at most `count` values are read and written.
    unsafe {
        let mut i = 0;
        while i + V::LANES <= count {
            E::store(V::load(from.add(i)), to.add(i));
            i += V::LANES;
        }
        while i < count {
            *to.add(i) = E::from_f32(*from.add(i));
            i += 1;
        }
    }
}

impl Element for f32 {
    const ZERO: Self = 0.0;

    fn unit() -> Option<Unit> {
        None
    }
    fn values(tensor: &FlexTensor) -> &[Self] {
        tensor.storage()
    }
    fn values_mut(tensor: &mut FlexTensor) -> &mut [Self] {
        tensor.storage_mut()
    }
    fn tensor(values: Vec<Self>, shape: Shape) -> FlexTensor {
        FlexTensor::new(
            Bytes::from_elems(values),
            Layout::contiguous(shape),
            DType::F32,
        )
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn as_f32(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut Self) {
        // SAFETY: the caller's.
        unsafe { value.store(to) };
    }
}

impl Element for bf16 {
    const ZERO: Self = Self::ZERO;

    fn unit() -> Option<Unit> {
        Unit::best()
    }
    fn values(tensor: &FlexTensor) -> &[Self] {
        tensor.storage()
    }
    fn values_mut(tensor: &mut FlexTensor) -> &mut [Self] {
        tensor.storage_mut()
    }
    fn tensor(values: Vec<Self>, shape: Shape) -> FlexTensor {
        FlexTensor::new(
            Bytes::from_elems(values),
            Layout::contiguous(shape),
            DType::BF16,
        )
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's; a bf16 is its 16 bits.
        unsafe { V::load_bf16(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut Self) {
        // SAFETY: as in `load`.
        unsafe { value.store_bf16(to.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Kernel, dispatch};
    use super::*;

    /// bf16 → f32 → bf16 of a vector's worth of numbers.
    struct Round<'a> {
        from: &'a [f32],
        to: &'a mut [bf16],
        back: &'a mut [f32],
    }

    impl Kernel for Round<'_> {
        type Output = ();

        fn run<V: Vector>(self) {
            for i in (0..self.from.len()).step_by(V::LANES) {
                // SAFETY: the lengths are multiples of every vector's.
                unsafe {
                    let to = self.to.as_mut_ptr().add(i);
                    <bf16 as Element>::store(V::load(self.from.as_ptr().add(i)), to);
                    <bf16 as Element>::load::<V>(to).store(self.back.as_mut_ptr().add(i));
                }
            }
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_even_one() {
        // Every pattern of the upper bits with lower bits below, at and above the middle; infinities and NaNs among them.
        let from: Vec<f32> = (0..=u16::MAX)
            .flat_map(|high| [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| (high, low)))
            .map(|(high, low)| f32::from_bits(u32::from(high) << 16 | low))
            .chain([0.0; 2 * MOST_LANES])
            .collect();
        let from = &from[..from.len() / MOST_LANES * MOST_LANES];
        for &isa in Isa::available() {
            let (mut to, mut back) = (vec![bf16::ZERO; from.len()], vec![0.0; from.len()]);
            let round = Round {
                from,
                to: &mut to,
                back: &mut back,
            };
            dispatch(isa, round);
            for ((from, to), back) in from.iter().zip(&to).zip(&back) {
                let expected = bf16::from_f32(*from);
                if from.is_nan() {
                    assert!(to.is_nan() && back.is_nan(), "{isa:?} {from}");
                } else {
                    assert_eq!(to.to_bits(), expected.to_bits(), "{isa:?} {from:e}");
                    assert_eq!(
                        back.to_bits(),
                        expected.to_f32().to_bits(),
                        "{isa:?} {from:e}"
                    );
                }
            }
        }
    }
}
