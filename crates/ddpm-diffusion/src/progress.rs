//! What an observer sees of a sampler at work.

use burn::tensor::Tensor;
use ddpm_schedule::Level;

/// A sampler after one of its steps.
///
/// The tensors are lent, so that looking costs nothing; cloning one keeps its memory, not a copy.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps planned.
    pub of: usize,
    /// The time that the step began at, in the process's own terms.
    pub t: f64,
    /// How noisy the sample is now.
    pub level: Level,
    /// The sample after this step, the result if it is the last: `[batch, channels, height, width]`.
    pub xt: &'a Tensor<4>,
    /// x̂0, the image that was expected when the denoiser was asked last: the same shape.
    pub x0: &'a Tensor<4>,
}
