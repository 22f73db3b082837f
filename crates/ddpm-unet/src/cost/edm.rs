//! The figures of the networks of EDM; read it beside [`crate::EdmUNet`]'s plan and blocks.

use super::layer::{LayerCost, Plane, Stride, conv, linear, norm, product, table};
use super::live::Live;
use super::unet::{attention, numbers, planes, residual};
use super::{AttentionCost, Cost, LevelCost};
use crate::edm::{
    BlockPlan, EdmArchitecture, EdmConfig, EdmEmbedding, Part, PlannedPart, Resampling,
};
use crate::edm::{check_heads, groups, is_adaptive, projects};
use crate::error::UnetError;
use crate::layers::{Activation, check_groups};
use crate::resnet::{ResnetOptions, ResnetResample, TimeShift};

/// A sum over the parts.
struct Sum<'a> {
    config: &'a EdmConfig,
    planes: &'a [Plane],
    total: LayerCost,
    live: Live,
    /// Blocks with attention, their heads and cost, by level.
    attended: Vec<(u128, usize, LayerCost)>,
}

pub(super) fn figures(config: &EdmConfig, size: [usize; 2]) -> Result<Cost, UnetError> {
    config.validate()?;
    let channels = config.channels();
    let planes = planes(channels.len(), size);
    let plan = config.plan();
    let mut sum = Sum {
        config,
        planes: &planes,
        total: embeddings(config),
        live: Live::default(),
        attended: vec![(0, 0, LayerCost::default()); channels.len()],
    };
    for part in &plan.enc {
        sum.add(part)?;
        let numbers = numbers(left(part, config), planes[part.level]);
        match part.part {
            Part::Conv { .. } | Part::Block(_) => sum.live.skips.push(numbers),
            // They replace the last skip.
            _ => {}
        }
    }
    for part in &plan.dec {
        if let Part::Block(BlockPlan { input, skip, .. }) = part.part
            && skip > 0
        {
            // Both, and the two that they are made of, of which one is a skip.
            let plane = planes[part.level];
            let apart = numbers(input - skip, plane);
            sum.live.with(apart.saturating_add(numbers(input, plane)));
            sum.live.skips.pop();
        }
        sum.add(part)?;
    }
    if config.model_type == EdmArchitecture::DhariwalUNet {
        let (last, plane) = (plan.last, planes[0]);
        let output = norm(groups(last), last)?
            .and(conv(last, config.out_channels, 3, Stride::One, plane))
            .keeping(numbers(last, plane));
        sum.total = sum.total.and(output);
    }

    let attended = &sum.attended;
    let total = attended
        .iter()
        .fold(sum.total, |total, (_, _, cost)| total.and(*cost));
    let levels = channels.iter().enumerate().map(|(level, &channels)| {
        let (blocks, heads, cost) = attended[level];
        LevelCost {
            height: planes[level].height,
            width: planes[level].width,
            channels,
            attention: (blocks > 0).then(|| AttentionCost {
                blocks,
                tokens: planes[level].area(),
                heads,
                multiplications: cost.multiplications,
            }),
        }
    });
    Ok(Cost {
        parameters: total.parameters,
        multiplications: total.multiplications,
        kept: total.kept,
        recomputed: total.kept,
        widest: total.widest,
        live: sum.live.peak,
        packed: total.packed,
        levels: levels.collect(),
    })
}

/// Channels that a part leaves.
fn left(part: &PlannedPart, config: &EdmConfig) -> usize {
    match part.part {
        Part::Conv { output, .. }
        | Part::AuxSkip { output, .. }
        | Part::AuxResidual { output, .. }
        | Part::AuxConv { output, .. } => output,
        Part::Block(plan) => plan.output,
        Part::AuxDown => config.in_channels,
        Part::AuxUp { channels } | Part::AuxNorm { channels } => channels,
    }
}

