//! The U-Net of denoising diffusion, weight-compatible with diffusers' `UNet2DModel`.

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};

use crate::blocks::{DownBlock, LevelOptions, MidBlock, ResampleKind, UpBlock};
use crate::class_embedding::{ClassEmbedding, NetworkCondition};
use crate::config::{
    ClassEmbedKind, DownBlockKind, ResampleStyle, TimeEmbeddingKind, TimeScaleShift, UNet2DConfig,
    UpBlockKind,
};
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::{Activation, Conv2d, ConvEpilogue, DropoutRng, GroupNorm};
use crate::padding::{Padding, fit};
use crate::resnet::ResnetOptions;
use crate::skip_blocks::{DownLevel, SkipDownBlock, SkipUpBlock, UpLevel};
use crate::time_embedding::{TimeProjection, TimestepEmbedding};

/// U-Net over noisy images and time steps (Ho et al. 2020, appendix B; Dhariwal & Nichol 2021).
///
/// Parameters carry the names and layouts of `UNet2DModel` (Python's diffusers).
#[derive(Module, Debug)]
pub struct UNet2D {
    conv_in: Conv2d,
    time_proj: TimeProjection,
    time_embedding: TimestepEmbedding,
    class_embedding: Option<ClassEmbedding>,
    vector_embedding: Option<TimestepEmbedding>,
    down_blocks: Vec<DownLevel>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpLevel>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    #[module(skip)]
    config: UNet2DConfig,
    #[module(skip)]
    pad: bool,
}

impl UNet2D {
    /// Builds the network with initial values from `init`.
    ///
    /// With `pad`, images whose sides the levels do not divide are padded with zeros on all sides
    /// and the output is cropped; without, they are an error.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn new(config: &UNet2DConfig, pad: bool, init: &mut Init) -> Result<Self, UnetError> {
        config.validate()?;
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let temb = config.temb_channels();
        let resnet = config.resnet_options();
        let head_dim = |attends: bool, level: usize| match attends {
            true => config.head_dim(level).map(Some),
            false => Ok(None),
        };

        let conv_in = Conv2d::same(config.in_channels, first, 3, init);
        let times = config.time_features();
        let (time_proj, features) = match config.time_embedding_type {
            TimeEmbeddingKind::Positional => (
                TimeProjection::positional(times, config.flip_sin_to_cos, config.freq_shift),
                times,
            ),
            TimeEmbeddingKind::Fourier => (TimeProjection::fourier(times, init), 2 * times),
            TimeEmbeddingKind::Learned => {
                let steps = config.num_train_timesteps.unwrap_or(1);
                (TimeProjection::learned(steps, times, init), times)
            }
        };
        let time_embedding = TimestepEmbedding::new(features, temb, init);
        let class_embedding = match (config.class_embed_type, config.num_class_embeds) {
            (None, Some(classes)) => Some(ClassEmbedding::table(classes, temb, init)),
            (Some(ClassEmbedKind::Timestep), _) => {
                Some(ClassEmbedding::timestep(features, temb, init))
            }
            (Some(ClassEmbedKind::Identity), _) => Some(ClassEmbedding::identity(temb)),
            (None, None) => None,
        };
        let vector_embedding = config
            .vector_dim
            .map(|numbers| TimestepEmbedding::new(numbers, temb, init));

        let final_level = channels.len() - 1;
        // Channels of everything that the up path will concatenate, in the order it is pushed.
        let mut skips = vec![first];
        let mut down_blocks = Vec::new();
        let mut entering = first;
        for (i, kind) in config.down_block_types.iter().enumerate() {
            let level = LevelOptions {
                input: entering,
                output: channels[i],
                layers: config.layers_per_block,
                attention_head_dim: head_dim(kind.attends(), channels[i])?,
                resample: match (i == final_level, kind) {
                    (true, _) => ResampleKind::None,
                    (_, DownBlockKind::DownBlock2D) => ResampleKind::Conv,
                    (_, DownBlockKind::AttnDownBlock2D) => style(config.downsample_type),
                    (
                        _,
                        DownBlockKind::ResnetDownsampleBlock2D
                        | DownBlockKind::SkipDownBlock2D
                        | DownBlockKind::AttnSkipDownBlock2D,
                    ) => ResampleKind::Resnet,
                },
                downsample_padding: config.downsample_padding,
                resnet,
            };
            let pushed = config.layers_per_block + usize::from(i != final_level);
            skips.extend(std::iter::repeat_n(channels[i], pushed));
            down_blocks.push(match kind.skips() {
                true => DownLevel::Skip(SkipDownBlock::new(level, init)?),
                false => DownLevel::Plain(DownBlock::new(level, init)?),
            });
            entering = channels[i];
        }

