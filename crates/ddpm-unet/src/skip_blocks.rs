//! Levels that carry the image itself beside the features: the "skip" blocks of diffusers' `UNet2DModel`, made for
//! NCSN++ (Song et al. 2021, appendix H).
//!
//! On the way down the image is halved by a filter and added to the features at each level; on the way up every level
//! adds to an image that is doubled by a filter, and the output is added to the last of them.

use burn::module::Module;
use burn::tensor::Tensor;
use ddpm_kernels::concat_channels;

use crate::attention::Attention;
use crate::blocks::{DownBlock, LevelOptions, ResampleKind, UpBlock};
use crate::error::UnetError;
use crate::fir::{self, FIR};
use crate::init::Init;
use crate::layers::{Activation, Conv2d, ConvEpilogue, DropoutRng, GroupNorm};
use crate::resnet::{ResnetBlock, ResnetOptions, ResnetResample};

/// Channels of the image, whatever those of the network's input are.
pub(crate) const PICTURE_CHANNELS: usize = 3;
/// Groups of the normalisations before attention.
pub(crate) const ATTENTION_GROUPS: usize = 32;

/// A level on the way down, of either family.
#[expect(clippy::large_enum_variant, reason = "a network has a handful")]
#[derive(Module, Debug)]
pub enum DownLevel {
    /// [`DownBlock`].
    Plain(DownBlock),
    /// [`SkipDownBlock`].
    Skip(SkipDownBlock),
}

/// A level on the way up, of either family.
#[expect(clippy::large_enum_variant, reason = "a network has a handful")]
#[derive(Module, Debug)]
pub enum UpLevel {
    /// [`UpBlock`].
    Plain(UpBlock),
    /// [`SkipUpBlock`].
    Skip(SkipUpBlock),
}

/// Residual blocks, each followed by attention if the level has it; a residual block halves, and the halved image is
/// added.
#[derive(Module, Debug)]
pub struct SkipDownBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    resnet_down: Option<ResnetBlock>,
    skip_conv: Option<Conv2d>,
}

/// Residual blocks over \[h, skip\], then attention if the level has it; what is added to the image, and a residual
/// block that doubles.
#[derive(Module, Debug)]
pub struct SkipUpBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    resnet_up: Option<ResnetBlock>,
    skip_conv: Option<Conv2d>,
    skip_norm: Option<GroupNorm>,
}

/// The options of a skip block's residual blocks: their groups do not follow `norm_num_groups`, and sums are divided
/// by √2.
pub(crate) fn options(resnet: ResnetOptions) -> ResnetOptions {
    ResnetOptions {
        groups: None,
        output_scale: std::f64::consts::SQRT_2,
        ..resnet
    }
}

/// Groups of the first normalisation over \[h, skip\]. With attention diffusers divides the skip's channels alone.
pub(crate) fn first_groups(entering: usize, skip: usize, attention: bool) -> Option<usize> {
    attention.then(|| (entering + skip / 4).min(32))
}

impl SkipDownBlock {
    /// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
    pub fn new(level: LevelOptions, init: &mut Init) -> Result<Self, UnetError> {
        let options = options(level.resnet);
        let block = |input, inside, init: &mut Init| {
            ResnetBlock::new(input, level.output, inside, options, init)
        };
        let resnets = (0..level.layers)
            .map(|i| {
                let input = if i == 0 { level.input } else { level.output };
                block(input, ResnetResample::Keep, init)
            })
            .collect::<Result<_, _>>()?;
        let attentions = match level.attention_head_dim {
            Some(head_dim) => (0..level.layers)
                .map(|_| attention(level.output, head_dim, options, init))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let halves = level.resample != ResampleKind::None;
        Ok(Self {
            resnets,
            attentions,
            resnet_down: halves
                .then(|| block(level.output, ResnetResample::FirHalve, init))
                .transpose()?,
            skip_conv: halves.then(|| Conv2d::same(PICTURE_CHANNELS, level.output, 1, init)),
        })
    }

    /// Pushes what the up path will concatenate onto `skips`; `picture` becomes the halved image.
    ///
    /// # Shapes   `x`: `[batch, in, height, width]`, `picture`: `[batch, 3, height, width]`; returns
    /// `[batch, out, height/2, width/2]` (the same height and width on the last level)
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        picture: &mut Option<Tensor<4>>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, temb, rng);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x);
            }
            skips.push(x.clone());
        }
        if let (Some(resnet), Some(conv)) = (&self.resnet_down, &self.skip_conv) {
            x = resnet.forward(x, temb, rng);
            *picture = picture.take().map(|picture| fir::halve(picture, &FIR, 1));
            if let Some(picture) = picture.clone() {
                let sum = ConvEpilogue {
                    residual: Some(x),
                    ..ConvEpilogue::default()
                };
                x = conv.forward_around(picture, sum);
            }
            skips.push(x.clone());
        }
        x
    }
}