impl Sum<'_> {
    fn add(&mut self, part: &PlannedPart) -> Result<(), UnetError> {
        let (level, plane) = (part.level, self.planes[part.level]);
        let cost = match part.part {
            Part::Conv { input, output } | Part::AuxConv { input, output } => {
                self.live
                    .with(numbers(input, plane).saturating_add(numbers(output, plane)));
                conv(input, output, 3, Stride::One, plane).keeping(numbers(input, plane))
            }
            Part::AuxSkip { input, output } => {
                conv(input, output, 1, Stride::One, plane).keeping(numbers(input, plane))
            }
            Part::AuxResidual { input, output } => {
                // Convolved, then halved by a filter that reads a margin.
                let margin = self.config.resample_filter.len() - 2;
                let large = Plane {
                    height: plane.doubled().height.saturating_add(margin),
                    width: plane.doubled().width.saturating_add(margin),
                };
                self.live.with(product(&[3, numbers(output, large)]));
                conv(input, output, 3, Stride::One, large).keeping(numbers(input, plane.doubled()))
            }
            Part::AuxNorm { channels } => norm(groups(channels), channels)?,
            Part::AuxDown | Part::AuxUp { .. } => LayerCost::default(),
            Part::Block(plan) => self.block(plan, level)?,
        };
        self.total = self.total.and(cost);
        Ok(())
    }

    fn block(&mut self, plan: BlockPlan, level: usize) -> Result<LayerCost, UnetError> {
        let BlockPlan { input, output, .. } = plan;
        let config = self.config;
        check_groups(groups(input), input)?;
        check_groups(groups(output), output)?;
        check_heads(plan)?;
        let taps = &config.resample_filter;
        let boxed = taps.len() == 2 && taps[0] == taps[1];
        let after = self.planes[level];
        let (inside, plane) = match (plan.resampling, boxed) {
            (Resampling::Keep, _) => (ResnetResample::Keep, after),
            (Resampling::Down, true) => (ResnetResample::Halve, after.doubled()),
            (Resampling::Down, false) => (ResnetResample::FirHalve, after.doubled()),
            (Resampling::Up, true) => (ResnetResample::Double, after.halved()),
            (Resampling::Up, false) => (ResnetResample::FirDouble, after.halved()),
        };
        let options = ResnetOptions {
            temb_channels: config.emb_channels(),
            groups: None,
            first_groups: None,
            eps: 1e-5,
            dropout: config.dropout,
            activation: Activation::Silu,
            time_shift: match is_adaptive(config) {
                true => TimeShift::ScaleShift,
                false => TimeShift::Default,
            },
            output_scale: 1.0,
        };
        let mut cost = residual(input, output, inside, options, plane)?;
        if projects(config, plan) && input == output && !inside.is_fir() {
            cost = cost
                .and(conv(input, output, 1, Stride::One, after))
                .keeping(numbers(input, after));
        }
        let map = numbers(output, after);
        let filtered = match plan.resampling {
            Resampling::Keep => 0,
            _ => product(&[3, numbers(input, plane).max(map)]),
        };
        self.live.with(filtered.saturating_add(map));
        let projected = projects(config, plan);
        self.live.residual(numbers(input, plane), projected, map);
        if let Some(dim) = output.checked_div(plan.heads) {
            let attention = attention(output, dim, Some(groups(output)), after)?;
            self.live.attention(map, map);
            let (blocks, heads, sum) = &mut self.attended[level];
            *blocks += 1;
            *heads = plan.heads;
            *sum = sum.and(attention);
        }
        Ok(cost)
    }
}

/// What turns noise levels, classes and augmentations into vectors.
fn embeddings(config: &EdmConfig) -> LayerCost {
    let (features, emb) = (config.noise_channels(), config.emb_channels());
    let song = config.model_type == EdmArchitecture::SongUNet;
    let without_bias = |input: usize, output: usize| LayerCost {
        parameters: product(&[input as u128, output as u128]),
        ..linear(input, output)
    };
    let frequencies = match config.embedding_type {
        EdmEmbedding::Positional => LayerCost::default(),
        EdmEmbedding::Fourier => table(1, features / 2),
    };
    let labels = match (config.label_dim, song) {
        (0, _) => LayerCost::default(),
        (classes, true) => linear(classes, features),
        (classes, false) => without_bias(classes, emb),
    };
    let augment = match config.augment_dim {
        0 => LayerCost::default(),
        numbers => without_bias(numbers, features),
    };
    frequencies
        .and(labels)
        .and(augment)
        .and(linear(features, emb))
        .and(linear(emb, emb))
}