        let mid_block = match config.mid_block_type {
            None => None,
            Some(_) => {
                let groups = match (config.attn_norm_num_groups, config.resnet_time_scale_shift) {
                    (Some(groups), _) => Some(groups),
                    (None, TimeScaleShift::Default) => Some(resnet.groups_for(last)),
                    (None, TimeScaleShift::ScaleShift) => None,
                };
                let attention = head_dim(config.add_attention, last)?.map(|dim| (dim, groups));
                let resnet = ResnetOptions {
                    output_scale: config.mid_block_scale_factor,
                    ..resnet
                };
                Some(MidBlock::new(last, attention, resnet, init)?)
            }
        };

        let mut up_blocks = Vec::new();
        for (i, kind) in config.up_block_types.iter().enumerate() {
            let output = channels[final_level - i];
            let layers = config.layers_per_block + 1;
            let level = LevelOptions {
                input: entering,
                output,
                layers,
                attention_head_dim: head_dim(kind.attends(), output)?,
                resample: match (i == final_level, kind) {
                    (true, _) => ResampleKind::None,
                    (_, UpBlockKind::UpBlock2D) => ResampleKind::Conv,
                    (_, UpBlockKind::AttnUpBlock2D) => style(config.upsample_type),
                    (
                        _,
                        UpBlockKind::ResnetUpsampleBlock2D
                        | UpBlockKind::SkipUpBlock2D
                        | UpBlockKind::AttnSkipUpBlock2D,
                    ) => ResampleKind::Resnet,
                },
                downsample_padding: config.downsample_padding,
                resnet,
            };
            let mut popped = skips.split_off(skips.len() - layers);
            popped.reverse();
            up_blocks.push(match kind.skips() {
                true => UpLevel::Skip(SkipUpBlock::new(level, &popped, init)?),
                false => UpLevel::Plain(UpBlock::new(level, &popped, init)?),
            });
            entering = output;
        }

        Ok(Self {
            conv_in,
            time_proj,
            time_embedding,
            class_embedding,
            vector_embedding,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::new(resnet.groups_for(first), first, config.norm_eps, init)?,
            conv_out: Conv2d::last_of_branch(first, config.out_channels, init),
            config: config.clone(),
            pad,
        })
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &UNet2DConfig {
        &self.config
    }

    /// Whether sizes that the levels do not divide are padded and cropped.
    pub fn pads(&self) -> bool {
        self.pad
    }

    /// One network evaluation. `rng` switches dropout on (training).
    ///
    /// The type of `x` is what images are computed in, and that of the result; `t` is f32 in any case, and so are
    /// the parameters ([`crate::Precision`]).
    ///
    /// # Shapes   `x`: `[batch, in_channels, height, width]`, `t`: `[batch]`;
    /// returns `[batch, out_channels, height, width]`
    /// # Units    `t` in steps 0..T-1 (in σ for the Fourier time embedding)
    /// # Errors   [`UnetError::Shape`], [`UnetError::Size`] or [`UnetError::Labels`] for inputs
    /// that do not fit the configuration
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: NetworkCondition,
        rng: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, UnetError> {
        let padding = self.check(&x, &t)?;
        let mut activations = self.stem(&padding, x, &t, condition)?;
        for block in 0..self.blocks() {
            activations = self.block(block, activations, rng);
        }
        Ok(self.head(activations.x, activations.picture, &padding, t))
    }

    /// How the images fit the levels.
    ///
    /// # Errors   [`UnetError::Shape`] or [`UnetError::Size`]
    pub(crate) fn check(&self, x: &Tensor<4>, t: &Tensor<1>) -> Result<Padding, UnetError> {
        let [batch, channels, height, width] = x.dims();
        if channels != self.config.in_channels {
            return Err(UnetError::Shape {
                input: "x",
                got: x.dims().to_vec(),
                expected: format!("[batch, {}, height, width]", self.config.in_channels),
            });
        }
        if t.dims() != [batch] {
            return Err(UnetError::Shape {
                input: "t",
                got: t.dims().to_vec(),
                expected: format!("[{batch}]"),
            });
        }
        let levels = self.config.block_out_channels.len();
        fit(height, width, levels, self.pad)
    }

