//! The choice of network, as a training configuration states it.

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::class_embedding::ClassLabels;
use crate::config::{
    ClassEmbedKind, DownBlockKind, ResampleStyle, SampleSize, TimeEmbeddingKind, TimeScaleShift,
    UNet2DConfig, UpBlockKind,
};
use crate::error::{UnetError, excerpt};
use crate::init::{Init, InitKind};
use crate::layers::{Activation, DropoutRng};
use crate::plain::PlainUNet;
use crate::unet::UNet2D;

/// The key of [`UnetSection::attention_at`] in messages.
pub const ATTENTION_KEY: &str = "model.attention_at";
const DEFAULT_ATTENTION_SIDE: usize = 16;

/// The `[model]` section of a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// [`UNet2D`].
    Unet(UnetSection),
    /// [`PlainUNet`].
    Plain(PlainSection),
}

/// `[model]` with `kind = "unet"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnetSection {
    /// Channels of the first level.
    pub channels: usize,
    /// Channels of each level as multiples of `channels`; one level each.
    pub multipliers: Vec<usize>,
    /// Residual blocks a level (one more on the way up).
    pub blocks: usize,
    /// Sides, in pixels, of the feature maps that get attention (the longer side counts). Without it, the largest
    /// side of at most 16 (Ho et al. 2020, appendix B: 16×16 for any image), and none where all are larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_at: Option<Vec<usize>>,
    /// Whether the middle has attention.
    pub mid_attention: bool,
    /// Channels of an attention head; left out: one head over all channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Groups of the normalisations.
    pub groups: usize,
    /// Added to the variance in the normalisations.
    pub norm_eps: f64,
    /// Dropout in the residual blocks.
    pub dropout: f64,
    /// Whether the time embedding scales and shifts instead of being added.
    pub scale_shift: bool,
    /// How levels halve and double.
    pub resample: ResampleStyle,
    /// The nonlinearity.
    pub activation: Activation,
    /// Whether sizes that the levels do not divide are padded and cropped.
    pub pad: bool,
    /// Initial values.
    pub init: InitKind,
}

impl Default for UnetSection {
    fn default() -> Self {
        Self {
            channels: 128,
            multipliers: vec![1, 2, 2, 2],
            blocks: 2,
            attention_at: None,
            mid_attention: true,
            head_dim: None,
            groups: 32,
            norm_eps: 1e-6,
            dropout: 0.0,
            scale_shift: false,
            resample: ResampleStyle::Conv,
            activation: Activation::Silu,
            pad: false,
            init: InitKind::Zero,
        }
    }
}

/// `[model]` with `kind = "plain"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlainSection {
    /// Channels of each level.
    pub features: Vec<usize>,
}

impl Default for PlainSection {
    fn default() -> Self {
        Self {
            features: vec![64, 128, 256, 512],
        }
    }
}

/// What a network reads and writes: fixed by the data and the schedule, not by `[model]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Whether the output has as many channels again, which say the variance of the reverse step.
    pub learned_variance: bool,
    /// Whether the input has as many channels before the image's, for what was expected of it before.
    pub self_condition: bool,
    /// Diffusion steps T.
    pub steps: usize,
}

impl UnetSection {
    /// The network's full configuration for images of `shape`.
    ///
    /// # Errors   [`UnetError::Config`] if `attention_at` names a side that no level has,
    /// [`UnetError::Size`] if the levels do not divide the image and `pad` is off
    pub fn resolve(&self, shape: ModelShape) -> Result<UNet2DConfig, UnetError> {
        let levels = self.multipliers.len();
        if levels == 0 || levels > 12 {
            return Err(UnetError::Config {
                key: "model.multipliers".into(),
                got: excerpt(&format!("{:?}", self.multipliers)),
                expected: "must have 1 to 12 levels".into(),
            });
        }
        let widest = self.multipliers.iter().max().copied().unwrap_or_default();
        if self.channels.saturating_mul(widest) > 1 << 20 {
            return Err(UnetError::Config {
                key: "model.channels".into(),
                got: self.channels.to_string(),
                expected: format!(
                    "times the largest of `model.multipliers`, {widest}, must be at most 1048576"
                ),
            });
        }
        crate::padding::fit(shape.height, shape.width, levels, self.pad)?;
        let multiple = 1usize << (levels - 1);
        let longer = shape.height.max(shape.width).next_multiple_of(multiple);
        let sides: Vec<usize> = (0..levels).map(|level| longer >> level).collect();
        let attention_at = self.attention_sides(&sides)?;
        let has_attention = |level: usize| attention_at.contains(&sides[level]);
        let down = |level| match (has_attention(level), self.resample) {
            (true, _) => DownBlockKind::AttnDownBlock2D,
            (false, ResampleStyle::Conv) => DownBlockKind::DownBlock2D,
            (false, ResampleStyle::Resnet) => DownBlockKind::ResnetDownsampleBlock2D,
        };
        let up = |level| match (has_attention(level), self.resample) {
            (true, _) => UpBlockKind::AttnUpBlock2D,
            (false, ResampleStyle::Conv) => UpBlockKind::UpBlock2D,
            (false, ResampleStyle::Resnet) => UpBlockKind::ResnetUpsampleBlock2D,
        };
        let config = UNet2DConfig {
            sample_size: Some(if shape.height == shape.width {
                SampleSize::Square(shape.height)
            } else {
                SampleSize::HeightWidth([shape.height, shape.width])
            }),
            in_channels: shape.channels * if shape.self_condition { 2 } else { 1 },
            out_channels: shape.channels * if shape.learned_variance { 2 } else { 1 },
            // As in Ho et al.'s own code: sines first, frequencies reaching 1/10000 exactly.
            freq_shift: 1.0,
            flip_sin_to_cos: false,
            down_block_types: (0..levels).map(down).collect(),
            up_block_types: (0..levels).rev().map(up).collect(),
            block_out_channels: self
                .multipliers
                .iter()
                .map(|multiplier| multiplier.saturating_mul(self.channels))
                .collect(),
            layers_per_block: self.blocks,
            downsample_padding: 0,
            downsample_type: self.resample,
            upsample_type: self.resample,
            dropout: self.dropout,
            act_fn: self.activation,
            attention_head_dim: self.head_dim,
            norm_num_groups: Some(self.groups),
            norm_eps: self.norm_eps,
            resnet_time_scale_shift: if self.scale_shift {
                TimeScaleShift::ScaleShift
            } else {
                TimeScaleShift::Default
            },
            add_attention: self.mid_attention,
            ..UNet2DConfig::default()
        };
        config.validate()?;
        Ok(config)
    }
}

