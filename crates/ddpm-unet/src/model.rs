//! The choice of network, as a training configuration states it.

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::class_embedding::NetworkCondition;
use crate::config::{
    ClassEmbedKind, DownBlockKind, ResampleStyle, TimeEmbeddingKind, TimeScaleShift, UNet2DConfig,
    UpBlockKind,
};
use crate::edm::{EdmSection, EdmUNet};
use crate::edm2::{Edm2Section, Edm2UNet};
use crate::error::{UnetError, excerpt};
use crate::given::GivenSection;
use crate::init::{Init, InitKind};
use crate::layers::{Activation, DropoutRng};
use crate::lucidrains::{LucidrainsSection, LucidrainsUNet};
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
    /// [`UNet2D`], as another model has it.
    Given(GivenSection),
    /// [`EdmUNet`].
    Edm(EdmSection),
    /// [`Edm2UNet`].
    Edm2(Edm2Section),
    /// [`LucidrainsUNet`].
    Lucidrains(LucidrainsSection),
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
    /// Classes that the network is told: `"auto"`, those of the images, or a number; left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
}

/// How many classes a network is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "\"auto\" or a number of classes")]
pub enum Classes {
    /// As many.
    Count(usize),
    /// As many as the images have.
    Auto(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// Whatever fits.
    Auto,
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
            classes: None,
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
    /// What it is told of each image.
    pub condition: ConditionShape,
}

/// What a network is told of each image besides its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConditionShape {
    /// Classes, the null class not counted.
    pub classes: Option<usize>,
    /// Whether one more class stands for "no class given".
    pub null_class: bool,
    /// Numbers.
    pub vector: Option<usize>,
    /// Channels of a picture of the same size, which stand after the image's own in the input.
    pub picture_channels: usize,
}

impl ModelShape {
    /// Channels of the input.
    #[must_use]
    pub fn input_channels(&self) -> usize {
        self.channels * if self.self_condition { 2 } else { 1 } + self.condition.picture_channels
    }

    /// The sides of these images' feature maps at the levels whose sides are `sides` in a network of so many levels
    /// for square images of side `of`.
    pub(crate) fn same_levels(&self, (of, levels): (usize, usize), sides: &[usize]) -> Vec<usize> {
        let multiple = 1usize << levels.saturating_sub(1);
        let longer = self.height.max(self.width).next_multiple_of(multiple);
        let with_attention = (0..levels).filter(|level| sides.contains(&(of >> level)));
        with_attention.map(|level| longer >> level).collect()
    }

    /// Channels of the output.
    #[must_use]
    pub fn output_channels(&self) -> usize {
        self.channels * if self.learned_variance { 2 } else { 1 }
    }
}

/// Sides of the levels' feature maps, padding included, the image's own first; the longer ones.
#[derive(Debug)]
pub(crate) struct Sides(pub(crate) Vec<usize>);

impl Sides {
    /// # Errors   [`UnetError::Config`] for no levels or too many, [`UnetError::Size`] if they do not divide the image
    /// and `pad` is off
    pub(crate) fn of(
        multipliers: &[usize],
        shape: ModelShape,
        pad: bool,
    ) -> Result<Self, UnetError> {
        let levels = multipliers.len();
        if levels == 0 || levels > 12 {
            return Err(UnetError::Config {
                key: "model.multipliers".into(),
                got: excerpt(&format!("{multipliers:?}")),
                expected: "must have 1 to 12 levels".into(),
            });
        }
        crate::padding::fit(shape.height, shape.width, levels, pad)?;
        let multiple = 1usize << (levels - 1);
        let longer = shape.height.max(shape.width).next_multiple_of(multiple);
        Ok(Self((0..levels).map(|level| longer >> level).collect()))
    }

    /// Those that get attention: `wanted`, or the largest of at most 16.
    ///
    /// # Errors   [`UnetError::Config`] if `wanted` names another side
    pub(crate) fn with_attention(&self, wanted: Option<&[usize]>) -> Result<Vec<usize>, UnetError> {
        let Some(wanted) = wanted else {
            let largest = self.0.iter().find(|&&side| side <= DEFAULT_ATTENTION_SIDE);
            return Ok(largest.copied().into_iter().collect());
        };
        match wanted.iter().find(|side| !self.0.contains(side)) {
            Some(side) => Err(UnetError::Config {
                key: ATTENTION_KEY.into(),
                got: side.to_string(),
                expected: format!("the levels of this network have sides {:?}", self.0),
            }),
            None => Ok(wanted.to_vec()),
        }
    }
}

impl UnetSection {
    /// The network's full configuration for images of `shape`.
    ///
    /// # Errors   [`UnetError::Config`] if `attention_at` names a side that no level has,
    /// [`UnetError::Size`] if the levels do not divide the image and `pad` is off
    pub fn resolve(&self, shape: ModelShape) -> Result<UNet2DConfig, UnetError> {
        let levels = self.multipliers.len();
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
        let sides = Sides::of(&self.multipliers, shape, self.pad)?;
        let attention_at = sides.with_attention(self.attention_at.as_deref())?;
        let has_attention = |level: usize| attention_at.contains(&sides.0[level]);
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
            ..shape.fit(UNet2DConfig::default())
        };
        config.validate()?;
        Ok(config)
    }
}

