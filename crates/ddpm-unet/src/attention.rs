//! Self-attention over the pixels of a feature map.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use crate::error::UnetError;
use crate::init::Init;
use crate::layers::{GroupNorm, Linear};
use crate::resnet::scale_down;

/// Normalise, attend over all pixels with one or many heads, project, add the input
/// (Vaswani et al. 2017; Ho et al. 2020, appendix B).
#[derive(Module, Debug)]
pub struct Attention {
    group_norm: Option<GroupNorm>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    /// One layer; a list because its parameters are called `to_out.0`.
    to_out: Vec<Linear>,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    output_scale: f64,
}

impl Attention {
    /// Attention over `channels` channels in heads of `head_dim` channels, as many as fit.
    ///
    /// # Errors   [`UnetError::Config`] if no head fits or the groups do not divide the channels
    pub fn new(
        channels: usize,
        head_dim: usize,
        groups: Option<usize>,
        eps: f64,
        output_scale: f64,
        init: &mut Init,
    ) -> Result<Self, UnetError> {
        if head_dim == 0 || head_dim > channels {
            return Err(UnetError::Config {
                key: "head_dim".into(),
                got: head_dim.to_string(),
                expected: format!("must be between 1 and the level's {channels} channels"),
            });
        }
        let heads = channels / head_dim;
        let inner = heads * head_dim;
        Ok(Self {
            group_norm: groups
                .map(|groups| GroupNorm::new(groups, channels, eps, init))
                .transpose()?,
            to_q: Linear::new(channels, inner, init),
            to_k: Linear::new(channels, inner, init),
            to_v: Linear::new(channels, inner, init),
            to_out: vec![Linear::last_of_branch(inner, channels, init)],
            heads,
            output_scale,
        })
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let tokens = height * width;
        let normal = match &self.group_norm {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        // [batch, channels, height, width] -> [batch, tokens, channels]
        let normal = normal.reshape([batch, channels, tokens]).swap_dims(1, 2);
        let q = self.split_heads(self.to_q.forward_tokens(normal.clone()));
        let k = self.split_heads(self.to_k.forward_tokens(normal.clone()));
        let v = self.split_heads(self.to_v.forward_tokens(normal));
        let scale = (q.dims()[3] as f64).sqrt().recip();
        // [batch, heads, tokens, tokens]
        let weights = softmax((q * scale).matmul(k.swap_dims(2, 3)), 3);
        // [batch, heads, tokens, head_dim] -> [batch, tokens, heads·head_dim]
        let mixed = weights.matmul(v).swap_dims(1, 2).flatten::<3>(2, 3);
        let mut out = mixed;
        for layer in &self.to_out {
            out = layer.forward_tokens(out);
        }
        // [batch, tokens, channels] -> [batch, channels, height, width]
        let out = out
            .swap_dims(1, 2)
            .reshape([batch, channels, height, width]);
        scale_down(x + out, self.output_scale)
    }

    /// `[batch, tokens, heads·head_dim]` -> `[batch, heads, tokens, head_dim]`
    fn split_heads(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, inner] = x.dims();
        x.reshape([batch, tokens, self.heads, inner / self.heads])
            .swap_dims(1, 2)
    }
}
