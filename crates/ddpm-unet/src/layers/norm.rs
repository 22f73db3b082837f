//! Group normalisation.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ddpm_kernels::{GroupNormOptions, Norm, group_norm};

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
        check_groups(groups, channels)?;
        Ok(Self {
            weight: init.constant([channels], 1.0),
            bias: init.constant([channels], 0.0),
            groups,
            eps,
        })
    }

    /// The normalisation, then `activation`.
    pub fn then(&self, activation: Activation) -> NormAct {
        let silu = activation == Activation::Silu;
        NormAct {
            norm: self.with(silu),
            rest: (!silu).then_some(activation),
        }
    }

    /// The normalisation, each image's own scale and shift, norm(x)·(1 + scale) + shift, then `activation`
    /// (Dhariwal & Nichol 2021, section 3: AdaGN).
    ///
    /// # Shapes   `scale`, `shift`: `[batch, channels]`
    pub fn scaled_then(
        &self,
        scale: Tensor<2>,
        shift: Tensor<2>,
        activation: Activation,
    ) -> NormAct {
        let NormAct { norm, rest } = self.then(activation);
        let scale = scale + 1.0;
        NormAct {
            norm: Norm {
                weight: norm.weight * scale.clone(),
                bias: norm.bias * scale + shift,
                options: norm.options,
            },
            rest,
        }
    }

    /// The normalisation alone.
    pub fn alone(&self) -> Norm {
        self.with(false)
    }

    fn with(&self, silu: bool) -> Norm {
        Norm {
            weight: self.weight.val().unsqueeze(),
            bias: self.bias.val().unsqueeze(),
            options: GroupNormOptions {
                groups: self.groups,
                eps: self.eps,
                silu,
            },
        }
    }
}

/// # Errors   [`UnetError::Config`] if `groups` does not divide `channels`
pub(crate) fn check_groups(groups: usize, channels: usize) -> Result<(), UnetError> {
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(UnetError::Config {
            key: "groups".into(),
            got: groups.to_string(),
            expected: format!("must divide the {channels} channels that are normalised"),
        });
    }
    Ok(())
}

/// A normalisation and the nonlinearity after it.
#[derive(Debug)]
pub struct NormAct {
    norm: Norm,
    /// The nonlinearity, if it is not part of `norm`.
    rest: Option<Activation>,
}

impl NormAct {
    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        let y = group_norm(x, self.norm.weight, self.norm.bias, self.norm.options);
        match self.rest {
            Some(activation) => activation.apply(y),
            None => y,
        }
    }

    /// Leaves as much as can be left to the convolution that follows: what that is to read, and what it
    /// is to do on reading it.
    pub fn defer_to_conv(self, x: Tensor<4>) -> (Tensor<4>, Option<Norm>) {
        match self.rest {
            None => (x, Some(self.norm)),
            Some(_) => (self.forward(x), None),
        }
    }
}
