//! Vectors of x86-64: AVX2 with FMA, and AVX-512.

use std::arch::x86_64::*;

use super::Vector;

/// Eight lanes of AVX2, with FMA.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Avx2(__m256);

/// Sixteen lanes of AVX-512 (F and DQ).
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Avx512(__m512);

// SAFETY of all blocks below: whoever has one of these types has found its instructions; addresses are
// the caller's, and the loads and stores are those that need no alignment.

impl Vector for Avx2 {
    const LANES: usize = 8;
    type Square = [Self; 8];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) };
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        Self(unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        unsafe {
            let chosen = _mm256_srli_epi32::<16>(rounded256(self.0));
            let low = _mm256_castsi256_si128(chosen);
            let high = _mm256_extracti128_si256::<1>(chosen);
            _mm_storeu_si128(to.cast(), _mm_packus_epi32(low, high));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(first: Self, second: Self, to: *mut u32) {
        unsafe {
            let low = _mm256_srli_epi32::<16>(rounded256(first.0));
            let high = _mm256_and_si256(rounded256(second.0), _mm256_set1_epi32(!0xffff));
            _mm256_storeu_si256(to.cast(), _mm256_or_si256(low, high));
        }
    }
    #[inline(always)]
    unsafe fn strided(from: *const f32, stride: usize) -> Self {
        Self(unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let places = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(stride as i32));
            _mm256_i32gather_ps::<4>(from, places)
        })
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(unsafe {
            let exponent = _mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn square() -> Self::Square {
        [Self::splat(0.0); 8]
    }
    #[inline(always)]
    fn transpose(square: &mut Self::Square) {
        *square = unsafe { transpose(square.map(|row| row.0)) }.map(Self);
    }
}

/// The nearest bf16 in the upper half of each lane: half of the last place that stays is added, less one where that place
/// is even. What is not a number is kept quiet instead.
#[inline(always)]
unsafe fn rounded256(x: __m256) -> __m256i {
    unsafe {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_add_epi32(bits, half);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        let none = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        _mm256_blendv_epi8(rounded, quiet, none)
    }
}

/// The same of 16 lanes.
#[inline(always)]
unsafe fn rounded512(x: __m512) -> __m512i {
    unsafe {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let none = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
        _mm512_mask_mov_epi32(_mm512_add_epi32(bits, half), none, quiet)
    }
}

/// Rows to columns of 8×8 values, by pairs, by fours, by halves.
#[inline(always)]
unsafe fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    unsafe {
        let pairs = [
            _mm256_unpacklo_ps(r[0], r[1]),
            _mm256_unpackhi_ps(r[0], r[1]),
            _mm256_unpacklo_ps(r[2], r[3]),
            _mm256_unpackhi_ps(r[2], r[3]),
            _mm256_unpacklo_ps(r[4], r[5]),
            _mm256_unpackhi_ps(r[4], r[5]),
            _mm256_unpacklo_ps(r[6], r[7]),
            _mm256_unpackhi_ps(r[6], r[7]),
        ];
        let fours = [
            _mm256_shuffle_ps::<0x44>(pairs[0], pairs[2]),
            _mm256_shuffle_ps::<0xee>(pairs[0], pairs[2]),
            _mm256_shuffle_ps::<0x44>(pairs[1], pairs[3]),
            _mm256_shuffle_ps::<0xee>(pairs[1], pairs[3]),
            _mm256_shuffle_ps::<0x44>(pairs[4], pairs[6]),
            _mm256_shuffle_ps::<0xee>(pairs[4], pairs[6]),
            _mm256_shuffle_ps::<0x44>(pairs[5], pairs[7]),
            _mm256_shuffle_ps::<0xee>(pairs[5], pairs[7]),
        ];
        [
            _mm256_permute2f128_ps::<0x20>(fours[0], fours[4]),
            _mm256_permute2f128_ps::<0x20>(fours[1], fours[5]),
            _mm256_permute2f128_ps::<0x20>(fours[2], fours[6]),
            _mm256_permute2f128_ps::<0x20>(fours[3], fours[7]),
            _mm256_permute2f128_ps::<0x31>(fours[0], fours[4]),
            _mm256_permute2f128_ps::<0x31>(fours[1], fours[5]),
            _mm256_permute2f128_ps::<0x31>(fours[2], fours[6]),
            _mm256_permute2f128_ps::<0x31>(fours[3], fours[7]),
        ]
    }
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    type Square = [Self; 16];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) };
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        Self(unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        unsafe {
            let chosen = _mm512_srli_epi32::<16>(rounded512(self.0));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(chosen));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(first: Self, second: Self, to: *mut u32) {
        unsafe {
            let low = _mm512_srli_epi32::<16>(rounded512(first.0));
            let high = _mm512_and_si512(rounded512(second.0), _mm512_set1_epi32(!0xffff));
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(low, high));
        }
    }
    #[inline(always)]
    unsafe fn strided(from: *const f32, stride: usize) -> Self {
        Self(unsafe {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let places = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32));
            _mm512_i32gather_ps::<4>(places, from)
        })
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(unsafe {
            let exponent = _mm512_add_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn square() -> Self::Square {
        [Self::splat(0.0); 16]
    }
    /// Four squares of 8×8, of which two change places.
    #[inline(always)]
    fn transpose(square: &mut Self::Square) {
        unsafe {
            let zero = _mm256_setzero_ps();
            let mut quarters = [[[zero; 8]; 2]; 2];
            for i in 0..8 {
                for half in 0..2 {
                    let row = square[8 * half + i].0;
                    quarters[half][0][i] = _mm512_extractf32x8_ps::<0>(row);
                    quarters[half][1][i] = _mm512_extractf32x8_ps::<1>(row);
                }
            }
            for half in 0..2 {
                let (left, right) = (transpose(quarters[0][half]), transpose(quarters[1][half]));
                for i in 0..8 {
                    let row = _mm512_castps256_ps512(left[i]);
                    square[8 * half + i] = Self(_mm512_insertf32x8::<1>(row, right[i]));
                }
            }
        }
    }
}
