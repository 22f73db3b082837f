//! The figures of the U-Net; read it beside [`crate::UNet2D::new`].

use super::layer::{LayerCost, Plane, Stride, conv, linear, norm, product, table};
use super::{AttentionCost, Cost, LevelCost, live};
use crate::attention::heads;
use crate::config::{
    ClassEmbedKind, DownBlockKind, ResampleStyle, TimeEmbeddingKind, TimeScaleShift, UNet2DConfig,
    UpBlockKind,
};
use crate::error::UnetError;
use crate::layers::Activation;
use crate::resnet::{ResnetOptions, ResnetResample, TimeShift};
use crate::skip_blocks::{self, ATTENTION_GROUPS, PICTURE_CHANNELS};

pub(super) fn figures(config: &UNet2DConfig, size: [usize; 2]) -> Result<Cost, UnetError> {
    config.validate()?;
    let channels = &config.block_out_channels;
    let final_level = channels.len() - 1;
    let planes = planes(channels.len(), size);
    let resnet = config.resnet_options();
    let (first, last) = (channels[0], channels[final_level]);
    let layers = config.layers_per_block as u128;

    let mut total = embeddings(config).and(
        conv(config.in_channels, first, 3, Stride::One, planes[0])
            .keeping(numbers(config.in_channels, planes[0])),
    );
    // Blocks with attention and their cost, by level.
    let mut attended = vec![(0u128, LayerCost::default()); channels.len()];
    // What it adds is returned too.
    let mut attend = |level: usize, blocks: u128, groups: Option<usize>| {
        let head_dim = config.head_dim(channels[level])?;
        let cost = attention(channels[level], head_dim, groups, planes[level])?;
        let cost = cost.times(blocks);
        let (count, sum) = attended[level];
        attended[level] = (count.saturating_add(blocks), sum.and(cost));
        Ok::<LayerCost, UnetError>(cost)
    };
    // What lies between the blocks, and the most that is kept inside one.
    let mut between = numbers(first, planes[0]);
    let mut inside = 0u128;

    let mut entering = first;
    for (i, kind) in config.down_block_types.iter().enumerate() {
        let (output, plane) = (channels[i], planes[i]);
        let resnet = match kind.skips() {
            true => skip_blocks::options(resnet),
            false => resnet,
        };
        let others = residual(output, output, ResnetResample::Keep, resnet, plane)?;
        let mut block = residual(entering, output, ResnetResample::Keep, resnet, plane)?
            .and(others.times(layers - 1));
        between = between.saturating_add(product(&[layers, numbers(output, plane)]));
        let groups = match kind.skips() {
            true => ATTENTION_GROUPS,
            false => resnet.groups_for(output),
        };
        let attended = match kind.attends() {
            true => attend(i, layers, Some(groups))?,
            false => LayerCost::default(),
        };
        if i != final_level {
            between = between.saturating_add(numbers(output, plane.halved()));
            let by_residual = *kind == DownBlockKind::ResnetDownsampleBlock2D
                || (*kind == DownBlockKind::AttnDownBlock2D
                    && config.downsample_type == ResampleStyle::Resnet);
            block = block.and(match (kind.skips(), by_residual) {
                (true, _) => residual(output, output, ResnetResample::FirHalve, resnet, plane)?
                    .and(conv(
                        PICTURE_CHANNELS,
                        output,
                        1,
                        Stride::One,
                        plane.halved(),
                    ))
                    .keeping(numbers(PICTURE_CHANNELS, plane.halved())),
                (_, true) => residual(output, output, ResnetResample::Halve, resnet, plane)?,
                (_, false) => conv(output, output, 3, Stride::Two, plane.halved())
                    .keeping(numbers(output, plane)),
            });
        }
        inside = inside.max(block.and(attended).kept);
        total = total.and(block);
        entering = output;
    }

    if config.mid_block_type.is_some() {
        let plane = planes[final_level];
        let block = residual(last, last, ResnetResample::Keep, resnet, plane)?.times(2);
        let mut attended = LayerCost::default();
        if config.add_attention {
            let groups = match (config.attn_norm_num_groups, config.resnet_time_scale_shift) {
                (Some(groups), _) => Some(groups),
                (None, TimeScaleShift::Default) => Some(resnet.groups_for(last)),
                (None, TimeScaleShift::ScaleShift) => None,
            };
            attended = attend(final_level, 1, groups)?;
        }
        between = between.saturating_add(numbers(last, plane));
        inside = inside.max(block.and(attended).kept);
        total = total.and(block);
    }

    for (i, kind) in config.up_block_types.iter().enumerate() {
        let level = final_level - i;
        let (output, plane) = (channels[level], planes[level]);
        // The skips of a level: its own blocks', then what entered it on the way down.
        let entered = channels[level.saturating_sub(1)];
        let resnet = match kind.skips() {
            true => skip_blocks::options(resnet),
            false => resnet,
        };
        let part = |x: usize, skip: usize| {
            let options = ResnetOptions {
                first_groups: match kind.skips() {
                    true => skip_blocks::first_groups(x, skip, kind.attends()),
                    false => None,
                },
                ..resnet
            };
            residual(x + skip, output, ResnetResample::Keep, options, plane)
        };
        let mut block = part(entering, output)?
            .and(part(output, output)?.times(layers - 1))
            .and(part(output, entered)?);
        let attended = match (kind.attends(), kind.skips()) {
            (true, false) => attend(level, layers + 1, Some(resnet.groups_for(output)))?,
            (true, true) => attend(level, 1, Some(ATTENTION_GROUPS))?,
            (false, _) => LayerCost::default(),
        };
        let after = match i == final_level {
            true => plane,
            false => plane.doubled(),
        };
        between = between.saturating_add(numbers(output, after));
        if i != final_level {
            let by_residual = *kind == UpBlockKind::ResnetUpsampleBlock2D
                || (*kind == UpBlockKind::AttnUpBlock2D
                    && config.upsample_type == ResampleStyle::Resnet);
            block = block.and(match (kind.skips(), by_residual) {
                (true, _) => residual(output, output, ResnetResample::FirDouble, resnet, plane)?
                    .and(norm(resnet.groups_for(output), output)?)
                    .and(conv(output, PICTURE_CHANNELS, 3, Stride::One, plane))
                    .keeping(numbers(output, plane)),
                (_, true) => residual(output, output, ResnetResample::Double, resnet, plane)?,
                (_, false) => {
                    conv(output, output, 3, Stride::One, after).keeping(numbers(output, plane))
                }
            });
        }
        inside = inside.max(block.and(attended).kept);
        total = total.and(block);
        entering = output;
    }

    total = total
        .and(norm(resnet.groups_for(first), first)?)
        .and(conv(first, config.out_channels, 3, Stride::One, planes[0]))
        .keeping(numbers(first, planes[0]));
    let total = attended.iter().fold(total, |sum, (_, cost)| sum.and(*cost));
    let levels = (0..channels.len()).map(|level| {
        let (blocks, cost) = attended[level];
        LevelCost {
            height: planes[level].height,
            width: planes[level].width,
            channels: channels[level],
            attention: (blocks > 0).then(|| AttentionCost {
                blocks,
                tokens: planes[level].area(),
                heads: config
                    .head_dim(channels[level])
                    .map_or(0, |dim| channels[level] / dim.max(1)),
                multiplications: cost.multiplications,
            }),
        }
    });
    Ok(Cost {
        parameters: total.parameters,
        multiplications: total.multiplications,
        kept: total.kept,
        recomputed: between.saturating_add(inside),
        widest: total.widest,
        live: live::of_unet(config, &planes),
        packed: total.packed,
        levels: levels.collect(),
    })
}

