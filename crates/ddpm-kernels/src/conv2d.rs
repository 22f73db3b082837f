//! 2-d convolution with bias.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

/// Stride and zero padding of a convolution, the same for rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Pixels between two outputs.
    pub stride: usize,
    /// Zeros (above and left, below and right).
    pub padding: (usize, usize),
}

/// y\[b,o,i,j\] = bias\[o\] + Σ weight\[o,c,u,v\] · x\[b, c, stride·i + u - pad, stride·j + v - pad\]
///
/// # Shapes   `x`: `[batch, in, height, width]`, `weight`: `[out, in, k, k]`, `bias`: `[out]`; returns
/// `[batch, out, height', width']` with height' = (height + both paddings - k) / stride + 1
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: Conv2dOptions,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if crate::is_cpu(&x.device()) {
        return crate::cpu::conv2d(x, weight, bias, options);
    }
    reference(x, weight, bias, options)
}

/// burn's own operation: what other devices use, and what the kernel is tested against.
pub(crate) fn reference(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let options = ConvOptions {
        stride: [options.stride; 2],
        padding: [options.padding; 2],
        dilation: [1; 2],
        groups: 1,
    };
    burn::tensor::module::conv2d(x, weight, Some(bias), options)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
