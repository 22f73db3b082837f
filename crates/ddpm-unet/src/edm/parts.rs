//! The ways down and up: parts in an order, each with its name.

use burn::module::Module;
use burn::tensor::Tensor;
use ddpm_kernels::concat_channels;

use super::block::{EdmBlock, groups};
use super::config::EdmConfig;
use super::layers::{Gain, Layers};
use super::plan::{Part, PlannedPart};
use crate::dict::Dict;
use crate::error::UnetError;
use crate::fir;
use crate::layers::{Activation, Conv2d, ConvEpilogue, DropoutRng, GroupNorm};

/// A part without parameters.
#[derive(Module, Debug)]
pub struct Filter {
    #[module(skip)]
    taps: Vec<f64>,
}

/// A part of either way.
#[derive(Module, Debug)]
pub enum EdmPart {
    /// The first convolution.
    Conv(Conv2d),
    /// A residual block.
    Block(EdmBlock),
    /// A residual block over \[h, skip\].
    Joined(EdmBlock),
    /// The image, halved.
    AuxDown(Filter),
    /// What the halved image adds.
    AuxSkip(Conv2d),
    /// What the level before adds: a convolution, then halved.
    AuxResidual(Conv2d),
    /// The output so far, doubled.
    AuxUp(Filter),
    /// The normalisation before a level's output.
    AuxNorm(GroupNorm),
    /// A level's output.
    AuxConv(Conv2d),
}

/// The parts of a plan.
///
/// # Errors   [`UnetError::Config`] if groups or heads do not fit the channels
pub(super) fn build(
    config: &EdmConfig,
    plan: Vec<PlannedPart>,
    layers: &mut Layers<'_>,
) -> Result<Dict<EdmPart>, UnetError> {
    let taps = || config.resample_filter.clone();
    let parts = plan.into_iter().map(|planned| {
        let part = match planned.part {
            Part::Conv { input, output } => {
                EdmPart::Conv(layers.conv(input, output, 3, Gain::Main, 0))
            }
            Part::Block(plan) => match plan.skip {
                0 => EdmPart::Block(EdmBlock::new(config, plan, layers)?),
                _ => EdmPart::Joined(EdmBlock::new(config, plan, layers)?),
            },
            Part::AuxDown => EdmPart::AuxDown(Filter { taps: taps() }),
            Part::AuxSkip { input, output } => {
                EdmPart::AuxSkip(layers.conv(input, output, 1, Gain::Main, 0))
            }
            // The zeros around are for both, the convolution and the filter.
            Part::AuxResidual { input, output } => {
                let wider = config.resample_filter.len() / 2 - 1;
                EdmPart::AuxResidual(layers.conv(input, output, 3, Gain::Main, wider))
            }
            Part::AuxUp { .. } => EdmPart::AuxUp(Filter { taps: taps() }),
            Part::AuxNorm { channels } => EdmPart::AuxNorm(GroupNorm::new(
                groups(channels),
                channels,
                1e-6,
                layers.init(),
            )?),
            Part::AuxConv { input, output } => {
                EdmPart::AuxConv(layers.conv(input, output, 3, Gain::Zero, 0))
            }
        };
        Ok((planned.name, part))
    });
    Ok(Dict(parts.collect::<Result<_, _>>()?))
}

/// The way down: what it leaves, and what the way up will concatenate.
///
/// # Shapes   `x`: `[batch, in_channels, height, width]`, `emb`: `[batch, emb_channels]`
pub(super) fn encode(
    parts: &Dict<EdmPart>,
    x: Tensor<4>,
    emb: &Tensor<2>,
    taps: &[f64],
    rng: Option<&DropoutRng>,
) -> (Tensor<4>, Vec<Tensor<4>>) {
    let mut skips = Vec::new();
    let (mut aux, mut x) = (x.clone(), x);
    for part in parts.iter() {
        match part {
            EdmPart::AuxDown(filter) => {
                aux = fir::halve(aux, &filter.taps, filter.taps.len() / 2 - 1);
                continue;
            }
            EdmPart::AuxSkip(conv) => {
                let sum = ConvEpilogue {
                    residual: Some(x),
                    ..ConvEpilogue::default()
                };
                x = conv.forward_around(aux.clone(), sum);
                skips.pop();
            }
            EdmPart::AuxResidual(conv) => {
                x = (x + fir::halve(conv.forward(aux), taps, 0)) / std::f64::consts::SQRT_2;
                aux = x.clone();
                skips.pop();
            }
            EdmPart::Block(block) | EdmPart::Joined(block) => x = block.forward(x, emb, rng),
            EdmPart::Conv(conv) | EdmPart::AuxConv(conv) => x = conv.forward(x),
            EdmPart::AuxUp(_) | EdmPart::AuxNorm(_) => {}
        }
        skips.push(x.clone());
    }
    (x, skips)
}

/// The way up: the features it leaves, and the output if its parts make one.
///
/// # Shapes   `x`: `[batch, channels, height, width]`, `emb`: `[batch, emb_channels]`
pub(super) fn decode(
    parts: &Dict<EdmPart>,
    mut x: Tensor<4>,
    mut skips: Vec<Tensor<4>>,
    emb: &Tensor<2>,
    rng: Option<&DropoutRng>,
) -> (Tensor<4>, Option<Tensor<4>>) {
    let mut output: Option<Tensor<4>> = None;
    let mut norm = None;
    for part in parts.iter() {
        match part {
            EdmPart::Block(block) => x = block.forward(x, emb, rng),
            EdmPart::Joined(block) => {
                if let Some(skip) = skips.pop() {
                    // [batch, c, h, w] and [batch, skip, h, w] -> [batch, c + skip, h, w]
                    x = concat_channels(x, skip);
                }
                x = block.forward(x, emb, rng);
            }
            EdmPart::AuxUp(filter) => output = output.map(|y| fir::double(y, &filter.taps)),
            EdmPart::AuxNorm(layer) => norm = Some(layer),
            EdmPart::AuxConv(conv) => {
                let (h, norm) = match norm.take() {
                    Some(norm) => norm.then(Activation::Silu).defer_to_conv(x.clone()),
                    None => (x.clone(), None),
                };
                let sum = ConvEpilogue {
                    norm,
                    residual: output.take(),
                    ..ConvEpilogue::default()
                };
                output = Some(conv.forward_around(h, sum));
            }
            // Parts of the way down.
            EdmPart::Conv(_)
            | EdmPart::AuxDown(_)
            | EdmPart::AuxSkip(_)
            | EdmPart::AuxResidual(_) => {}
        }
    }
    (x, output)
}