impl UnetSection {
    /// The sides that get attention, of the levels' `sides`.
    fn attention_sides(&self, sides: &[usize]) -> Result<Vec<usize>, UnetError> {
        let Some(wanted) = &self.attention_at else {
            let largest = sides.iter().find(|&&side| side <= DEFAULT_ATTENTION_SIDE);
            return Ok(largest.copied().into_iter().collect());
        };
        match wanted.iter().find(|side| !sides.contains(side)) {
            Some(side) => Err(UnetError::Config {
                key: ATTENTION_KEY.into(),
                got: side.to_string(),
                expected: format!("the levels of this network have sides {sides:?}"),
            }),
            None => Ok(wanted.clone()),
        }
    }
}

/// A network of either kind.
#[expect(clippy::large_enum_variant, reason = "there is one of these a process")]
#[derive(Module, Debug)]
pub enum Model {
    /// [`UNet2D`].
    Unet(UNet2D),
    /// [`PlainUNet`].
    Plain(PlainUNet),
}

impl ModelConfig {
    /// Builds the network for images of `shape`; see [`Init`] for `seed`.
    ///
    /// # Errors   [`UnetError::Config`] or [`UnetError::Size`] if the parts do not fit
    pub fn build(
        &self,
        shape: ModelShape,
        seed: u64,
        device: &burn::tensor::Device,
    ) -> Result<Model, UnetError> {
        match self {
            Self::Unet(section) => {
                let config = section.resolve(shape)?;
                let mut init = Init::new(seed, section.init, device);
                Ok(Model::Unet(UNet2D::new(&config, section.pad, &mut init)?))
            }
            Self::Plain(section) => {
                let mut init = Init::new(seed, InitKind::Default, device);
                let model =
                    PlainUNet::new(shape.channels, &section.features, shape.steps, &mut init)?;
                model.check_size(shape.height, shape.width)?;
                Ok(Model::Plain(model))
            }
        }
    }
}

impl Model {
    /// One network evaluation; see [`UNet2D::forward`] and [`PlainUNet::forward`].
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`, `t`: `[batch]`; returns as `x`
    /// # Errors   [`UnetError`] for inputs that do not fit the network
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        labels: Option<ClassLabels>,
        rng: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, UnetError> {
        match self {
            Self::Unet(unet) => unet.forward(x, t, labels, rng),
            Self::Plain(_) if labels.is_some() => Err(UnetError::Labels {
                problem: "the plain U-Net has no classes; leave `class_labels` out".into(),
            }),
            Self::Plain(plain) => plain.forward(x, t),
        }
    }

    /// How many time steps the network has an embedding for, if it has a table of them.
    pub fn time_steps(&self) -> Option<usize> {
        match self {
            Self::Unet(unet) => match unet.config().time_embedding_type {
                TimeEmbeddingKind::Learned => unet.config().num_train_timesteps,
                TimeEmbeddingKind::Positional | TimeEmbeddingKind::Fourier => None,
            },
            Self::Plain(_) => None,
        }
    }

    /// How the network takes class labels.
    pub fn conditioning(&self) -> Conditioning {
        match self {
            Self::Plain(_) => Conditioning::None,
            Self::Unet(unet) => {
                let config = unet.config();
                match (config.class_embed_type, config.num_class_embeds) {
                    (None, None) => Conditioning::None,
                    (None, Some(classes)) => Conditioning::Classes(classes),
                    (Some(ClassEmbedKind::Timestep), _) => Conditioning::Number,
                    (Some(ClassEmbedKind::Identity), _) => Conditioning::Embedding,
                }
            }
        }
    }
}

/// What a network takes as class labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditioning {
    /// Nothing.
    None,
    /// A class number below this.
    Classes(usize),
    /// Any number, embedded like a time step.
    Number,
    /// A ready-made embedding.
    Embedding,
}

#[cfg(test)]
mod tests;