/// Height and width at each level, of images padded to what the levels divide.
pub(super) fn planes(levels: usize, size: [usize; 2]) -> Vec<Plane> {
    let multiple = 1usize << (levels - 1);
    let [height, width] = size.map(|side| {
        side.checked_next_multiple_of(multiple)
            .unwrap_or(side - side % multiple)
    });
    (0..levels)
        .map(|level| Plane {
            height: height >> level,
            width: width >> level,
        })
        .collect()
}

/// Of one image.
pub(super) fn numbers(channels: usize, plane: Plane) -> u128 {
    product(&[channels as u128, plane.area()])
}

/// What turns time steps and classes into vectors.
fn embeddings(config: &UNet2DConfig) -> LayerCost {
    let first = config.time_features();
    let temb = config.temb_channels();
    let (frequencies, features) = match config.time_embedding_type {
        TimeEmbeddingKind::Positional => (LayerCost::default(), first),
        TimeEmbeddingKind::Fourier => (table(1, first), 2 * first),
        TimeEmbeddingKind::Learned => {
            (table(config.num_train_timesteps.unwrap_or(1), first), first)
        }
    };
    let mlp = linear(features, temb).and(linear(temb, temb));
    let classes = match (config.class_embed_type, config.num_class_embeds) {
        (None, Some(classes)) => table(classes, temb),
        (Some(ClassEmbedKind::Timestep), _) => mlp,
        (Some(ClassEmbedKind::Identity), _) | (None, None) => LayerCost::default(),
    };
    let vector = config.vector_dim.map_or(LayerCost::default(), |numbers| {
        linear(numbers, temb).and(linear(temb, temb))
    });
    frequencies.and(mlp).and(classes).and(vector)
}

