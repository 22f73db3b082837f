//! How many numbers of one image exist at once in a forward pass without gradients; read it beside `forward` in
//! [`crate::UNet2D`], [`crate::PlainUNet`] and their blocks.
//!
//! Counted are whole feature maps. What kernels need besides (moments, vectors, blocks of scores) is small beside them.

use super::layer::{Plane, product};
use crate::config::{DownBlockKind, ResampleStyle, UNet2DConfig, UpBlockKind};

/// Maps that wait to be concatenated, and the most that existed at once.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) skips: Vec<u128>,
    pub(super) peak: u128,
}

impl Live {
    /// There are so many numbers besides the skips.
    pub(super) fn with(&mut self, numbers: u128) {
        let skips = self
            .skips
            .iter()
            .fold(0, |sum: u128, map| sum.saturating_add(*map));
        self.peak = self.peak.max(skips.saturating_add(numbers));
    }

    /// Inside a residual block: its input (0 if that is a skip), the result of the first convolution, the projected
    /// input if it is another one, and the result.
    pub(super) fn residual(&mut self, input: u128, projected: bool, output: u128) {
        let maps = if projected { 3 } else { 2 };
        self.with(input.saturating_add(product(&[maps, output])));
    }

    /// Inside attention: input, queries, keys, values, and result.
    pub(super) fn attention(&mut self, map: u128, inner: u128) {
        self.with(map.saturating_add(product(&[4, inner])));
    }
}

fn numbers(channels: usize, plane: Plane) -> u128 {
    product(&[channels as u128, plane.area()])
}

/// Of a valid configuration.
pub(super) fn of_unet(config: &UNet2DConfig, planes: &[Plane]) -> u128 {
    let channels = &config.block_out_channels;
    let inner = |channels: usize, plane| {
        let dim = config.head_dim(channels).map_or(1, |dim| dim.max(1));
        numbers(channels / dim * dim, plane)
    };
    let mut live = Live::default();
    let levels = || channels.iter().copied().zip(planes.iter().copied());
    let mut entering = channels.first().copied().unwrap_or_default();
    live.skips
        .extend(levels().next().map(|(first, plane)| numbers(first, plane)));

    for (i, ((output, plane), kind)) in levels().zip(&config.down_block_types).enumerate() {
        let map = numbers(output, plane);
        for layer in 0..config.layers_per_block {
            live.residual(0, layer == 0 && entering != output, map);
            if kind.attends() {
                live.attention(map, inner(output, plane));
            }
            live.skips.push(map);
        }
        if i + 1 < channels.len() {
            let by_residual = *kind == DownBlockKind::ResnetDownsampleBlock2D
                || (*kind == DownBlockKind::AttnDownBlock2D
                    && config.downsample_type == ResampleStyle::Resnet);
            let halved = numbers(output, plane.halved());
            // A residual block normalises before it halves.
            live.with(match (kind.skips(), by_residual) {
                // The filter copies what it reads twice.
                (true, _) => product(&[3, map]).saturating_add(product(&[3, halved])),
                (_, true) => map.saturating_add(product(&[3, halved])),
                (_, false) => halved,
            });
            live.skips.push(halved);
        }
        entering = output;
    }

    if let Some((last, plane)) = levels()
        .next_back()
        .filter(|_| config.mid_block_type.is_some())
    {
        let map = numbers(last, plane);
        live.residual(map, false, map);
        if config.add_attention {
            live.attention(map, inner(last, plane));
        }
    }

    for ((output, plane), kind) in levels().rev().zip(&config.up_block_types) {
        let map = numbers(output, plane);
        let mut x = numbers(entering, plane);
        for _ in 0..=config.layers_per_block {
            let skip = live.skips.last().copied().unwrap_or_default();
            let both = x.saturating_add(skip);
            // The skip that goes into it is there still.
            live.with(x.saturating_add(both));
            live.skips.pop();
            live.residual(both, true, map);
            if kind.attends() {
                live.attention(map, inner(output, plane));
            }
            x = map;
        }
        let by_residual = *kind == UpBlockKind::ResnetUpsampleBlock2D
            || (*kind == UpBlockKind::AttnUpBlock2D
                && config.upsample_type == ResampleStyle::Resnet);
        let doubled = numbers(output, plane.doubled());
        live.with(match (live.skips.is_empty(), by_residual) {
            (true, _) => product(&[2, map]),
            (false, _) if kind.skips() => map.saturating_add(product(&[4, doubled])),
            (false, true) => map.saturating_add(product(&[3, doubled])),
            (false, false) => map.saturating_add(doubled),
        });
        entering = output;
    }
    live.peak
}

/// Of a plain network; `levels` are those of the encoder with their channels, then the bottleneck's.
pub(super) fn of_plain(channels: usize, levels: &[(Plane, usize)]) -> u128 {
    let mut live = Live::default();
    let mut entering = channels + 1;
    // A convolution and the ReLU of its result.
    let double_conv = |live: &mut Live, input: u128, output: u128| {
        live.with(input.saturating_add(output));
        live.with(product(&[2, output]));
    };
    for (i, &(plane, output)) in levels.iter().enumerate() {
        let map = numbers(output, plane);
        double_conv(&mut live, numbers(entering, plane), map);
        if i + 1 < levels.len() {
            live.skips.push(map);
            live.with(numbers(output, plane.halved()));
        }
        entering = output;
    }
    for (i, &(plane, output)) in levels.iter().enumerate().rev().skip(1) {
        let below = levels
            .get(i + 1)
            .map_or(0, |&(below, _)| numbers(entering, below));
        let map = numbers(output, plane);
        live.with(below.saturating_add(map));
        // Both, and what is made of them.
        live.with(product(&[3, map]));
        live.skips.pop();
        double_conv(&mut live, product(&[2, map]), map);
        entering = output;
    }
    live.peak
}

#[cfg(test)]
mod tests {
    use crate::cost::Cost;
    use crate::model::{ModelConfig, ModelShape, PlainSection, UnetSection};

    fn live(model: &ModelConfig) -> u128 {
        let shape = ModelShape {
            channels: 1,
            height: 16,
            width: 16,
            learned_variance: false,
            self_condition: false,
            steps: 10,
            condition: Default::default(),
        };
        Cost::of(model, shape).unwrap().live
    }

    #[test]
    fn networks_by_hand() {
        let section = |attention_at: &[usize]| {
            ModelConfig::Unet(UnetSection {
                channels: 8,
                multipliers: vec![1, 2],
                blocks: 1,
                attention_at: Some(attention_at.to_vec()),
                mid_attention: false,
                groups: 4,
                ..UnetSection::default()
            })
        };
        let area = 16 * 16;
        // On the way up, at full size: 16 channels from below and two skips of 8; those 16 and one skip become 24.
        assert_eq!(live(&section(&[])), area * (16 + 8 + 8 + 24));
        // Attention there is less: a skip, its input, and four maps of it.
        assert_eq!(live(&section(&[16])), live(&section(&[])));
        // A skip of 4 channels, 4 from below, and both; 8 from below are a quarter of the size.
        let plain = ModelConfig::Plain(PlainSection { features: vec![4] });
        assert_eq!(live(&plain), area * (4 + 3 * 4));
    }
}