/// A network of any kind.
#[expect(clippy::large_enum_variant, reason = "there is one of these a process")]
#[derive(Module, Debug)]
pub enum Model {
    /// [`UNet2D`].
    Unet(UNet2D),
    /// [`PlainUNet`].
    Plain(PlainUNet),
    /// [`EdmUNet`].
    Edm(EdmUNet),
    /// [`Edm2UNet`].
    Edm2(Edm2UNet),
    /// [`LucidrainsUNet`].
    Lucidrains(LucidrainsUNet),
}

impl ModelConfig {
    /// The classes that it asks for.
    pub fn classes(&self) -> Option<Classes> {
        match self {
            Self::Unet(section) => section.classes,
            Self::Given(section) => section.classes,
            Self::Edm(section) => section.classes,
            Self::Edm2(section) => section.classes,
            Self::Plain(_) | Self::Lucidrains(_) => None,
        }
    }

    /// The same network, told of other classes; those of kind `plain` and `lucidrains` are told of none.
    #[must_use]
    pub fn with_classes(mut self, classes: Option<Classes>) -> Self {
        match &mut self {
            Self::Unet(section) => section.classes = classes,
            Self::Given(section) => section.classes = classes,
            Self::Edm(section) => section.classes = classes,
            Self::Edm2(section) => section.classes = classes,
            Self::Plain(_) | Self::Lucidrains(_) => {}
        }
        self
    }

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
            Self::Given(section) => {
                section.build(shape, &mut Init::new(seed, InitKind::Default, device))
            }
            Self::Edm(section) => {
                let config = section.resolve(shape)?;
                let mut init = Init::new(seed, InitKind::Default, device);
                Ok(Model::Edm(EdmUNet::new(&config, &mut init)?))
            }
            Self::Edm2(section) => {
                let config = section.resolve(shape)?;
                let mut init = Init::new(seed, InitKind::Default, device);
                Ok(Model::Edm2(Edm2UNet::new(&config, &mut init)?))
            }
            Self::Lucidrains(section) => {
                let config = section.resolve(shape)?;
                let mut init = Init::new(seed, InitKind::Default, device);
                Ok(Model::Lucidrains(LucidrainsUNet::new(&config, &mut init)?))
            }
        }
    }
}

impl Model {
    /// One network evaluation; see [`UNet2D::forward`], [`PlainUNet::forward`], [`EdmUNet::forward`],
    /// [`Edm2UNet::forward`] and [`LucidrainsUNet::forward`].
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`, `t`: `[batch]`; returns as `x`
    /// # Errors   [`UnetError`] for inputs that do not fit the network
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: NetworkCondition,
        rng: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, UnetError> {
        match self {
            Self::Unet(unet) => unet.forward(x, t, condition, rng),
            Self::Plain(_) if !condition.is_empty() => Err(UnetError::Labels {
                problem:
                    "the plain U-Net is told of no classes or other conditions; leave them out"
                        .into(),
            }),
            Self::Plain(plain) => plain.forward(x, t),
            Self::Edm(edm) => edm.forward(x, t, condition, rng),
            Self::Edm2(edm2) => edm2.forward(x, t, condition, rng),
            Self::Lucidrains(network) => network.forward(x, t, condition, rng),
        }
    }

    /// How many time steps the network has an embedding for, if it has a table of them.
    pub fn time_steps(&self) -> Option<usize> {
        match self {
            Self::Unet(unet) => match unet.config().time_embedding_type {
                TimeEmbeddingKind::Learned => unet.config().num_train_timesteps,
                TimeEmbeddingKind::Positional | TimeEmbeddingKind::Fourier => None,
            },
            Self::Plain(_) | Self::Edm(_) | Self::Edm2(_) | Self::Lucidrains(_) => None,
        }
    }

    /// How many numbers the network can be told of each image; where it is told none, it takes zeros.
    pub fn numbers(&self) -> usize {
        match self {
            Self::Unet(unet) => unet.config().vector_dim.unwrap_or(0),
            Self::Edm(edm) => edm.config().augment_dim,
            Self::Plain(_) | Self::Edm2(_) | Self::Lucidrains(_) => 0,
        }
    }

    /// How the network takes class labels.
    pub fn conditioning(&self) -> Conditioning {
        match self {
            Self::Plain(_) | Self::Lucidrains(_) => Conditioning::None,
            Self::Edm(edm) => one_hot(edm.config().label_dim, edm.config().null_class),
            Self::Edm2(edm2) => one_hot(edm2.config().label_dim, edm2.config().null_class),
            Self::Unet(unet) => {
                let config = unet.config();
                match (config.class_embed_type, config.num_class_embeds) {
                    (None, None) => Conditioning::None,
                    (None, Some(classes)) => Conditioning::Classes {
                        count: classes - usize::from(config.null_class),
                        null: config.null_class.then_some(classes - 1),
                    },
                    (Some(ClassEmbedKind::Timestep), _) => Conditioning::Number,
                    (Some(ClassEmbedKind::Identity), _) => Conditioning::Embedding,
                }
            }
        }
    }
}

/// The null class is no class, and its number the next after the last.
fn one_hot(classes: usize, null_class: bool) -> Conditioning {
    match classes {
        0 => Conditioning::None,
        count => Conditioning::Classes {
            count,
            null: null_class.then_some(count),
        },
    }
}

/// What a network takes as class labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditioning {
    /// Nothing.
    None,
    /// A class number.
    Classes {
        /// How many classes there are, the null class not counted.
        count: usize,
        /// The number of the null class, which stands for "no class given".
        null: Option<usize>,
    },
    /// Any number, embedded like a time step.
    Number,
    /// A ready-made embedding.
    Embedding,
}

#[cfg(test)]
mod tests;
