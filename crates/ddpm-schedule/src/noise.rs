//! Counter-based random numbers: every draw is a pure function of (seed, stream, step, index).
//!
//! There is no generator state, so nothing has to be saved for an exact resume, no order
//! of calls matters, and image `i` of a seed is the same in any batch. The bits come from
//! Philox4x32-10 (Salmon et al. 2011), the normals from Box–Muller with `libm`'s pure Rust
//! logarithm and sine, so that the same address gives the same bits on every platform.
//!
//! An address is used for one purpose only: two kinds of draw ([`normal_fill`],
//! [`uniform_fill`], [`bits`], [`below`]) at one address share their random bits.

mod permutation;
mod philox;

use philox::philox4x32_10;

pub use permutation::permute;

/// What a random number is for; draws of different streams are independent.
///
/// The numbers are part of every saved run's meaning: never change one, only add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Stream {
    /// Initial weights of a network; index = number of the parameter.
    Init = 1,
    /// Time steps drawn in training.
    TrainTime = 2,
    /// The ε of a training example.
    TrainNoise = 3,
    /// Dropout masks.
    Dropout = 4,
    /// x_T of a sample; index = number of the image.
    SampleInit = 5,
    /// The noise a stochastic sampler adds; step = number of the sampler step.
    SampleStep = 6,
    /// The order of the training examples.
    Order = 7,
    /// Whether a training example is mirrored.
    Flip = 8,
    /// Images of the synthetic data source.
    Synthetic = 9,
    /// Class labels drawn for conditional samples.
    Labels = 10,
    /// Noise that all pixels of a channel share, in training.
    OffsetNoise = 11,
    /// Noise in what the network is shown, and not in what it is to output.
    InputNoise = 12,
    /// Whether a step of training tells the network what it expected.
    SelfCondition = 14,
    /// What the learned uncertainty of noise levels is a function of: index 0 = frequencies, 1 = phases.
    Uncertainty = 15,
    /// Whether a training example's class and numbers are told; index = row.
    ConditionDropout = 16,
    /// How much noise the picture of a training example gets.
    PictureLevel = 17,
    /// The noise of that picture, and of one that is sampled from.
    PictureNoise = 18,
    /// The noise of a likelihood; step = time step, index = number of the image.
    Likelihood = 13,
    /// The noise that a given image drowns in before it is sampled anew; index = number of the result.
    EditStart = 20,
    /// The noise of the kept part of an image that is painted in; index = number of the result.
    EditKept = 21,
    /// The noise of RePaint's steps there and back; step = number of the operation.
    Repaint = 22,
    /// Whether a training example is mirrored top to bottom; as of the streams below, step = epoch, index = number of the
    /// image.
    AugmentFlip = 30,
    /// By how many quarters of a turn it is turned.
    AugmentTurn = 31,
    /// The part of it that is shown.
    AugmentCrop = 32,
    /// How its colours are changed.
    AugmentJitter = 33,
    /// Which transformations of EDM's augmentation it gets, and what of them is uniform.
    AugmentEdm = 34,
    /// What of them is normal.
    AugmentEdmNormal = 35,
    /// Resampled images of a quality figure's interval.
    Bootstrap = 40,
}

/// The Philox key of one (seed, stream, step), for devices that draw by themselves.
///
/// Block b of index i is what Philox4x32-10 assigns to the counter of the words of b and i, the low ones first.
/// The three do not fit beside a 64-bit index and a block number into one Philox address
/// (64-bit key, 128-bit counter), so they are hashed to a key by Philox itself. Two
/// addresses share a key with probability 2⁻⁶⁴.
#[must_use]
pub fn key(seed: u64, stream: Stream, step: u64) -> [u32; 2] {
    let counter = [step as u32, (step >> 32) as u32, stream as u32, 0];
    let [a, b, _, _] = philox4x32_10(counter, split(seed));
    [a, b]
}

fn split(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

fn block(key: [u32; 2], index: u64, block: u64) -> [u32; 4] {
    let [i0, i1] = split(index);
    let [b0, b1] = split(block);
    philox4x32_10([b0, b1, i0, i1], key)
}

/// 128 random bits at one address.
#[must_use]
pub fn bits(seed: u64, stream: Stream, step: u64, index: u64) -> [u32; 4] {
    block(key(seed, stream, step), index, 0)
}

/// A random integer in `0..n`, by the high half of a 64-bit product (Lemire 2019, without rejection).
///
/// The probabilities differ from 1/n by at most 2⁻⁶⁴. Returns 0 for `n = 0`.
#[must_use]
pub fn below(seed: u64, stream: Stream, step: u64, index: u64, n: u64) -> u64 {
    let [a, b, _, _] = bits(seed, stream, step, index);
    let x = u64::from(a) | (u64::from(b) << 32);
    ((u128::from(x) * u128::from(n)) >> 64) as u64
}

/// Fills `out` with uniform numbers of [0, 1), multiples of 2⁻⁵³.
///
/// `out[k]` depends on (seed, stream, step, index, k) only: a shorter fill is a prefix of a longer one.
pub fn uniform_fill(seed: u64, stream: Stream, step: u64, index: u64, out: &mut [f64]) {
    let key = key(seed, stream, step);
    for (i, pair) in out.chunks_mut(2).enumerate() {
        let [a, b, c, d] = block(key, index, i as u64);
        for (x, (low, high)) in pair.iter_mut().zip([(a, b), (c, d)]) {
            let word = u64::from(low) | (u64::from(high) << 32);
            *x = (word >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        }
    }
}

/// Fills `out` with standard normal numbers: the elements of item `index`.
///
/// Box–Muller on pairs of 32-bit uniforms, always one Philox block for four numbers.
/// `out[k]` depends on (seed, stream, step, index, k) only: a shorter fill is a prefix of
/// a longer one. The radius comes from 32 bits, so no number lies beyond ±6.77; a true
/// normal does with probability 1.3·10⁻¹¹.
pub fn normal_fill(seed: u64, stream: Stream, step: u64, index: u64, out: &mut [f32]) {
    let key = key(seed, stream, step);
    let mut chunks = out.chunks_exact_mut(4);
    let mut number = 0;
    for chunk in &mut chunks {
        chunk.copy_from_slice(&normals(block(key, index, number)));
        number += 1;
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        rest.copy_from_slice(&normals(block(key, index, number))[..rest.len()]);
    }
}

fn normals(words: [u32; 4]) -> [f32; 4] {
    let [a, b] = box_muller(words[0], words[1]);
    let [c, d] = box_muller(words[2], words[3]);
    [a, b, c, d]
}

/// Two independent normals from two words (Box & Muller 1958).
fn box_muller(radius: u32, angle: u32) -> [f32; 2] {
    // The half keeps the logarithm's argument above zero; f64 holds both terms exactly.
    let u = ((f64::from(radius) + 0.5) * TWO_POW_MINUS_32) as f32;
    let r = (-2.0 * libm::logf(u)).sqrt();
    // The angle as a signed fraction of a turn: small angles keep all their bits.
    let turn = f64::from(angle as i32) * TWO_POW_MINUS_32;
    let (sin, cos) = libm::sincosf((turn * std::f64::consts::TAU) as f32);
    [r * cos, r * sin]
}

const TWO_POW_MINUS_32: f64 = 1.0 / 4_294_967_296.0;

#[cfg(test)]
mod tests;
