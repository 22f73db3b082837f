//! The residual block.

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};
use ddpm_kernels::upsample_nearest_2x;

use crate::error::UnetError;
use crate::fir::{self, FIR};
use crate::init::Init;
use crate::layers::{Activation, Conv2d, ConvEpilogue, Dropout, DropoutRng, GroupNorm, Linear};
use crate::resample::avg_pool_2x;

/// How the time embedding acts on a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeShift {
    /// Added after the first convolution (Ho et al. 2020).
    Default,
    /// Scales and shifts the second normalisation (Nichol & Dhariwal 2021, section 3: AdaGN).
    ScaleShift,
}

/// Whether a residual block changes the resolution inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResnetResample {
    /// It keeps the resolution.
    Keep,
    /// It halves by 2×2 means.
    Halve,
    /// It doubles by nearest neighbour.
    Double,
    /// It halves by a filter; the input is projected in any case.
    FirHalve,
    /// It doubles by a filter; the input is projected in any case.
    FirDouble,
}

impl ResnetResample {
    /// Whether a filter changes the resolution.
    pub(crate) fn is_fir(self) -> bool {
        matches!(self, Self::FirHalve | Self::FirDouble)
    }
}

/// What all residual blocks of a network share.
#[derive(Debug, Clone, Copy)]
pub struct ResnetOptions {
    /// Channels of the time embedding.
    pub temb_channels: usize,
    /// Groups of the normalisations; `None` is a quarter of the channels, at most 32.
    pub groups: Option<usize>,
    /// Those of the first normalisation where they follow another rule.
    pub first_groups: Option<usize>,
    /// Added to the variance in the normalisations.
    pub eps: f64,
    /// Dropout before the second convolution.
    pub dropout: f64,
    /// The nonlinearity.
    pub activation: Activation,
    /// How the time embedding acts.
    pub time_shift: TimeShift,
    /// The sum of both branches is divided by this.
    pub output_scale: f64,
}

impl ResnetOptions {
    /// The group count of the first normalisation, of `channels` channels.
    pub fn first_groups_for(&self, channels: usize) -> usize {
        self.first_groups
            .unwrap_or_else(|| self.groups_for(channels))
    }

    /// The group count for `channels` channels.
    pub fn groups_for(&self, channels: usize) -> usize {
        self.groups.unwrap_or_else(|| (channels / 4).clamp(1, 32))
    }
}

/// norm → act → conv, time embedding, norm → act → dropout → conv, plus the input
/// (Ho et al. 2020, appendix B; Dhariwal & Nichol 2021 for the resolution change inside).
#[derive(Module, Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    dropout: Dropout,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    #[module(skip)]
    options: ResnetOptions,
    #[module(skip)]
    inside: ResnetResample,
}

impl ResnetBlock {
    /// # Errors   [`UnetError::Config`] if the groups do not divide the channels
    pub fn new(
        input: usize,
        output: usize,
        inside: ResnetResample,
        options: ResnetOptions,
        init: &mut Init,
    ) -> Result<Self, UnetError> {
        let projected = match options.time_shift {
            TimeShift::Default => output,
            TimeShift::ScaleShift => 2 * output,
        };
        Ok(Self {
            norm1: GroupNorm::new(options.first_groups_for(input), input, options.eps, init)?,
            conv1: Conv2d::same(input, output, 3, init),
            time_emb_proj: Linear::new(options.temb_channels, projected, init),
            norm2: GroupNorm::new(options.groups_for(output), output, options.eps, init)?,
            dropout: Dropout::new(options.dropout),
            conv2: Conv2d::last_of_branch(output, output, init),
            conv_shortcut: (input != output || inside.is_fir())
                .then(|| Conv2d::same(input, output, 1, init)),
            options,
            inside,
        })
    }

    /// # Shapes   `x`: `[batch, in, height, width]`, `temb`: `[batch, temb_channels]`, after the
    /// nonlinearity and in the type of x; returns `[batch, out, height', width']`
    pub fn forward(&self, x: Tensor<4>, temb: &Tensor<2>, rng: Option<&DropoutRng>) -> Tensor<4> {
        let act = self.options.activation;
        let temb = temb.clone();
        // [batch, temb_channels] -> [batch, projected], and back to the type of biases
        let (bias, scale_shift) = match self.options.time_shift {
            TimeShift::Default => {
                let bias = self.time_emb_proj.forward_and(temb, self.conv1.bias());
                (Some(bias.cast(FloatDType::F32)), None)
            }
            TimeShift::ScaleShift => {
                let both = self.time_emb_proj.forward(temb);
                (None, Some(both.cast(FloatDType::F32)))
            }
        };

        let norm = self.norm1.then(act);
        let (h, norm) = match self.inside {
            ResnetResample::Keep | ResnetResample::Double => norm.defer_to_conv(x.clone()),
            ResnetResample::Halve => (avg_pool_2x(norm.forward(x.clone())), None),
            ResnetResample::FirHalve => (fir::halve(norm.forward(x.clone()), &FIR, 1), None),
            ResnetResample::FirDouble => (fir::double(norm.forward(x.clone()), &FIR), None),
        };
        let first = ConvEpilogue {
            norm,
            upsample_nearest_2x: self.inside == ResnetResample::Double,
            bias,
            ..ConvEpilogue::default()
        };
        let h = self.conv1.forward_around(h, first);

        let x = match self.inside {
            ResnetResample::Keep => x,
            ResnetResample::Halve => avg_pool_2x(x),
            ResnetResample::Double => upsample_nearest_2x(x),
            ResnetResample::FirHalve => fir::halve(x, &FIR, 1),
            ResnetResample::FirDouble => fir::double(x, &FIR),
        };
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };

        let norm = match scale_shift {
            None => self.norm2.then(act),
            Some(temb) => {
                let [scale, shift]: [Tensor<2>; 2] = temb
                    .chunk(2, 1)
                    .try_into()
                    .unwrap_or_else(|_| unreachable!("an even channel count has two halves"));
                self.norm2.scaled_then(scale, shift, act)
            }
        };
        let (h, norm) = if self.dropout.is_active(rng) {
            (self.dropout.forward(norm.forward(h), rng), None)
        } else {
            norm.defer_to_conv(h)
        };
        let last = ConvEpilogue {
            norm,
            residual: Some(shortcut),
            ..ConvEpilogue::default()
        };
        scale_down(
            self.conv2.forward_around(h, last),
            self.options.output_scale,
        )
    }
}

/// x / `scale`, without touching x when the scale is 1.
pub(crate) fn scale_down<const D: usize>(x: Tensor<D>, scale: f64) -> Tensor<D> {
    if scale == 1.0 { x } else { x / scale }
}
