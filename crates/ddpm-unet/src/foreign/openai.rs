//! The U-Net of improved-diffusion (Nichol & Dhariwal 2021) and guided-diffusion (Dhariwal & Nichol 2021): a
//! configuration of [`crate::UNet2D`], and a renaming of its tensors.
//!
//! Levels, blocks, attention, classes, learned variances and how the time acts are read off names and shapes; what
//! they do not tell is in [`OpenAi`].

use super::{Named, Tensors, wrong};
use crate::config::{
    DownBlockKind, ResampleStyle, SampleSize, TimeScaleShift, UNet2DConfig, UpBlockKind,
};
use crate::error::UnetError;

/// What names and shapes do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenAi {
    /// `num_heads`: heads of each attention.
    pub num_heads: Option<usize>,
    /// `num_head_channels`: channels of a head; goes before `num_heads`, as it does there.
    pub num_head_channels: Option<usize>,
    /// `use_new_attention_order`: queries, keys and values are split before heads.
    pub new_attention_order: bool,
    /// `image_size`; not needed to build the network.
    pub image_size: Option<usize>,
}

/// Groups of every normalisation there.
const GROUPS: usize = 32;
const PROGRAM: &str = "a U-Net of improved- or guided-diffusion";

/// The configuration and the parameters of the network whose `state_dict` this is.
///
/// Dropout is 0: it is no matter of the weights.
///
/// # Errors   [`UnetError::Foreign`] naming the tensor that is missing, left over or of another shape;
/// [`UnetError::Config`] if the heads are not told or do not divide the channels
pub fn network(
    tensors: impl IntoIterator<Item = Named>,
    options: OpenAi,
) -> Result<(UNet2DConfig, Vec<Named>), UnetError> {
    let mut renaming = Renaming {
        from: Tensors::new(tensors)?,
        to: Vec::new(),
        options,
    };
    let config = renaming.config()?;
    renaming.all(&config)?;
    renaming.from.finish(PROGRAM)?;
    Ok((config, renaming.to))
}

struct Renaming {
    from: Tensors,
    to: Vec<Named>,
    options: OpenAi,
}

/// How many residual blocks a level has on the way up, and how many levels there are.
struct Layout {
    blocks: usize,
    levels: usize,
}

impl Renaming {
    fn config(&self) -> Result<UNet2DConfig, UnetError> {
        let Layout { blocks, levels } = self.layout()?;
        let [first, in_channels, _, _] = self.from.sides("input_blocks.0.0.weight")?;
        let [out_channels, _, _, _] = self.from.sides("out.2.weight")?;
        let [temb, features] = self.from.sides("time_embed.0.weight")?;
        let down =
            |level: usize, block: usize| format!("input_blocks.{}", 1 + level * blocks + block);
        let up = |level: usize, block: usize| {
            format!("output_blocks.{}", (levels - 1 - level) * blocks + block)
        };
        let mut config = UNet2DConfig {
            sample_size: self.options.image_size.map(SampleSize::Square),
            in_channels,
            out_channels,
            time_embedding_dim: (temb != first.saturating_mul(4)).then_some(temb),
            time_features: (features != first).then_some(features),
            block_out_channels: Vec::new(),
            down_block_types: Vec::new(),
            up_block_types: Vec::new(),
            layers_per_block: blocks - 1,
            attention_head_dim: None,
            norm_num_groups: Some(GROUPS),
            attn_norm_num_groups: Some(GROUPS),
            num_class_embeds: match self.from.has("label_emb.weight") {
                true => Some(self.from.sides::<2>("label_emb.weight")?[0]),
                false => None,
            },
            ..UNet2DConfig::default()
        };
        let [projected, _] = self.from.sides("middle_block.0.emb_layers.1.weight")?;
        let [normalised] = self.from.sides("middle_block.0.out_layers.0.weight")?;
        if projected == normalised.saturating_mul(2) {
            config.resnet_time_scale_shift = TimeScaleShift::ScaleShift;
        }
        let by_residual = levels > 1
            && self
                .from
                .has(&format!("{}.0.in_layers.0.weight", down(0, blocks - 1)));
        if by_residual {
            config.downsample_type = ResampleStyle::Resnet;
            config.upsample_type = ResampleStyle::Resnet;
        }
        let mut attended = vec![normalised];
        for level in 0..levels {
            let last = format!("{}.0.out_layers.3.weight", down(level, blocks - 2));
            let [channels, ..] = self.from.sides::<4>(&last)?;
            config.block_out_channels.push(channels);
            let on_way_down = self.attends((0..blocks - 1).map(|block| down(level, block)))?;
            let on_way_up = self.attends((0..blocks).map(|block| up(level, block)))?;
            if on_way_down || on_way_up {
                attended.push(channels);
            }
            config
                .down_block_types
                .push(match (on_way_down, by_residual) {
                    (true, _) => DownBlockKind::AttnDownBlock2D,
                    (false, false) => DownBlockKind::DownBlock2D,
                    (false, true) => DownBlockKind::ResnetDownsampleBlock2D,
                });
            config.up_block_types.insert(
                0,
                match (on_way_up, by_residual) {
                    (true, _) => UpBlockKind::AttnUpBlock2D,
                    (false, false) => UpBlockKind::UpBlock2D,
                    (false, true) => UpBlockKind::ResnetUpsampleBlock2D,
                },
            );
        }
        if config.block_out_channels[0] != first {
            let problem = format!(
                "has {first} channels and the first level {}; only networks with as many in both can be taken over",
                config.block_out_channels[0]
            );
            return Err(wrong("input_blocks.0.0.weight", problem));
        }
        // As diffusers says it, where it can.
        let sizes: Result<Vec<usize>, _> = attended.iter().map(|&n| self.head_size(n)).collect();
        let sizes = sizes?;
        match (self.options.num_head_channels, self.options.num_heads) {
            (None, Some(1)) => {}
            _ if sizes.iter().all(|size| *size == sizes[0]) => {
                config.attention_head_dim = Some(sizes[0]);
            }
            (_, heads) => config.num_attention_heads = heads,
        }
        config.validate()?;
        Ok(config)
    }

