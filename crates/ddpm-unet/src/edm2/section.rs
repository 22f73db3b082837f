//! `[model]` with `kind = "edm2"`.

use serde::{Deserialize, Serialize};

use super::config::Edm2Config;
use crate::error::UnetError;
use crate::model::{ATTENTION_KEY, Classes, ModelShape, Sides};

/// `[model]` with `kind = "edm2"`: the network of Karras et al. 2024. The defaults are those of its smallest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edm2Section {
    /// Channels of a level, over its multiple.
    pub channels: usize,
    /// Channels of each level as multiples of `channels`; one level each.
    pub multipliers: Vec<usize>,
    /// Residual blocks a level (one more on the way up).
    pub blocks: usize,
    /// Sides, in pixels, of the feature maps that get attention. Without it, the largest side of at most 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_at: Option<Vec<usize>>,
    /// Channels of an attention head; levels of fewer have no attention.
    pub head_dim: usize,
    /// Dropout in the residual blocks.
    pub dropout: f64,
    /// Whether sizes that the levels do not divide are padded and cropped.
    pub pad: bool,
    /// Classes that the network is told: `"auto"`, those of the images, or a number; left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
}

impl Default for Edm2Section {
    fn default() -> Self {
        Self {
            channels: 128,
            multipliers: vec![1, 2, 3, 4],
            blocks: 3,
            attention_at: None,
            head_dim: 64,
            dropout: 0.0,
            pad: false,
            classes: None,
        }
    }
}

impl Edm2Section {
    /// The section of a network like one with this configuration, for images of `shape`: attention stays on its levels.
    pub(crate) fn like(config: &Edm2Config, shape: ModelShape) -> Self {
        let levels = (config.img_resolution, config.channel_mult.len());
        Self {
            channels: config.model_channels,
            multipliers: config.channel_mult.clone(),
            blocks: config.num_blocks,
            attention_at: Some(shape.same_levels(levels, &config.attn_resolutions)),
            head_dim: config.channels_per_head,
            dropout: config.dropout,
            pad: config.pad,
            classes: None,
        }
    }

    /// The network's full configuration for images of `shape`.
    ///
    /// # Errors   [`UnetError::Config`] if `attention_at` names a side that no level has, or one without heads, or if
    /// images are described by numbers; [`UnetError::Size`] if the levels do not divide the image and `pad` is off
    pub fn resolve(&self, shape: ModelShape) -> Result<Edm2Config, UnetError> {
        let sides = Sides::of(&self.multipliers, shape, self.pad)?;
        if let Some(numbers) = shape.condition.vector {
            return Err(UnetError::Config {
                key: "model.kind".into(),
                got: "edm2".into(),
                expected: format!(
                    "this network is told of classes alone, not of the {numbers} numbers of each image; take \
                     `unet` or `edm`"
                ),
            });
        }
        let mut config = Edm2Config {
            img_resolution: sides.0[0],
            in_channels: shape.input_channels(),
            out_channels: shape.output_channels(),
            label_dim: shape.condition.classes.unwrap_or(0),
            null_class: shape.condition.null_class,
            model_channels: self.channels,
            channel_mult: self.multipliers.clone(),
            num_blocks: self.blocks,
            attn_resolutions: sides.with_attention(self.attention_at.as_deref())?,
            channels_per_head: self.head_dim,
            dropout: self.dropout,
            pad: self.pad,
            ..Edm2Config::default()
        };
        config.validate()?;
        let channels = config.channels();
        let headless = |side: &usize| {
            let level = sides.0.iter().position(|at| at == side).unwrap_or_default();
            config.heads(channels[level]) == 0
        };
        let (without, with): (Vec<usize>, Vec<usize>) =
            config.attn_resolutions.iter().copied().partition(headless);
        match without.first() {
            Some(side) if self.attention_at.is_some() => Err(UnetError::Config {
                key: ATTENTION_KEY.into(),
                got: side.to_string(),
                expected: "that level has fewer channels than `model.head_dim`".into(),
            }),
            _ => {
                config.attn_resolutions = with;
                Ok(config)
            }
        }
    }
}
