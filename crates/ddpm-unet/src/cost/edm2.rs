//! The figures of the network of EDM2; read it beside [`crate::Edm2UNet`]'s plan and blocks.

use super::layer::{LayerCost, Plane, Stride, conv, linear, product, table};
use super::live::Live;
use super::unet::{numbers, planes};
use super::{AttentionCost, Cost, LevelCost};
use crate::edm::Resampling;
use crate::edm2::{Edm2BlockPlan, Edm2Config, Flavour};
use crate::error::UnetError;

pub(super) fn figures(config: &Edm2Config, size: [usize; 2]) -> Result<Cost, UnetError> {
    config.validate()?;
    let channels = config.channels();
    let planes = planes(channels.len(), size);
    let (first, emb) = (channels[0], config.emb_channels());
    let noise = config.noise_channels();
    let classes = match config.label_dim {
        0 => LayerCost::default(),
        classes => without_bias(linear(classes, emb), emb),
    };
    // Frequencies and phases, and the gain of the output.
    let mut total = table(2, noise)
        .and(table(1, 1))
        .and(without_bias(linear(noise, emb), emb))
        .and(classes);
    let mut live = Live::default();
    let mut attended = vec![(0u128, 0usize, 0u128); channels.len()];
    let plan = config.plan();
    for part in &plan.enc {
        let plane = planes[part.level];
        let output = match part.block {
            None => {
                let input = config.in_channels + 1;
                total = total
                    .and(mp_conv(input, first, 3, plane))
                    .keeping(numbers(input, plane));
                first
            }
            Some(block) => {
                total = total.and(block_cost(config, block, plane, &mut attended[part.level])?);
                inside(&mut live, block, plane);
                block.output
            }
        };
        live.skips.push(numbers(output, plane));
    }
    for part in &plan.dec {
        let plane = planes[part.level];
        let Some(block) = part.block else { continue };
        if block.skip > 0 {
            // Scaled copies of both, and the two as one.
            live.with(product(&[2, numbers(block.input, plane)]));
            live.skips.pop();
        }
        total = total.and(block_cost(config, block, plane, &mut attended[part.level])?);
        inside(&mut live, block, plane);
    }
    total = total
        .and(mp_conv(first, config.out_channels, 3, planes[0]))
        .keeping(numbers(first, planes[0]));

    let levels = channels.iter().enumerate().map(|(level, &channels)| {
        let (blocks, heads, multiplications) = attended[level];
        LevelCost {
            height: planes[level].height,
            width: planes[level].width,
            channels,
            attention: (blocks > 0).then(|| AttentionCost {
                blocks,
                tokens: planes[level].area(),
                heads,
                multiplications,
            }),
        }
    });
    Ok(Cost {
        parameters: total.parameters,
        multiplications: total.multiplications,
        kept: total.kept,
        recomputed: total.kept,
        widest: total.widest,
        live: live.peak,
        packed: total.packed,
        levels: levels.collect(),
    })
}

/// A layer without the bias that is counted with it.
fn without_bias(cost: LayerCost, output: usize) -> LayerCost {
    LayerCost {
        parameters: cost.parameters.saturating_sub(output as u128),
        ..cost
    }
}

fn mp_conv(input: usize, output: usize, kernel: usize, plane: Plane) -> LayerCost {
    without_bias(conv(input, output, kernel, Stride::One, plane), output)
}

/// `attended`: blocks with attention at its level, their heads and multiplications.
fn block_cost(
    config: &Edm2Config,
    block: Edm2BlockPlan,
    plane: Plane,
    attended: &mut (u128, usize, u128),
) -> Result<LayerCost, UnetError> {
    block.check()?;
    let Edm2BlockPlan { input, output, .. } = block;
    let (branch, map) = (numbers(block.branch_input(), plane), numbers(output, plane));
    let emb = config.emb_channels();
    let mut cost = table(1, 1)
        .and(mp_conv(block.branch_input(), output, 3, plane))
        .and(without_bias(linear(emb, output), output))
        .and(mp_conv(output, output, 3, plane))
        // What SiLU and the convolution after it read, and the product with the embedding, each twice.
        .keeping(product(&[2, branch]))
        .keeping(product(&[4, map]));
    if input != output {
        cost = cost
            .and(mp_conv(input, output, 1, plane))
            .keeping(numbers(input, plane));
    }
    if block.flavour == Flavour::Encoder {
        // The normalisation keeps what it divides, and its square's root.
        cost = cost.keeping(product(&[2, map]));
    }
    if config.dropout > 0.0 {
        cost = cost.keeping(product(&[2, map]));
    }
    if config.clip_act.is_some() {
        cost = cost.keeping(map);
    }
    if block.heads > 0 {
        let tokens = plane.area();
        let projections =
            mp_conv(output, 3 * output, 1, plane).and(mp_conv(output, output, 1, plane));
        let scores = product(&[2, tokens, tokens, output as u128]);
        let attention = LayerCost {
            multiplications: projections.multiplications.saturating_add(scores),
            ..projections
        }
        .keeping(product(&[2, map]))
        // Queries, keys and values before and after their normalisation, and the normalisers.
        .keeping(product(&[9, map]))
        .keeping(numbers(block.heads, plane));
        *attended = (
            attended.0 + 1,
            block.heads,
            attended.2.saturating_add(attention.multiplications),
        );
        cost = cost.and(attention);
    }
    Ok(cost)
}

/// The most that exists inside a block, besides the skips.
fn inside(live: &mut Live, block: Edm2BlockPlan, plane: Plane) {
    let before = match block.resampling {
        Resampling::Keep => plane,
        Resampling::Down => plane.doubled(),
        Resampling::Up => plane.halved(),
    };
    let (input, map) = (numbers(block.input, plane), numbers(block.output, plane));
    if block.resampling != Resampling::Keep {
        live.with(numbers(block.input, before).saturating_add(input));
    }
    // Main path, SiLU of it, what the branch has made and its SiLU.
    let branch = numbers(block.branch_input(), plane);
    live.with(product(&[2, branch]).saturating_add(product(&[2, map])));
    if block.heads > 0 {
        // Input, and queries, keys and values before and after their normalisation.
        live.with(product(&[8, map]));
    }
}