    /// Levels and blocks, from where the way up doubles.
    fn layout(&self) -> Result<Layout, UnetError> {
        let mut doubling = Vec::new();
        let mut count = 0;
        while self
            .from
            .has(&format!("output_blocks.{count}.0.in_layers.0.weight"))
        {
            if self.doubling(count).is_some() {
                doubling.push(count);
            }
            count += 1;
        }
        if count == 0 {
            let problem = format!("is missing: this is not {PROGRAM}");
            return Err(wrong("output_blocks.0.0.in_layers.0.weight", problem));
        }
        let levels = doubling.len() + 1;
        let blocks = doubling.first().map_or(count, |first| first + 1);
        let even = doubling
            .iter()
            .enumerate()
            .all(|(level, block)| *block == (level + 1) * blocks - 1);
        if blocks < 2 || !even || count != levels * blocks {
            let problem = format!(
                "is the last of {count} blocks on the way up, of which {doubling:?} double: levels are not alike"
            );
            return Err(wrong(&format!("output_blocks.{}", count - 1), problem));
        }
        Ok(Layout { blocks, levels })
    }

    /// What doubles at the end of a block on the way up, and whether it is a residual block.
    fn doubling(&self, block: usize) -> Option<(String, bool)> {
        (1..=2).find_map(|part| {
            let name = format!("output_blocks.{block}.{part}");
            let by_residual = self.from.has(&format!("{name}.in_layers.0.weight"));
            let found = by_residual || self.from.has(&format!("{name}.conv.weight"));
            found.then_some((name, by_residual))
        })
    }

    /// Whether all of some blocks have attention.
    fn attends(&self, blocks: impl Iterator<Item = String>) -> Result<bool, UnetError> {
        let mut found: Option<bool> = None;
        for block in blocks {
            let name = format!("{block}.1.qkv.weight");
            let has = self.from.has(&name);
            if found.is_some_and(|found| found != has) {
                let problem = match has {
                    true => "is there, but other blocks of its level have no attention",
                    false => "is missing, but other blocks of its level have attention",
                };
                return Err(wrong(&name, problem.into()));
            }
            found = Some(has);
        }
        Ok(found.unwrap_or(false))
    }

    /// Channels of a head in attention over so many.
    fn head_size(&self, channels: usize) -> Result<usize, UnetError> {
        let (key, value, fits) = match (self.options.num_head_channels, self.options.num_heads) {
            (Some(size), _) => (
                "num_head_channels",
                size,
                channels.checked_rem(size) == Some(0),
            ),
            (None, Some(heads)) => ("num_heads", heads, channels.checked_rem(heads) == Some(0)),
            (None, None) => {
                return Err(UnetError::Config {
                    key: "num_heads".into(),
                    got: "nothing".into(),
                    expected: "the weights do not tell the heads of attention; give num_heads or num_head_channels as \
                               the network was trained with"
                        .into(),
                });
            }
        };
        match fits {
            true if key == "num_heads" => Ok(channels / value),
            true => Ok(value),
            false => Err(UnetError::Config {
                key: key.into(),
                got: value.to_string(),
                expected: format!("must divide the {channels} channels of an attention"),
            }),
        }
    }