/// A residual block whose input has `plane`, with its input.
///
/// # Errors   [`UnetError::Config`] if the groups do not divide the channels
pub(super) fn residual(
    input: usize,
    output: usize,
    inside: ResnetResample,
    options: ResnetOptions,
    plane: Plane,
) -> Result<LayerCost, UnetError> {
    let after = match inside {
        ResnetResample::Keep => plane,
        ResnetResample::Halve | ResnetResample::FirHalve => plane.halved(),
        ResnetResample::Double | ResnetResample::FirDouble => plane.doubled(),
    };
    let projected = match options.time_shift {
        TimeShift::Default => output,
        TimeShift::ScaleShift => 2 * output,
    };
    let mut cost = norm(options.first_groups_for(input), input)?
        .and(conv(input, output, 3, Stride::One, after))
        .and(linear(options.temb_channels, projected))
        .and(norm(options.groups_for(output), output)?)
        .and(conv(output, output, 3, Stride::One, after))
        .keeping(numbers(input, plane))
        .keeping(numbers(output, after));
    if input != output || inside.is_fir() {
        cost = cost.and(conv(input, output, 1, Stride::One, after));
    }
    let apart = kept_by_activation(options.activation);
    cost = cost.keeping(product(&[apart, numbers(output, after)]));
    cost = cost.keeping(match inside {
        // Normalised, then averaged: the mean keeps what it read, the convolution the mean.
        ResnetResample::Halve => {
            product(&[apart.max(1), numbers(input, plane)]).saturating_add(numbers(input, after))
        }
        ResnetResample::Keep | ResnetResample::Double => product(&[apart, numbers(input, plane)]),
        // Both branches are filtered before their convolutions, which keep what they read.
        ResnetResample::FirHalve | ResnetResample::FirDouble => {
            product(&[apart, numbers(input, plane)])
                .saturating_add(product(&[2, numbers(input, after)]))
        }
    });
    if options.dropout > 0.0 {
        // The mask, and what the convolution reads.
        cost = cost.keeping(product(&[2, numbers(output, after)]));
    }
    Ok(cost)
}

/// Maps that a normalisation with its nonlinearity keeps besides its input: none for SiLU, which the
/// convolution computes again.
fn kept_by_activation(activation: Activation) -> u128 {
    match activation {
        Activation::Silu => 0,
        Activation::Relu => 1,
        Activation::Gelu => 2,
        // x · tanh(softplus(x)), an operation each.
        Activation::Mish => 6,
    }
}

/// Attention with its normalisation and its input.
///
/// # Errors   [`UnetError::Config`] if no head fits or the groups do not divide the channels
pub(super) fn attention(
    channels: usize,
    head_dim: usize,
    groups: Option<usize>,
    plane: Plane,
) -> Result<LayerCost, UnetError> {
    let heads = heads(channels, head_dim)?;
    let inner = heads * head_dim;
    let norm = groups.map(|groups| norm(groups, channels)).transpose()?;
    let tokens = plane.area();
    let scores = product(&[2, tokens, tokens, inner as u128]);
    // Per pixel: queries, keys and values, then the projection.
    let projections = linear(channels, inner)
        .times(3)
        .and(linear(inner, channels));
    Ok(LayerCost {
        multiplications: product(&[projections.multiplications, tokens]).saturating_add(scores),
        widest: numbers(3 * inner, plane),
        ..projections.and(norm.unwrap_or_default())
    }
    .keeping(numbers(channels, plane))
    .keeping(product(&[4, numbers(inner, plane)]))
    .keeping(numbers(heads, plane)))
}
