//! ADM (Dhariwal & Nichol 2021) as EDM has it (Karras et al. 2022, appendix C).

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{FloatDType, Tensor};

use super::Told;
use super::block::groups;
use super::config::EdmConfig;
use super::layers::{Gain, Layers, Projection};
use super::parts::{EdmPart, build, decode, encode};
use super::song::columns;
use crate::dict::Dict;
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::{Activation, Conv2d, ConvEpilogue, DropoutRng, GroupNorm, Linear};
use crate::time_embedding::TimeProjection;

/// The network that EDM calls `DhariwalUNet`.
#[derive(Module, Debug)]
pub struct DhariwalUNet {
    map_noise: TimeProjection,
    map_augment: Option<Projection>,
    map_layer0: Linear,
    map_layer1: Linear,
    map_label: Option<Projection>,
    enc: Dict<EdmPart>,
    dec: Dict<EdmPart>,
    out_norm: GroupNorm,
    out_conv: Conv2d,
    #[module(skip)]
    config: EdmConfig,
}

impl DhariwalUNet {
    /// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
    pub(super) fn new(config: &EdmConfig, init: &mut Init) -> Result<Self, UnetError> {
        let (features, emb) = (config.model_channels, config.emb_channels());
        let layers = &mut Layers::new(config, init);
        let some = |count: usize| (count > 0).then_some(count);
        let plan = config.plan();
        Ok(Self {
            // Cosines first.
            map_noise: TimeProjection::positional(features, true, 0.0),
            map_augment: some(config.augment_dim).map(|n| layers.projection(n, features)),
            map_layer0: layers.linear(features, emb),
            map_layer1: layers.linear(emb, emb),
            // Normal numbers of variance 1/classes, times √classes.
            map_label: some(config.label_dim)
                .map(|classes| Projection::of(layers.init().normal([emb, classes], 1.0))),
            enc: build(config, plan.enc, layers)?,
            dec: build(config, plan.dec, layers)?,
            out_norm: GroupNorm::new(groups(plan.last), plan.last, 1e-5, layers.init())?,
            out_conv: layers.conv(plan.last, config.out_channels, 3, Gain::Zero, 0),
            config: config.clone(),
        })
    }

    pub(super) fn config(&self) -> &EdmConfig {
        &self.config
    }

    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        told: Told,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        let mut emb = self.map_noise.forward(t);
        if let (Some(layer), Some(augment)) = (&self.map_augment, told.augment) {
            emb = emb + layer.forward(augment);
        }
        let mut emb = self.map_layer1.forward(silu(self.map_layer0.forward(emb)));
        if let (Some(layer), Some(labels)) = (&self.map_label, told.labels) {
            emb = emb + columns(layer.weight(), labels);
        }
        let dtype: FloatDType = x.dtype().into();
        let emb = silu(emb).cast(dtype);

        let (x, skips) = encode(&self.enc, x, &emb, &self.config.resample_filter, rng);
        let (x, _) = decode(&self.dec, x, skips, &emb, rng);
        let (x, norm) = self.out_norm.then(Activation::Silu).defer_to_conv(x);
        let last = ConvEpilogue {
            norm,
            ..ConvEpilogue::default()
        };
        self.out_conv.forward_around(x, last)
    }
}
