//! A network's levels drawn as text.

use ddpm_unet::{DownBlockKind, LucidrainsConfig, Model, PlainUNet, UNet2DConfig, UpBlockKind};

/// The way down on the left, the way up on the right, the middle at the bottom.
pub fn levels(model: &Model, size: Option<[usize; 2]>) -> String {
    match model {
        Model::Unet(unet) => unet_levels(unet.config(), size),
        Model::Plain(plain) => plain_levels(plain, size),
        Model::Lucidrains(network) => lucidrains_levels(network.config(), size),
        Model::Edm(edm) => {
            let config = edm.config();
            let network = Edm {
                side: config.img_resolution,
                channels: config.model_channels,
                multiples: &config.channel_mult,
                blocks: config.num_blocks,
                attention: &config.attn_resolutions,
            };
            edm_levels(&network, size)
        }
        Model::Edm2(edm2) => {
            let config = edm2.config();
            let network = Edm {
                side: config.img_resolution,
                channels: config.model_channels,
                multiples: &config.channel_mult,
                blocks: config.num_blocks,
                attention: &config.attn_resolutions,
            };
            edm_levels(&network, size)
        }
    }
}

struct Level {
    down: String,
    size: String,
    up: String,
}

fn unet_levels(config: &UNet2DConfig, size: Option<[usize; 2]>) -> String {
    let count = config.block_out_channels.len();
    let levels = (0..count)
        .map(|level| {
            let channels = config.block_out_channels[level];
            let down = match config.down_block_types[level] {
                DownBlockKind::DownBlock2D => "",
                DownBlockKind::AttnDownBlock2D => " + attention",
                DownBlockKind::ResnetDownsampleBlock2D => " (residual resampling)",
                DownBlockKind::SkipDownBlock2D => " + image",
                DownBlockKind::AttnSkipDownBlock2D => " + attention + image",
            };
            let up = match config.up_block_types[count - 1 - level] {
                UpBlockKind::UpBlock2D => "",
                UpBlockKind::AttnUpBlock2D => " + attention",
                UpBlockKind::ResnetUpsampleBlock2D => " (residual resampling)",
                UpBlockKind::SkipUpBlock2D => " + image",
                UpBlockKind::AttnSkipUpBlock2D => " + attention + image",
            };
            let blocks = config.layers_per_block;
            Level {
                down: format!("{blocks} x residual {channels}{down}"),
                size: side(size, level),
                up: format!("{} x residual {channels}{up}", blocks + 1),
            }
        })
        .collect();
    let middle = match (config.mid_block_type, config.add_attention) {
        (None, _) => "none".to_owned(),
        (Some(_), true) => "residual, attention, residual".to_owned(),
        (Some(_), false) => "residual, residual".to_owned(),
    };
    let last = config
        .block_out_channels
        .last()
        .copied()
        .unwrap_or_default();
    draw(levels, &format!("middle {last}: {middle}"))
}

/// What a network of EDM or EDM2 is drawn from.
struct Edm<'a> {
    side: usize,
    channels: usize,
    multiples: &'a [usize],
    blocks: usize,
    attention: &'a [usize],
}

fn edm_levels(network: &Edm<'_>, size: Option<[usize; 2]>) -> String {
    let count = network.multiples.len();
    let channels = |level: usize| network.multiples[level].saturating_mul(network.channels);
    let levels = (0..count)
        .map(|level| {
            let attends = network.attention.contains(&(network.side >> level));
            let attention = if attends { " + attention" } else { "" };
            let (blocks, channels) = (network.blocks, channels(level));
            Level {
                down: format!("{blocks} x residual {channels}{attention}"),
                size: side(size, level),
                up: format!("{} x residual {channels}{attention}", blocks + 1),
            }
        })
        .collect();
    let last = channels(count - 1);
    draw(
        levels,
        &format!("middle {last}: residual, attention, residual"),
    )
}

fn lucidrains_levels(config: &LucidrainsConfig, size: Option<[usize; 2]>) -> String {
    let widths = config
        .dim_mults
        .iter()
        .map(|multiple| multiple.saturating_mul(config.dim));
    let entering = std::iter::once(config.init_dim).chain(widths.clone());
    let levels = entering.zip(widths).zip(&config.full_attn).enumerate();
    let levels = levels.map(|(level, ((input, output), full))| {
        let attention = if *full {
            "attention"
        } else {
            "linear attention"
        };
        Level {
            down: format!("2 x residual {input} + {attention}"),
            size: side(size, level),
            up: format!("2 x residual {output} + {attention}"),
        }
    });
    let last = config.dim_mults.last().copied().unwrap_or_default();
    let last = last.saturating_mul(config.dim);
    draw(
        levels.collect(),
        &format!("middle {last}: residual, attention, residual"),
    )
}

fn plain_levels(plain: &PlainUNet, size: Option<[usize; 2]>) -> String {
    let levels = plain
        .features()
        .iter()
        .enumerate()
        .map(|(level, features)| Level {
            down: format!("2 x conv {features}"),
            size: side(size, level),
            up: format!("2 x conv {features}"),
        })
        .collect();
    let last = plain.features().last().copied().unwrap_or_default();
    draw(levels, &format!("bottleneck {}: 2 x conv", 2 * last))
}

fn side(size: Option<[usize; 2]>, level: usize) -> String {
    match size {
        Some([height, width]) => {
            format!(
                "{}x{}",
                height.div_ceil(1 << level),
                width.div_ceil(1 << level)
            )
        }
        None => format!("1/{}", 1 << level),
    }
}

/// Each level stands two characters further in than the one above it.
fn draw(levels: Vec<Level>, middle: &str) -> String {
    let widest = |text: &dyn Fn(&Level) -> usize| levels.iter().map(text).max().unwrap_or(0);
    let down_width = widest(&|level| level.down.len()) + 2 * levels.len();
    let size_width = widest(&|level| level.size.len());
    let mut text = String::new();
    for (i, level) in levels.iter().enumerate() {
        let indent = "  ".repeat(i + 1);
        let down_width = down_width - indent.len();
        text += &format!(
            "{indent}{:<down_width$}  --{:-^size_width$}->  {}\n",
            level.down, level.size, level.up
        );
    }
    text += &format!("{}{middle}\n", "  ".repeat(levels.len() + 1));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_line() {
        let config = UNet2DConfig::default();
        let text = unet_levels(&config, Some([64, 48]));
        let expected = "  \
  2 x residual 224                  --64x48->  3 x residual 224
    2 x residual 448 + attention    --32x24->  3 x residual 448 + attention
      2 x residual 672 + attention  --16x12->  3 x residual 672 + attention
        2 x residual 896 + attention  --8x6->  3 x residual 896 + attention
          middle 896: residual, attention, residual
";
        for line in expected.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let drawn = text.lines().any(|drawn| {
                let drawn: String = drawn.replace('-', "");
                words
                    .iter()
                    .all(|word| drawn.contains(&word.replace('-', "")))
            });
            assert!(drawn, "{line}\n{text}");
        }
        assert_eq!(text.lines().count(), 5);
    }
}
