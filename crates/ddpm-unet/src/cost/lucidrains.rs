//! The figures of the network of denoising-diffusion-pytorch; read it beside [`crate::LucidrainsUNet`].

use super::layer::{LayerCost, Plane, Stride, conv, linear, product, table};
use super::live::Live;
use super::unet::{numbers, planes};
use super::{AttentionCost, Cost, LevelCost};
use crate::error::UnetError;
use crate::lucidrains::{LucidrainsConfig, MEMORY};

/// What a normalisation, scale and shift, and SiLU keep of their maps: operations of their own each.
const KEPT_BY_HALF_A_BLOCK: u128 = 6;

pub(super) fn figures(config: &LucidrainsConfig, size: [usize; 2]) -> Result<Cost, UnetError> {
    config.validate()?;
    let channels = config.channels();
    let levels = config.dim_mults.len();
    let planes = planes(levels, size);
    let (first, middle, time) = (channels[0], channels[levels], config.time_channels());
    let mut sum = Sum {
        config,
        total: table(1, config.learned_sinusoidal_dim / 2)
            .and(linear(config.time_features(), time))
            .and(linear(time, time))
            .and(kept(config.in_channels, first, 7, planes[0])),
        live: Live::default(),
        full: vec![(0, 0); levels],
    };
    let entered = numbers(first, planes[0]);
    sum.live.skips.push(entered);
    for level in 0..levels {
        let (input, output, plane) = (channels[level], channels[level + 1], planes[level]);
        for half in 0..2 {
            sum.block(input, input, plane);
            if half == 1 {
                sum.attention(level, input, config.full_attn[level], plane);
            }
            sum.live.skips.push(numbers(input, plane));
        }
        let resample = match level + 1 == levels {
            true => kept(input, output, 3, plane),
            false => kept(input.saturating_mul(4), output, 1, plane.halved()),
        };
        sum.add(resample);
    }
    let last = planes[levels - 1];
    sum.block(middle, middle, last);
    sum.attention(levels - 1, middle, true, last);
    sum.block(middle, middle, last);
    for level in (0..levels).rev() {
        let (input, output, plane) = (channels[level], channels[level + 1], planes[level]);
        for _ in 0..2 {
            sum.join(output, input, plane);
            sum.block(output.saturating_add(input), output, plane);
        }
        sum.attention(level, output, config.full_attn[level], plane);
        let (before, plane) = match level {
            0 => (plane, plane),
            _ => (plane, plane.doubled()),
        };
        let up = conv(output, input, 3, Stride::One, plane).keeping(numbers(output, before));
        sum.add(up);
    }
    sum.join(first, first, planes[0]);
    sum.block(first.saturating_mul(2), first, planes[0]);
    sum.add(kept(first, config.out_channels, 1, planes[0]));

    let each = (0..levels).map(|level| {
        let (blocks, multiplications) = sum.full[level];
        LevelCost {
            height: planes[level].height,
            width: planes[level].width,
            channels: channels[level + 1],
            attention: (blocks > 0).then(|| AttentionCost {
                blocks,
                tokens: planes[level].area(),
                heads: config.attn_heads[level],
                multiplications,
            }),
        }
    });
    Ok(Cost {
        parameters: sum.total.parameters,
        multiplications: sum.total.multiplications,
        kept: sum.total.kept,
        recomputed: sum.total.kept,
        widest: sum.total.widest,
        live: sum.live.peak,
        packed: sum.total.packed,
        levels: each.collect(),
    })
}

/// A convolution that keeps its input.
fn kept(input: usize, output: usize, kernel: usize, plane: Plane) -> LayerCost {
    conv(input, output, kernel, Stride::One, plane).keeping(numbers(input, plane))
}

/// A sum over the parts.
struct Sum<'a> {
    config: &'a LucidrainsConfig,
    total: LayerCost,
    live: Live,
    /// Blocks of full attention and their multiplications, by level.
    full: Vec<(u128, u128)>,
}

impl Sum<'_> {
    fn add(&mut self, cost: LayerCost) {
        self.total = self.total.and(cost);
    }

    /// Two maps and the one that they become, of which one is a skip.
    fn join(&mut self, below: usize, skip: usize, plane: Plane) {
        let (below, skip) = (numbers(below, plane), numbers(skip, plane));
        self.live.with(product(&[2, below]).saturating_add(skip));
        self.live.skips.pop();
    }

    fn block(&mut self, input: usize, output: usize, plane: Plane) {
        let map = numbers(output, plane);
        let mut cost = linear(self.config.time_channels(), output.saturating_mul(2))
            .and(kept(input, output, 3, plane))
            .and(kept(output, output, 3, plane))
            .and(table(2, output))
            .keeping(product(&[2 * KEPT_BY_HALF_A_BLOCK, map]));
        if input != output {
            cost = cost.and(conv(input, output, 1, Stride::One, plane));
        }
        if self.config.dropout > 0.0 {
            cost = cost.keeping(product(&[2, map]));
        }
        self.add(cost);
        // The input, and a map that is normalised, its square and what they become.
        self.live
            .with(numbers(input, plane).saturating_add(product(&[4, map])));
    }

    fn attention(&mut self, level: usize, channels: usize, full: bool, plane: Plane) {
        let (heads, dim) = (
            self.config.attn_heads[level],
            self.config.attn_dim_head[level],
        );
        let (map, inner) = (numbers(channels, plane), heads.saturating_mul(dim));
        let inside = numbers(inner, plane);
        let (tokens, keys) = (plane.area(), plane.area().saturating_add(MEMORY as u128));
        let qkv = conv(channels, inner.saturating_mul(3), 1, Stride::One, plane);
        let projections = LayerCost {
            // It has no bias.
            parameters: qkv.parameters.saturating_sub(product(&[3, inner as u128])),
            ..qkv
        }
        .and(conv(inner, channels, 1, Stride::One, plane));
        let (memory, inner) = (product(&[2, MEMORY as u128, inner as u128]), inner as u128);
        // Full: scores, and values by them. Linear: values by keys, and those by queries.
        let (products, between) = match full {
            true => (
                product(&[2, tokens, keys, inner]),
                product(&[heads as u128, tokens, keys]),
            ),
            false => (
                product(&[tokens.saturating_add(keys), inner, dim as u128]),
                0,
            ),
        };
        let norms = table(if full { 1 } else { 2 }, channels);
        let cost = LayerCost {
            parameters: projections.parameters.saturating_add(memory),
            multiplications: projections.multiplications.saturating_add(products),
            ..projections
        }
        .and(norms)
        // What the normalisations read and make; queries, keys and values before and after memory and softmax, the result.
        .keeping(product(&[4, map]))
        .keeping(product(&[8, inside]))
        .keeping(between);
        if full {
            let (blocks, multiplications) = &mut self.full[level];
            *blocks += 1;
            *multiplications = multiplications.saturating_add(cost.multiplications);
        }
        self.add(cost);
        let widest = product(&[7, inside]).saturating_add(product(&[2, between]));
        self.live.with(product(&[2, map]).saturating_add(widest));
    }
}
