//! The residual block of all three networks.

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};
use ddpm_kernels::{Convolution, attention};

use super::config::{EdmArchitecture, EdmConfig};
use super::layers::{Gain, Layers};
use super::plan::{BlockPlan, Resampling};
use crate::attention::pointwise;
use crate::error::UnetError;
use crate::fir;
use crate::layers::{Activation, Conv2d, ConvEpilogue, Dropout, DropoutRng, GroupNorm, Linear};

/// What all blocks of a network share.
#[derive(Debug, Clone)]
struct Options {
    taps: Vec<f64>,
    /// Both sums are multiplied by this.
    scale: f64,
    /// Whether the embedding scales and shifts instead of being added.
    adaptive: bool,
}

/// norm → SiLU → resample → conv, embedding, norm → SiLU → dropout → conv, plus the input; then attention plus its input
/// (Karras et al. 2022, appendix C).
#[derive(Module, Debug)]
pub struct EdmBlock {
    norm0: GroupNorm,
    conv0: Conv2d,
    affine: Linear,
    norm1: GroupNorm,
    dropout: Dropout,
    conv1: Conv2d,
    skip: Option<Conv2d>,
    norm2: Option<GroupNorm>,
    qkv: Option<Conv2d>,
    proj: Option<Conv2d>,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    resampling: Resampling,
    #[module(skip)]
    options: Options,
}

/// Groups of a normalisation over `channels` channels.
pub(crate) fn groups(channels: usize) -> usize {
    (channels / 4).min(32)
}

/// Added to the variance in the blocks' normalisations.
pub(crate) fn block_eps(config: &EdmConfig) -> f64 {
    match config.model_type {
        EdmArchitecture::SongUNet => 1e-6,
        EdmArchitecture::DhariwalUNet => 1e-5,
    }
}

/// Whether the embedding scales and shifts, of which there are twice as many numbers.
pub(crate) fn is_adaptive(config: &EdmConfig) -> bool {
    config.model_type == EdmArchitecture::DhariwalUNet
}

/// Whether a block projects its input: always on resampling for DDPM++ and NCSN++.
pub(crate) fn projects(config: &EdmConfig, plan: BlockPlan) -> bool {
    plan.input != plan.output
        || (plan.resampling != Resampling::Keep && config.model_type == EdmArchitecture::SongUNet)
}

/// # Errors   [`UnetError::Config`] if the heads do not divide the channels
pub(crate) fn check_heads(plan: BlockPlan) -> Result<(), UnetError> {
    if plan.heads > 0 && !plan.output.is_multiple_of(plan.heads) {
        return Err(UnetError::Config {
            key: "attn_resolutions".into(),
            got: format!("{} channels", plan.output),
            expected: format!(
                "the {} heads of such a level do not divide them",
                plan.heads
            ),
        });
    }
    Ok(())
}

impl EdmBlock {
    /// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
    pub(super) fn new(
        config: &EdmConfig,
        plan: BlockPlan,
        layers: &mut Layers<'_>,
    ) -> Result<Self, UnetError> {
        let BlockPlan { input, output, .. } = plan;
        check_heads(plan)?;
        let eps = block_eps(config);
        let adaptive = is_adaptive(config);
        let attends = plan.heads > 0;
        let affine = if adaptive { 2 * output } else { output };
        Ok(Self {
            norm0: GroupNorm::new(groups(input), input, eps, layers.init())?,
            conv0: layers.conv(input, output, 3, Gain::Main, 0),
            affine: layers.linear(config.emb_channels(), affine),
            norm1: GroupNorm::new(groups(output), output, eps, layers.init())?,
            dropout: Dropout::new(config.dropout),
            conv1: layers.conv(output, output, 3, Gain::Zero, 0),
            skip: projects(config, plan).then(|| layers.conv(input, output, 1, Gain::Main, 0)),
            norm2: attends
                .then(|| GroupNorm::new(groups(output), output, eps, layers.init()))
                .transpose()?,
            qkv: attends.then(|| layers.conv(output, 3 * output, 1, Gain::Attention, 0)),
            proj: attends.then(|| layers.conv(output, output, 1, Gain::Zero, 0)),
            heads: plan.heads,
            resampling: plan.resampling,
            options: Options {
                taps: config.resample_filter.clone(),
                scale: match config.model_type {
                    EdmArchitecture::SongUNet => 0.5f64.sqrt(),
                    EdmArchitecture::DhariwalUNet => 1.0,
                },
                adaptive,
            },
        })
    }

