//! Attention over all pixels and a few learned keys and values.

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{FloatDType, Tensor};

use super::block::RmsNorm;
use super::config::MEMORY;
use crate::attention::pointwise;
use crate::init::Init;
use crate::layers::Conv2d;

/// Normalise, attend, project, add the input. Linear attention (Katharopoulos et al. 2020, with the softmaxes of Shen et
/// al. 2021) normalises what it projected once more.
#[derive(Module, Debug)]
pub struct LucidrainsAttention {
    norm: RmsNorm,
    mem_kv: Param<Tensor<4>>,
    to_qkv: Param<Tensor<4>>,
    to_out: Conv2d,
    to_out_norm: Option<RmsNorm>,
    #[module(skip)]
    heads: usize,
}

impl LucidrainsAttention {
    pub(super) fn new(
        channels: usize,
        full: bool,
        [heads, dim]: [usize; 2],
        init: &mut Init,
    ) -> Self {
        let inner = heads * dim;
        let memory = match full {
            true => [2, heads, MEMORY, dim],
            false => [2, heads, dim, MEMORY],
        };
        Self {
            norm: RmsNorm::new(channels, init),
            mem_kv: init.normal(memory, 1.0),
            to_qkv: init.fan_in([3 * inner, channels, 1, 1], channels),
            to_out: Conv2d::same(inner, channels, 1, init),
            to_out_norm: (!full).then(|| RmsNorm::new(channels, init)),
            heads,
        }
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = x.dims();
        let (heads, tokens) = (self.heads, height * width);
        let weight = self.to_qkv.val();
        let rows = weight.dims()[0];
        let (inner, dim) = (rows / 3, rows / 3 / heads);
        let bias = Tensor::zeros([1, rows], &x.device());
        let qkv = pointwise(weight, bias).forward(self.norm.forward(x.clone()));
        let dtype: FloatDType = qkv.dtype().into();
        // [batch, 3·heads·dim, height, width] -> [batch, heads, dim, tokens]
        let part = |i: usize| {
            let part = qkv.clone().narrow(1, i * inner, inner);
            part.reshape([batch, heads, dim, tokens])
        };
        // [batch, heads, dim, memory + tokens]
        let with_memory = |i: usize| {
            let memory = self.mem_kv.val().narrow(0, i, 1).cast(dtype);
            let memory = match self.to_out_norm {
                None => memory.swap_dims(2, 3),
                Some(_) => memory,
            };
            Tensor::cat(
                vec![memory.expand([batch, heads, dim, MEMORY]), part(i + 1)],
                3,
            )
        };
        let (q, k, v) = (part(0), with_memory(0), with_memory(1));
        let scale = (dim as f64).sqrt().recip();
        // [batch, heads, dim, tokens]
        let out = match self.to_out_norm {
            None => {
                // [batch, heads, tokens, memory + tokens]
                let weights = softmax((q * scale).swap_dims(2, 3).matmul(k), 3);
                v.matmul(weights.swap_dims(2, 3))
            }
            Some(_) => {
                // [batch, heads, dim, dim]: values of each channel of the keys
                let context = softmax(k, 3).matmul(v.swap_dims(2, 3));
                context.swap_dims(2, 3).matmul(softmax(q, 2) * scale)
            }
        };
        let y = self
            .to_out
            .forward(out.reshape([batch, inner, height, width]));
        match &self.to_out_norm {
            None => x + y,
            Some(norm) => x + norm.forward(y),
        }
    }
}
