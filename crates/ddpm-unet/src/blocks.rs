//! The levels of the U-Net: down, middle and up blocks.

use burn::module::Module;
use burn::tensor::Tensor;
use ddpm_kernels::concat_channels;

use crate::attention::Attention;
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::DropoutRng;
use crate::resample::Resample;
use crate::resnet::{ResnetBlock, ResnetOptions, ResnetResample};

/// How a level changes the resolution at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResampleKind {
    /// By a convolution.
    Conv,
    /// By a residual block.
    Resnet,
    /// Not at all: the last level.
    None,
}

/// What a level is built from.
#[derive(Debug, Clone, Copy)]
pub struct LevelOptions {
    /// Channels that enter.
    pub input: usize,
    /// Channels that leave.
    pub output: usize,
    /// Residual blocks.
    pub layers: usize,
    /// Channels of an attention head, if each residual block is followed by attention.
    pub attention_head_dim: Option<usize>,
    /// The change of resolution.
    pub resample: ResampleKind,
    /// Of the strided convolution.
    pub downsample_padding: usize,
    /// Of the residual blocks.
    pub resnet: ResnetOptions,
}

impl LevelOptions {
    fn attentions(&self, init: &mut Init) -> Result<Vec<Attention>, UnetError> {
        let Some(head_dim) = self.attention_head_dim else {
            return Ok(Vec::new());
        };
        let groups = Some(self.resnet.groups_for(self.output));
        (0..self.layers)
            .map(|_| Attention::new(self.output, head_dim, groups, self.resnet.eps, 1.0, init))
            .collect()
    }
}

/// Residual blocks, each followed by attention if the level has it, then halving.
#[derive(Module, Debug)]
pub struct DownBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    downsamplers: Vec<Resample>,
}

impl DownBlock {
    /// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
    pub fn new(level: LevelOptions, init: &mut Init) -> Result<Self, UnetError> {
        let resnets = (0..level.layers)
            .map(|i| {
                let input = if i == 0 { level.input } else { level.output };
                ResnetBlock::new(
                    input,
                    level.output,
                    ResnetResample::Keep,
                    level.resnet,
                    init,
                )
            })
            .collect::<Result<_, _>>()?;
        let attentions = level.attentions(init)?;
        let downsamplers = match level.resample {
            ResampleKind::None => Vec::new(),
            ResampleKind::Conv => vec![Resample::conv_down(
                level.output,
                level.downsample_padding,
                init,
            )],
            ResampleKind::Resnet => vec![Resample::Resnet(ResnetBlock::new(
                level.output,
                level.output,
                ResnetResample::Halve,
                level.resnet,
                init,
            )?)],
        };
        Ok(Self {
            resnets,
            attentions,
            downsamplers,
        })
    }

    /// Pushes what the up path will concatenate onto `skips`.
    ///
    /// # Shapes   `x`: `[batch, in, height, width]`; returns `[batch, out, height/2, width/2]`
    /// (the same height and width on the last level)
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, temb, rng);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
            skips.push(x.clone());
        }
        for down in &self.downsamplers {
            x = down.forward(x, temb, rng);
            skips.push(x.clone());
        }
        x
    }
}

/// Residual block, attention, residual block at the lowest resolution.
#[derive(Module, Debug)]
pub struct MidBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
}

impl MidBlock {
    /// `attention` is (head_dim, groups of its normalisation or `None` for no normalisation).
    ///
    /// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
    pub fn new(
        channels: usize,
        attention: Option<(usize, Option<usize>)>,
        resnet: ResnetOptions,
        init: &mut Init,
    ) -> Result<Self, UnetError> {
        let mut block = || ResnetBlock::new(channels, channels, ResnetResample::Keep, resnet, init);
        let resnets = vec![block()?, block()?];
        let attentions = attention
            .map(|(head_dim, groups)| {
                Attention::new(
                    channels,
                    head_dim,
                    groups,
                    resnet.eps,
                    resnet.output_scale,
                    init,
                )
            })
            .into_iter()
            .collect::<Result<_, _>>()?;
        Ok(Self {
            resnets,
            attentions,
        })
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, temb, rng);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
        }
        x
    }
}

/// Residual blocks over \[h, skip\], each followed by attention if the level has it, then doubling.
#[derive(Module, Debug)]
pub struct UpBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    upsamplers: Vec<Resample>,
}

impl UpBlock {
    /// `skips[i]` is the channel count that residual block i finds concatenated.
    ///
    /// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
    pub fn new(level: LevelOptions, skips: &[usize], init: &mut Init) -> Result<Self, UnetError> {
        let resnets = skips
            .iter()
            .enumerate()
            .map(|(i, skip)| {
                let input = if i == 0 { level.input } else { level.output };
                ResnetBlock::new(
                    input + skip,
                    level.output,
                    ResnetResample::Keep,
                    level.resnet,
                    init,
                )
            })
            .collect::<Result<_, _>>()?;
        let attentions = level.attentions(init)?;
        let upsamplers = match level.resample {
            ResampleKind::None => Vec::new(),
            ResampleKind::Conv => vec![Resample::conv_up(level.output, init)],
            ResampleKind::Resnet => vec![Resample::Resnet(ResnetBlock::new(
                level.output,
                level.output,
                ResnetResample::Double,
                level.resnet,
                init,
            )?)],
        };
        Ok(Self {
            resnets,
            attentions,
            upsamplers,
        })
    }

    /// Pops one skip a residual block.
    ///
    /// # Shapes   `x`: `[batch, in, height, width]`; returns `[batch, out, 2·height, 2·width]`
    /// (the same height and width on the last level)
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            if let Some(skip) = skips.pop() {
                // [batch, c, h, w] and [batch, skip, h, w] -> [batch, c + skip, h, w]
                x = concat_channels(x, skip);
            }
            x = resnet.forward(x, temb, rng);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
        }
        for up in &self.upsamplers {
            x = up.forward(x, temb, rng);
        }
        x
    }
}