    /// # Shapes   `x`: `[batch, in, height, width]`, `emb`: `[batch, emb_channels]` in the type of x; returns
    /// `[batch, out, height', width']`
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        emb: &Tensor<2>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        let silu = Activation::Silu;
        // [batch, emb_channels] -> [batch, out or 2·out], and back to the type of biases
        let (bias, scale_shift) = match self.options.adaptive {
            false => {
                let bias = self.affine.forward_and(emb.clone(), self.conv0.bias());
                (Some(bias.cast(FloatDType::F32)), None)
            }
            true => {
                let both = self.affine.forward(emb.clone()).cast(FloatDType::F32);
                (None, Some(both))
            }
        };

        let taps = &self.options.taps;
        let boxed = taps.len() == 2 && taps[0] == taps[1];
        let norm = self.norm0.then(silu);
        let (h, norm, upsample_nearest_2x) = match self.resampling {
            Resampling::Up if !boxed => (fir::double(norm.forward(x.clone()), taps), None, false),
            Resampling::Down => {
                let h = fir::halve(norm.forward(x.clone()), taps, taps.len() / 2 - 1);
                (h, None, false)
            }
            _ => {
                let (h, norm) = norm.defer_to_conv(x.clone());
                (h, norm, self.resampling == Resampling::Up)
            }
        };
        let first = ConvEpilogue {
            norm,
            upsample_nearest_2x,
            bias,
            residual: None,
        };
        let h = self.conv0.forward_around(h, first);

        let x = match self.resampling {
            Resampling::Keep => x,
            Resampling::Down => fir::halve(x, taps, taps.len() / 2 - 1),
            Resampling::Up => fir::double(x, taps),
        };
        let shortcut = match &self.skip {
            Some(conv) => conv.forward(x),
            None => x,
        };

        let norm = match scale_shift {
            None => self.norm1.then(silu),
            Some(both) => {
                let channels = both.dims()[1] / 2;
                let scale = both.clone().narrow(1, 0, channels);
                let shift = both.narrow(1, channels, channels);
                self.norm1.scaled_then(scale, shift, silu)
            }
        };
        let (h, norm) = match self.dropout.is_active(rng) {
            true => (self.dropout.forward(norm.forward(h), rng), None),
            false => norm.defer_to_conv(h),
        };
        let last = ConvEpilogue {
            norm,
            residual: Some(shortcut),
            ..ConvEpilogue::default()
        };
        let x = self.scaled(self.conv1.forward_around(h, last));
        self.attend(x)
    }

    /// Attention over all pixels, plus its input.
    fn attend(&self, x: Tensor<4>) -> Tensor<4> {
        let (Some(norm), Some(qkv), Some(proj)) = (&self.norm2, &self.qkv, &self.proj) else {
            return x;
        };
        let [_, channels, _, _] = x.dims();
        // Queries, keys and values interleave there: [channels, 3, in] -> [3, channels, in]
        let weight = qkv
            .weight()
            .reshape([channels, 3, channels])
            .swap_dims(0, 1)
            .reshape([3 * channels, channels, 1, 1]);
        let bias = qkv.bias().reshape([channels, 3]).swap_dims(0, 1);
        let qkv = Convolution {
            norm: Some(norm.alone()),
            ..pointwise(weight, bias.reshape([1, 3 * channels]))
        };
        let sum = ConvEpilogue {
            residual: Some(x.clone()),
            ..ConvEpilogue::default()
        };
        let heads = attention(qkv.forward(x), self.heads);
        self.scaled(proj.forward_around(heads, sum))
    }

    fn scaled(&self, x: Tensor<4>) -> Tensor<4> {
        match self.options.scale {
            1.0 => x,
            scale => x * scale,
        }
    }
}
