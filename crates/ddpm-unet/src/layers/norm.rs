//! Group normalisation.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ddpm_kernels::{GroupNormOptions, group_norm};

use crate::error::UnetError;
use crate::init::Init;
use crate::layers::Activation;

/// Group normalisation (Wu & He 2018): each image's channels are split into groups, each group is
/// brought to mean 0 and variance 1 (biased), then scaled and shifted per channel.
#[derive(Module, Debug)]
pub struct GroupNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    groups: usize,
    #[module(skip)]
    eps: f64,
}

impl GroupNorm {
    /// # Errors   [`UnetError::Config`] if `groups` does not divide `channels`
    pub fn new(
        groups: usize,
        channels: usize,
        eps: f64,
        init: &mut Init,
    ) -> Result<Self, UnetError> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(UnetError::Config {
                key: "groups".into(),
                got: groups.to_string(),
                expected: format!("must divide the {channels} channels that are normalised"),
            });
        }
        Ok(Self {
            weight: init.constant([channels], 1.0),
            bias: init.constant([channels], 0.0),
            groups,
            eps,
        })
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.apply(x, false)
    }

    /// The normalisation, then `activation`.
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub fn forward_then(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        match activation {
            Activation::Silu => self.apply(x, true),
            Activation::Relu | Activation::Gelu | Activation::Mish => {
                activation.apply(self.apply(x, false))
            }
        }
    }

    fn apply(&self, x: Tensor<4>, silu: bool) -> Tensor<4> {
        let options = GroupNormOptions {
            groups: self.groups,
            eps: self.eps,
            silu,
        };
        group_norm(x, self.weight.val(), self.bias.val(), options)
    }
}