impl SkipUpBlock {
    /// `skips[i]` is the channel count that residual block i finds concatenated.
    ///
    /// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
    pub fn new(level: LevelOptions, skips: &[usize], init: &mut Init) -> Result<Self, UnetError> {
        let options = options(level.resnet);
        let resnets = skips
            .iter()
            .enumerate()
            .map(|(i, &skip)| {
                let input = if i == 0 { level.input } else { level.output };
                let attends = level.attention_head_dim.is_some();
                let options = ResnetOptions {
                    first_groups: first_groups(input, skip, attends),
                    ..options
                };
                let kept = ResnetResample::Keep;
                ResnetBlock::new(input + skip, level.output, kept, options, init)
            })
            .collect::<Result<_, _>>()?;
        let attentions = level
            .attention_head_dim
            .map(|head_dim| attention(level.output, head_dim, options, init))
            .into_iter()
            .collect::<Result<_, _>>()?;
        let (output, doubles) = (level.output, level.resample != ResampleKind::None);
        let groups = options.groups_for(output);
        Ok(Self {
            resnets,
            attentions,
            resnet_up: doubles
                .then(|| ResnetBlock::new(output, output, ResnetResample::FirDouble, options, init))
                .transpose()?,
            skip_conv: doubles.then(|| Conv2d::same(output, PICTURE_CHANNELS, 3, init)),
            skip_norm: doubles
                .then(|| GroupNorm::new(groups, output, options.eps, init))
                .transpose()?,
        })
    }

    /// Pops one skip a residual block; `picture` is doubled, if there is one, and added to.
    ///
    /// # Shapes   `x`: `[batch, in, height, width]`, `picture`: `[batch, 3, height/2, width/2]`; returns
    /// `[batch, out, 2·height, 2·width]` (the same height and width on the last level)
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        temb: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        picture: &mut Option<Tensor<4>>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        for resnet in &self.resnets {
            if let Some(skip) = skips.pop() {
                // [batch, c, h, w] and [batch, skip, h, w] -> [batch, c + skip, h, w]
                x = concat_channels(x, skip);
            }
            x = resnet.forward(x, temb, rng);
        }
        for attention in &self.attentions {
            x = attention.forward(x);
        }
        *picture = picture.take().map(|picture| fir::double(picture, &FIR));
        if let (Some(norm), Some(conv)) = (&self.skip_norm, &self.skip_conv) {
            let (h, norm) = norm.then(Activation::Silu).defer_to_conv(x.clone());
            let sum = ConvEpilogue {
                norm,
                residual: picture.take(),
                ..ConvEpilogue::default()
            };
            *picture = Some(conv.forward_around(h, sum));
        }
        match &self.resnet_up {
            Some(resnet) => resnet.forward(x, temb, rng),
            None => x,
        }
    }
}

fn attention(
    channels: usize,
    head_dim: usize,
    options: ResnetOptions,
    init: &mut Init,
) -> Result<Attention, UnetError> {
    let groups = Some(ATTENTION_GROUPS);
    Attention::new(
        channels,
        head_dim,
        groups,
        options.eps,
        options.output_scale,
        init,
    )
}
