//! Dropout by Philox4x32-10 (Salmon et al. 2011) on the GPU: the masks of `ddpm_schedule::noise`, without memory.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{address, dims, elem, empty, grid, vector_size};

#[derive(CubeType)]
struct Words {
    a: u32,
    b: u32,
    c: u32,
    d: u32,
}

#[cube]
fn philox(block: u32, index_low: u32, index_high: u32, key: &Tensor<f32>) -> Words {
    let mut a = block;
    let mut b = 0u32;
    let mut c = index_low;
    let mut d = index_high;
    let mut key_a = u32::cast_from(key[0]) | (u32::cast_from(key[1]) << 16u32);
    let mut key_b = u32::cast_from(key[2]) | (u32::cast_from(key[3]) << 16u32);
    #[unroll]
    for _ in 0..10 {
        let high_a = a.mul_hi(0xD251_1F53u32);
        let low_a = a * 0xD251_1F53u32;
        let high_c = c.mul_hi(0xCD9E_8D57u32);
        let low_c = c * 0xCD9E_8D57u32;
        a = high_c ^ b ^ key_a;
        b = low_c;
        c = high_a ^ d ^ key_b;
        d = low_a;
        key_a += 0x9E37_79B9u32;
        key_b += 0xBB67_AE85u32;
    }
    Words { a, b, c, d }
}

/// `keep`, or 0 if the 53-bit number of two words is below the threshold.
#[cube]
fn factor(low: u32, high: u32, mask: &Mask) -> f32 {
    let top = high >> 11u32;
    let rest = (high << 21u32) | (low >> 11u32);
    let mut factor = mask.keep;
    if top < mask.below_high || (top == mask.below_high && rest < mask.below_low) {
        factor = 0.0f32;
    }
    factor
}

/// What is multiplied with.
#[derive(CubeLaunch, CubeType)]
struct Mask {
    /// The index of the batch's first image, in two words.
    first_low: u32,
    first_high: u32,
    /// 2⁵³·p, in two words.
    below_low: u32,
    below_high: u32,
    keep: f32,
}

/// A thread has some channels of two pixels, since a block of Philox is two numbers.
#[cube(launch, address_type = "dynamic")]
fn drop_out<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    key: &Tensor<f32>,
    out: &mut Tensor<Vector<E, N>>,
    mask: Mask,
    pixels: usize,
    pairs: usize,
    vectors: usize,
    threads: usize,
    #[comptime] lanes: usize,
    #[comptime] odd: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let v = ABSOLUTE_POS % vectors;
    let rest = ABSOLUTE_POS / vectors;
    let pixel = rest % pairs * 2;
    let image = rest / pairs;
    let index_low = mask.first_low + image as u32;
    let mut index_high = mask.first_high;
    if index_low < mask.first_low {
        index_high += 1;
    }
    let mut one = Vector::<f32, N>::new(0.0f32);
    let mut other = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for lane in 0..lanes {
        let number = ((v * lanes + lane) * pixels + pixel) as u32;
        let words = philox(number / 2, index_low, index_high, key);
        let mut first = factor(words.a, words.b, &mask);
        let mut second = factor(words.c, words.d, &mask);
        if odd && number & 1 == 1 {
            let next = philox(number / 2 + 1, index_low, index_high, key);
            first = second;
            second = factor(next.a, next.b, &mask);
        }
        one.insert(lane, first);
        other.insert(lane, second);
    }
    let at = (image * pixels + pixel) * vectors + v;
    out[at] = Vector::cast_from(Vector::<f32, N>::cast_from(x[at]) * one);
    if pixel + 1 < pixels {
        let next = at + vectors;
        out[next] = Vector::cast_from(Vector::<f32, N>::cast_from(x[next]) * other);
    }
}

/// Which elements are dropped.
#[derive(Debug, Clone)]
pub(super) struct Drop {
    /// See [`crate::DropoutKey`].
    pub(super) key: CubeTensor,
    pub(super) probability: f64,
    /// The index of the first image.
    pub(super) first: u64,
}

/// `x`, with channels last, or the gradient of its result: both are multiplied with the same mask.
pub(super) fn dropped(x: &CubeTensor, drop: &Drop) -> CubeTensor {
    let [batch, height, width, channels] = dims(x);
    let pixels = height * width;
    let size = vector_size(channels);
    let vectors = channels / size;
    let out = empty(x, [batch, height, width, channels], x.dtype);
    let pairs = pixels.div_ceil(2);
    let threads = batch * pairs * vectors;
    let (count, dim) = grid(&x.client, threads);
    // u < p for u = w·2⁻⁵³ with a whole number w; scaling by a power of two is exact.
    let below = (drop.probability * (1u64 << 53) as f64).ceil() as u64;
    drop_out::launch(
        &x.client,
        count,
        dim,
        address(&[x]),
        size,
        x.clone().into_tensor_arg(),
        drop.key.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        MaskLaunch::new(
            drop.first as u32,
            (drop.first >> 32) as u32,
            below as u32,
            (below >> 32) as u32,
            (1.0 / (1.0 - drop.probability)) as f32,
        ),
        pixels,
        pairs,
        vectors,
        threads,
        size,
        !pixels.is_multiple_of(2),
        elem(x.dtype),
    );
    out
}