    fn all(&mut self, config: &UNet2DConfig) -> Result<(), UnetError> {
        self.layer("time_embed.0", "time_embedding.linear_1")?;
        self.layer("time_embed.2", "time_embedding.linear_2")?;
        if config.num_class_embeds.is_some() {
            self.tensor("label_emb.weight", "class_embedding.weight")?;
        }
        self.layer("input_blocks.0.0", "conv_in")?;
        self.layer("out.0", "conv_norm_out")?;
        self.layer("out.2", "conv_out")?;

        let levels = config.block_out_channels.len();
        let mut next = 1;
        for (level, kind) in config.down_block_types.iter().enumerate() {
            let to = format!("down_blocks.{level}");
            for block in 0..config.layers_per_block {
                self.residual(
                    &format!("input_blocks.{next}.0"),
                    &format!("{to}.resnets.{block}"),
                )?;
                if kind.attends() {
                    self.attention(
                        &format!("input_blocks.{next}.1"),
                        &format!("{to}.attentions.{block}"),
                    )?;
                }
                next += 1;
            }
            if level + 1 < levels {
                let from = format!("input_blocks.{next}.0");
                let to = format!("{to}.downsamplers.0");
                match config.downsample_type {
                    ResampleStyle::Resnet => self.residual(&from, &to)?,
                    ResampleStyle::Conv => {
                        self.layer(&format!("{from}.op"), &format!("{to}.conv"))?;
                    }
                }
                next += 1;
            }
        }

        self.residual("middle_block.0", "mid_block.resnets.0")?;
        self.attention("middle_block.1", "mid_block.attentions.0")?;
        self.residual("middle_block.2", "mid_block.resnets.1")?;

        next = 0;
        for (i, kind) in config.up_block_types.iter().enumerate() {
            let to = format!("up_blocks.{i}");
            for block in 0..=config.layers_per_block {
                self.residual(
                    &format!("output_blocks.{next}.0"),
                    &format!("{to}.resnets.{block}"),
                )?;
                if kind.attends() {
                    self.attention(
                        &format!("output_blocks.{next}.1"),
                        &format!("{to}.attentions.{block}"),
                    )?;
                }
                if let Some((from, by_residual)) = self.doubling(next) {
                    let to = format!("{to}.upsamplers.0");
                    match by_residual {
                        true => self.residual(&from, &to)?,
                        false => self.layer(&format!("{from}.conv"), &format!("{to}.conv"))?,
                    }
                }
                next += 1;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, from: &str, to: &str) -> Result<(), UnetError> {
        let (shape, data) = self.from.take(from)?;
        self.to.push((to.to_owned(), shape, data));
        Ok(())
    }

    /// Weight and bias.
    fn layer(&mut self, from: &str, to: &str) -> Result<(), UnetError> {
        for part in ["weight", "bias"] {
            self.tensor(&format!("{from}.{part}"), &format!("{to}.{part}"))?;
        }
        Ok(())
    }

    fn residual(&mut self, from: &str, to: &str) -> Result<(), UnetError> {
        for (theirs, ours) in [
            ("in_layers.0", "norm1"),
            ("in_layers.2", "conv1"),
            ("emb_layers.1", "time_emb_proj"),
            ("out_layers.0", "norm2"),
            ("out_layers.3", "conv2"),
        ] {
            self.layer(&format!("{from}.{theirs}"), &format!("{to}.{ours}"))?;
        }
        let shortcut = format!("{from}.skip_connection");
        if self.from.has(&format!("{shortcut}.weight")) {
            self.layer(&shortcut, &format!("{to}.conv_shortcut"))?;
        }
        Ok(())
    }

    fn attention(&mut self, from: &str, to: &str) -> Result<(), UnetError> {
        self.layer(&format!("{from}.norm"), &format!("{to}.group_norm"))?;
        for part in ["weight", "bias"] {
            let name = format!("{from}.qkv.{part}");
            let (shape, data) = self.from.take(&name)?;
            // [3·channels, channels, 1] and [3·channels]
            let rows = shape.first().copied().unwrap_or(0);
            let channels = rows / 3;
            if rows == 0
                || rows % 3 != 0
                || !matches!(&shape[1..], [] | [_, 1])
                || shape.get(1).is_some_and(|columns| *columns != channels)
            {
                let problem = format!("has the shape {shape:?}; expected [3n, n, 1] or [3n]");
                return Err(wrong(&name, problem));
            }
            let size = self.head_size(channels)?;
            let columns = data.len() / rows;
            for (part_of_three, layer) in ["to_q", "to_k", "to_v"].into_iter().enumerate() {
                let mut taken = Vec::with_capacity(channels * columns);
                for row in 0..channels {
                    let at = match self.options.new_attention_order {
                        // [3, heads, size]
                        true => part_of_three * channels + row,
                        // [heads, 3, size]
                        false => (row / size * 3 + part_of_three) * size + row % size,
                    };
                    taken.extend_from_slice(&data[at * columns..(at + 1) * columns]);
                }
                let shape = match shape.len() {
                    1 => vec![channels],
                    _ => vec![channels, columns],
                };
                self.to.push((format!("{to}.{layer}.{part}"), shape, taken));
            }
        }
        let name = format!("{from}.proj_out.weight");
        let (shape, data) = self.from.take(&name)?;
        // [channels, channels, 1] -> [channels, channels]
        let [output, input, 1] = shape[..] else {
            return Err(wrong(
                &name,
                format!("has the shape {shape:?}; expected [n, n, 1]"),
            ));
        };
        let weight = (format!("{to}.to_out.0.weight"), vec![output, input], data);
        self.to.push(weight);
        self.tensor(
            &format!("{from}.proj_out.bias"),
            &format!("{to}.to_out.0.bias"),
        )
    }
}

#[cfg(test)]
mod tests;
