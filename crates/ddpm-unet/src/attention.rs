//! Self-attention over the pixels of a feature map.

use burn::module::Module;
use burn::tensor::Tensor;
use ddpm_kernels::{Conv2dOptions, Convolution, attention};

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
        let heads = heads(channels, head_dim)?;
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
        // Tokens are pixels, so each linear layer is a 1×1 convolution; queries, keys and values are one.
        let (weights, biases): (Vec<_>, Vec<_>) = [&self.to_q, &self.to_k, &self.to_v]
            .map(Linear::per_pixel)
            .into_iter()
            .unzip();
        // [batch, channels, height, width] -> [batch, 3·heads·head_dim, height, width]
        let qkv = Convolution {
            norm: self.group_norm.as_ref().map(GroupNorm::alone),
            ..pointwise(Tensor::cat(weights, 0), Tensor::cat(biases, 1))
        }
        .forward(x.clone());
        // [batch, heads·head_dim, height, width]
        let mut out = attention(qkv, self.heads);
        let mut residual = Some(x);
        for layer in &self.to_out {
            let (weight, bias) = layer.per_pixel();
            let projection = Convolution {
                residual: residual.take(),
                ..pointwise(weight, bias)
            };
            out = projection.forward(out);
        }
        scale_down(out, self.output_scale)
    }
}

/// How many heads of `head_dim` channels fit into `channels`.
///
/// # Errors   [`UnetError::Config`] if none does
pub(crate) fn heads(channels: usize, head_dim: usize) -> Result<usize, UnetError> {
    if head_dim == 0 || head_dim > channels {
        return Err(UnetError::Config {
            key: "head_dim".into(),
            got: head_dim.to_string(),
            expected: format!("must be between 1 and the level's {channels} channels"),
        });
    }
    Ok(channels / head_dim)
}

/// A 1×1 convolution.
pub(crate) fn pointwise(weight: Tensor<4>, bias: Tensor<2>) -> Convolution<'static> {
    Convolution {
        norm: None,
        weight,
        bias,
        residual: None,
        options: Conv2dOptions {
            stride: 1,
            padding: (0, 0),
            upsample_nearest_2x: false,
        },
        cache: None,
    }
}
