//! Group normalisation.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::error::UnetError;
use crate::init::Init;

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
        let [batch, channels, height, width] = x.dims();
        // [batch, channels, height, width] -> [batch, groups, channels/groups · height · width]
        let grouped = x.reshape([batch, self.groups, channels / self.groups * height * width]);
        let centred = grouped.clone() - grouped.mean_dim(2);
        let variance = (centred.clone() * centred.clone()).mean_dim(2);
        let normal = centred / (variance + self.eps).sqrt();
        // back to [batch, channels, height, width]
        let normal = normal.reshape([batch, channels, height, width]);
        let per_channel = [1, channels, 1, 1];
        normal * self.weight.val().reshape(per_channel) + self.bias.val().reshape(per_channel)
    }
}
