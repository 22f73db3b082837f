//! Group normalisation, with or without SiLU after it.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

/// How a normalisation groups its channels, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNormOptions {
    /// Groups that the channels are split into; divides their number.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether x·sigmoid(x) is applied to the result.
    pub silu: bool,
}

/// Brings each group of each image to mean 0 and variance 1 (biased), then scales and shifts each channel
/// (Wu & He 2018), and applies SiLU if asked.
///
/// # Shapes   `x`: `[batch, channels, height, width]`, `weight`, `bias`: `[1, channels]`, or
/// `[batch, channels]`: one for each image; returns as `x`
pub fn group_norm(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<2>,
    options: GroupNormOptions,
) -> Tensor<4> {
    #[cfg(any(feature = "flex", feature = "cube"))]
    if crate::Place::of(&x.device()).has_kernels() {
        return crate::extension::group_norm(x, weight, bias, options);
    }
    reference(x, weight, bias, options)
}

/// burn's own operations: what other devices use, and what the kernel is tested against.
pub(crate) fn reference(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<2>,
    options: GroupNormOptions,
) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let groups = options.groups;
    // [batch, channels, height, width] -> [batch, groups, channels/groups · height · width]
    let grouped = x.reshape([batch, groups, channels / groups * height * width]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normal = centred / (variance + options.eps).sqrt();
    // back to [batch, channels, height, width]
    let normal = normal.reshape([batch, channels, height, width]);
    // [1 or batch, channels] -> [1 or batch, channels, 1, 1]
    let y = normal * weight.unsqueeze_dims::<4>(&[2, 3]) + bias.unsqueeze_dims::<4>(&[2, 3]);
    if options.silu { silu(y) } else { y }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
