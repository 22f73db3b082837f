//! The network over images of this size.

use ddpm_unet::{AttentionCost, Cost, LevelCost, ModelConfig, ModelShape};

use super::finding::Finding;
use crate::words;

/// Tokens from which on attention is dear: 64×64.
const MANY_TOKENS: u128 = 4096;
/// How many times larger than the image its padded form may be.
const MUCH_PADDING: f64 = 1.5;

/// Everything about the network that is known without building it.
pub fn check(model: &ModelConfig, figures: &Cost, shape: ModelShape) -> Vec<Finding> {
    let groups = match model {
        ModelConfig::Unet(section) => Some(section.groups),
        ModelConfig::Plain(_)
        | ModelConfig::Given(_)
        | ModelConfig::Edm(_)
        | ModelConfig::Edm2(_)
        | ModelConfig::Lucidrains(_) => None,
    };
    let mut found = vec![
        size(figures),
        levels(figures, shape),
        channels(figures, groups),
    ];
    for level in &figures.levels {
        if let Some(attended) = &level.attention {
            found.push(attention(figures, level, attended));
        }
    }
    found
}

fn size(figures: &Cost) -> Finding {
    let text = format!(
        "{} parameters, {} multiplications an evaluation of an image",
        words::count(figures.parameters),
        words::thousands(figures.multiplications)
    );
    Finding::ok("network", text)
}

/// Image size against the network's halvings.
fn levels(figures: &Cost, shape: ModelShape) -> Finding {
    let sizes: Vec<String> = figures.levels.iter().map(named).collect();
    let [height, width] = [shape.height, shape.width];
    let mut text = format!(
        "{height}x{width} images, {}: {}",
        words::some(figures.levels.len() as u64, "level"),
        sizes.join(", ")
    );
    let Some(first) = figures.levels.first() else {
        return Finding::ok("levels", text);
    };
    if [first.height, first.width] == [height, width] {
        return Finding::ok("levels", text);
    }
    let area = |height: usize, width: usize| height as f64 * width as f64;
    let growth = area(first.height, first.width) / area(height, width).max(1.0);
    text += &format!(
        "; padded to {}, {} more pixels",
        named(first),
        words::percent(growth - 1.0)
    );
    match growth > MUCH_PADDING {
        true => Finding::warn(
            "levels",
            text + "; set `data.size` to a size that the levels divide, or use fewer `model.multipliers`",
        ),
        false => Finding::note("levels", text),
    }
}

fn named(level: &LevelCost) -> String {
    format!("{}x{}", level.height, level.width)
}

/// Channels and groups; which groups are impossible is an error of the figures themselves.
fn channels(figures: &Cost, groups: Option<usize>) -> Finding {
    let counts = || figures.levels.iter().map(|level| level.channels);
    let listed: Vec<String> = counts().map(|count| count.to_string()).collect();
    let text = format!("{} channels", listed.join(", "));
    let (Some(groups), Some(fewest)) = (groups, counts().min()) else {
        return Finding::ok("channels", text);
    };
    let text = format!("{text} in {}", words::some(groups as u64, "group"));
    if fewest <= groups {
        let problem = "; each channel is normalised by itself, which takes its mean out; lower `model.groups`";
        return Finding::warn("channels", text + problem);
    }
    Finding::ok("channels", text)
}

fn attention(figures: &Cost, level: &LevelCost, attended: &AttentionCost) -> Finding {
    let text = format!(
        "at {}: {} tokens, {}, {}, {} of the multiplications",
        named(level),
        words::count(attended.tokens),
        words::some(attended.heads as u64, "head"),
        words::some(u64::try_from(attended.blocks).unwrap_or(u64::MAX), "block"),
        words::percent(figures.share(attended))
    );
    match attended.tokens >= MANY_TOKENS {
        true => Finding::warn(
            "attention",
            format!(
                "{text}; time grows with the square of the tokens: {}",
                match attended.blocks {
                    // The middle's is alone.
                    1 => "use more `model.multipliers`, or set `model.mid_attention = false`"
                        .to_owned(),
                    _ => {
                        let side = level.height.max(level.width);
                        format!("take {side} out of `model.attention_at`")
                    }
                }
            ),
        ),
        false => Finding::ok("attention", text),
    }
}

#[cfg(test)]
mod tests {
    use ddpm_unet::{PlainSection, UnetSection};

    use super::super::finding::Level;
    use super::*;

    fn section() -> UnetSection {
        UnetSection {
            channels: 16,
            multipliers: vec![1, 2, 2],
            blocks: 1,
            attention_at: Some(vec![]),
            mid_attention: false,
            groups: 8,
            pad: true,
            ..UnetSection::default()
        }
    }

    fn found(model: ModelConfig, side: usize) -> Vec<Finding> {
        let shape = ModelShape {
            channels: 1,
            height: side,
            width: side,
            learned_variance: false,
            self_condition: false,
            steps: 10,
            condition: Default::default(),
        };
        check(&model, &Cost::of(&model, shape).unwrap(), shape)
    }

    fn level_of(found: &[Finding], topic: &str) -> Option<Level> {
        let finding = found.iter().find(|finding| finding.topic == topic)?;
        Some(finding.level)
    }

    #[test]
    fn padding_is_noted_and_much_of_it_warned_of() {
        for (side, level) in [(32, Level::Ok), (30, Level::Note), (5, Level::Warn)] {
            let found = found(ModelConfig::Unet(section()), side);
            assert_eq!(level_of(&found, "levels"), Some(level), "{found:?}");
        }
        let found = found(ModelConfig::Unet(section()), 30);
        assert_eq!(
            found[1].text,
            "30x30 images, 3 levels: 32x32, 16x16, 8x8; padded to 32x32, 14% more pixels"
        );
    }

    #[test]
    fn a_group_needs_more_than_one_channel() {
        for (groups, level) in [(8, Level::Ok), (16, Level::Warn)] {
            let model = UnetSection {
                groups,
                ..section()
            };
            let found = found(ModelConfig::Unet(model), 32);
            assert_eq!(level_of(&found, "channels"), Some(level), "{found:?}");
        }
        let plain = ModelConfig::Plain(PlainSection {
            features: vec![4, 8],
        });
        assert_eq!(level_of(&found(plain, 8), "channels"), Some(Level::Ok));
    }

    #[test]
    fn attention_over_many_tokens_is_warned_of() {
        for (side, level) in [(32, Level::Ok), (128, Level::Warn)] {
            let model = UnetSection {
                attention_at: Some(vec![side / 2]),
                ..section()
            };
            let found = found(ModelConfig::Unet(model), side);
            assert_eq!(level_of(&found, "attention"), Some(level), "{found:?}");
            assert!(found[3].text.contains("1 head, 3 blocks"), "{found:?}");
        }
        let none = found(ModelConfig::Unet(section()), 32);
        assert_eq!(level_of(&none, "attention"), None);
    }
}
