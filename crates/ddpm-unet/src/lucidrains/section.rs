//! `[model]` with `kind = "lucidrains"`.

use serde::{Deserialize, Serialize};

use super::config::LucidrainsConfig;
use crate::error::{UnetError, excerpt};
use crate::model::{ModelShape, Sides};

/// `[model]` with `kind = "lucidrains"`: the `Unet` of denoising-diffusion-pytorch, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LucidrainsSection {
    /// Channels of a level, over its multiple.
    pub channels: usize,
    /// Channels of the first convolution; left out: `channels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_channels: Option<usize>,
    /// Channels that leave each level as multiples of `channels`; one level each.
    pub multipliers: Vec<usize>,
    /// Sides, in pixels, of the feature maps whose attention is full; that of others is linear. Without it, the smallest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_at: Option<Vec<usize>>,
    /// Heads of each level's attention, or one number for all.
    pub heads: Vec<usize>,
    /// Channels of a head of each level, or one number for all.
    pub head_dim: Vec<usize>,
    /// Sines and cosines of learned frequencies that tell the time; 0: of fixed ones.
    pub learned_sinusoids: usize,
    /// Dropout in the first half of the residual blocks.
    pub dropout: f64,
    /// Whether sizes that the levels do not divide are padded and cropped.
    pub pad: bool,
}

impl Default for LucidrainsSection {
    fn default() -> Self {
        Self {
            channels: 64,
            init_channels: None,
            multipliers: vec![1, 2, 4, 8],
            attention_at: None,
            heads: vec![4],
            head_dim: vec![32],
            learned_sinusoids: 0,
            dropout: 0.0,
            pad: false,
        }
    }
}

impl LucidrainsSection {
    /// The section of a network like one with this configuration, for images of `shape`: attention stays on its levels.
    pub(crate) fn like(config: &LucidrainsConfig, shape: ModelShape) -> Self {
        let multiple = 1usize << (config.dim_mults.len() - 1);
        let longer = shape.height.max(shape.width).next_multiple_of(multiple);
        let full = config.full_attn.iter().enumerate();
        let full = full.filter(|(_, full)| **full);
        Self {
            channels: config.dim,
            init_channels: (config.init_dim != config.dim).then_some(config.init_dim),
            multipliers: config.dim_mults.clone(),
            attention_at: Some(full.map(|(level, _)| longer >> level).collect()),
            heads: config.attn_heads.clone(),
            head_dim: config.attn_dim_head.clone(),
            learned_sinusoids: config.learned_sinusoidal_dim,
            dropout: config.dropout,
            pad: config.pad,
        }
    }

    /// The network's full configuration for images of `shape`.
    ///
    /// # Errors   [`UnetError::Config`] if `attention_at` names a side that no level has, or if the network is to be told
    /// anything of an image; [`UnetError::Size`] if the levels do not divide the image and `pad` is off
    pub fn resolve(&self, shape: ModelShape) -> Result<LucidrainsConfig, UnetError> {
        let sides = Sides::of(&self.multipliers, shape, self.pad)?;
        if shape.condition.classes.is_some() || shape.condition.vector.is_some() {
            return Err(UnetError::Config {
                key: "model.kind".into(),
                got: "lucidrains".into(),
                expected:
                    "this network is told of no classes or other conditions; take `unet` or `edm`"
                        .into(),
            });
        }
        let levels = self.multipliers.len();
        let each = |key: &str, given: &[usize]| match given {
            [all] => Ok(vec![*all; levels]),
            given if given.len() == levels => Ok(given.to_vec()),
            given => Err(UnetError::Config {
                key: key.into(),
                got: excerpt(&format!("{given:?}")),
                expected: format!("must have one value for all or each of the {levels} levels"),
            }),
        };
        let attention_at = match &self.attention_at {
            Some(wanted) => sides.with_attention(Some(wanted))?,
            None => sides.0.last().copied().into_iter().collect(),
        };
        let config = LucidrainsConfig {
            in_channels: shape.input_channels(),
            out_channels: shape.output_channels(),
            dim: self.channels,
            init_dim: self.init_channels.unwrap_or(self.channels),
            dim_mults: self.multipliers.clone(),
            full_attn: sides
                .0
                .iter()
                .map(|side| attention_at.contains(side))
                .collect(),
            attn_heads: each("model.heads", &self.heads)?,
            attn_dim_head: each("model.head_dim", &self.head_dim)?,
            learned_sinusoidal_dim: self.learned_sinusoids,
            dropout: self.dropout,
            pad: self.pad,
        };
        config.validate()?;
        Ok(config)
    }
}
