//! What an observer sees of a sampler at work.

use burn::tensor::Tensor;

/// A sampler after one of its steps.
///
/// The tensors are lent, so that looking costs nothing; cloning one keeps its memory, not a copy.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps planned.
    pub of: usize,
    /// The time step that the network was asked about.
    pub t: usize,
    /// The sample after this step, the result if it is the last: `[batch, channels, height, width]`.
    pub xt: &'a Tensor<4>,
    /// x̂0, the image that the network expected at the end: the same shape.
    pub x0: &'a Tensor<4>,
}
