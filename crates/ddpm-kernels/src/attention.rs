//! Attention with all pixels of an image as tokens.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

/// Softmax(q·kᵀ/√dim)·v in every head (Vaswani et al. 2017, eq. 1), with pixels as tokens.
///
/// # Shapes   `qkv`: `[batch, 3·heads·dim, height, width]`, all queries, then all keys, then all values,
/// head by head; returns `[batch, heads·dim, height, width]`
pub fn attention(qkv: Tensor<4>, heads: usize) -> Tensor<4> {
    #[cfg(any(feature = "flex", feature = "cube"))]
    if crate::Place::of(&qkv.device()).has_kernels() {
        return crate::extension::attention(qkv, heads);
    }
    reference(qkv, heads)
}

/// burn's own operations: what other devices use, and what the kernel is tested against.
pub(crate) fn reference(qkv: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, channels, height, width] = qkv.dims();
    let (inner, tokens) = (channels / 3, height * width);
    let dim = inner / heads;
    let head = |part: usize| {
        // [batch, inner, height, width] -> [batch, heads, dim, tokens] -> [batch, heads, tokens, dim]
        qkv.clone()
            .narrow(1, part * inner, inner)
            .reshape([batch, heads, dim, tokens])
            .swap_dims(2, 3)
    };
    let scale = (dim as f64).sqrt().recip();
    // [batch, heads, tokens, tokens]
    let weights = softmax((head(0) * scale).matmul(head(1).swap_dims(2, 3)), 3);
    // [batch, heads, tokens, dim] -> [batch, inner, height, width]
    weights
        .matmul(head(2))
        .swap_dims(2, 3)
        .reshape([batch, inner, height, width])
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