    /// What the first block reads: the embeddings, and the padded images after the first convolution.
    ///
    /// # Errors   [`UnetError::Labels`]
    pub(crate) fn stem(
        &self,
        padding: &Padding,
        x: Tensor<4>,
        t: &Tensor<1>,
        condition: NetworkCondition,
    ) -> Result<Activations, UnetError> {
        let [batch] = t.dims();
        let x = if self.config.center_input_sample {
            x * 2.0 - 1.0
        } else {
            x
        };
        let temb = self
            .time_embedding
            .forward(self.time_proj.forward(t.clone()));
        let temb = match (&self.class_embedding, condition.labels) {
            (Some(embedding), Some(labels)) => {
                temb + embedding.forward(labels, batch, &self.time_proj)?
            }
            (None, None) => temb,
            (Some(_), None) => {
                return Err(UnetError::Labels {
                    problem: "this network is class-conditional; give `class_labels`".into(),
                });
            }
            (None, Some(_)) => {
                return Err(UnetError::Labels {
                    problem: "this network has no classes; leave `class_labels` out".into(),
                });
            }
        };
        let told = condition
            .vector
            .as_ref()
            .map_or(0, |vector| vector.dims()[1]);
        let temb = match (&self.vector_embedding, condition.vector) {
            (Some(embedding), Some(vector)) if Some(told) == self.config.vector_dim => {
                temb + embedding.forward(vector)
            }
            // Not to be told is to be told zeros: of no augmentation, of no numbers.
            (Some(embedding), None) => {
                let numbers = self.config.vector_dim.unwrap_or(0);
                temb + embedding.forward(Tensor::zeros([batch, numbers], &t.device()))
            }
            (None, None) => temb,
            _ => {
                return Err(UnetError::Shape {
                    input: "vector",
                    got: vec![batch, told],
                    expected: format!("[{batch}, {}]", self.config.vector_dim.unwrap_or(0)),
                });
            }
        };
        let dtype: FloatDType = x.dtype().into();
        let padded = padding.pad(x);
        let x = self.conv_in.forward(padded.clone());
        Ok(Activations {
            skips: vec![x.clone()],
            x,
            picture: Some(padded).filter(|_| self.config.down_block_types[0].skips()),
            // Every residual block reads it so, in the type of the images: its projections are many.
            temb: self.config.act_fn.apply(temb).cast(dtype),
        })
    }

    /// Blocks of the down path, the middle and the up path.
    pub(crate) fn blocks(&self) -> usize {
        self.down_blocks.len() + usize::from(self.mid_block.is_some()) + self.up_blocks.len()
    }

    /// One of the [`UNet2D::blocks`]. A block of the down path adds skips, one of the up path takes the last ones.
    pub(crate) fn block(
        &self,
        i: usize,
        activations: Activations,
        rng: Option<&DropoutRng>,
    ) -> Activations {
        let Activations {
            x,
            mut skips,
            mut picture,
            temb,
        } = activations;
        let middle = self.down_blocks.len();
        let up = middle + usize::from(self.mid_block.is_some());
        if i == up {
            // The one that is read ends here; the one that is written begins.
            picture = None;
        }
        let x = match &self.mid_block {
            _ if i < middle => match &self.down_blocks[i] {
                DownLevel::Plain(block) => block.forward(x, &temb, &mut skips, rng),
                DownLevel::Skip(block) => block.forward(x, &temb, &mut skips, &mut picture, rng),
            },
            Some(mid) if i == middle => mid.forward(x, &temb, rng),
            _ => match &self.up_blocks[i - up] {
                UpLevel::Plain(block) => block.forward(x, &temb, &mut skips, rng),
                UpLevel::Skip(block) => block.forward(x, &temb, &mut skips, &mut picture, rng),
            },
        };
        Activations {
            x,
            skips,
            picture,
            temb,
        }
    }

    /// The output from what the last block made.
    pub(crate) fn head(
        &self,
        x: Tensor<4>,
        picture: Option<Tensor<4>>,
        padding: &Padding,
        t: Tensor<1>,
    ) -> Tensor<4> {
        let (x, norm) = self.conv_norm_out.then(Activation::Silu).defer_to_conv(x);
        let last = ConvEpilogue {
            norm,
            residual: picture,
            ..ConvEpilogue::default()
        };
        let x = padding.crop(self.conv_out.forward_around(x, last));
        match self.config.time_embedding_type {
            // Score networks over σ predict -ε/σ.
            TimeEmbeddingKind::Fourier => {
                let dtype = x.dtype();
                x / t.unsqueeze_dims::<4>(&[1, 2, 3]).cast(dtype)
            }
            TimeEmbeddingKind::Positional | TimeEmbeddingKind::Learned => x,
        }
    }
}

/// What one block hands to the next.
#[derive(Debug, Clone)]
pub(crate) struct Activations {
    /// `[batch, channels, height, width]`
    pub(crate) x: Tensor<4>,
    /// What the up path will concatenate, in the order in which it was made.
    pub(crate) skips: Vec<Tensor<4>>,
    /// The image beside the features, if skip blocks carry one: `[batch, 3, height, width]`
    pub(crate) picture: Option<Tensor<4>>,
    /// The embedding of time and condition after the nonlinearity, `[batch, temb_channels]`.
    pub(crate) temb: Tensor<2>,
}

fn style(style: ResampleStyle) -> ResampleKind {
    match style {
        ResampleStyle::Conv => ResampleKind::Conv,
        ResampleStyle::Resnet => ResampleKind::Resnet,
    }
}

#[cfg(test)]
mod tests;
