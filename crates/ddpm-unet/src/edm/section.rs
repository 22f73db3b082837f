//! `[model]` with `kind = "edm"`.

use serde::{Deserialize, Serialize};

use super::config::{EdmArchitecture, EdmConfig, EdmEmbedding, EdmEncoder};
use crate::error::UnetError;
use crate::model::{ATTENTION_KEY, Classes, ModelShape, Sides};

/// The three networks of EDM by their usual names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdmArch {
    /// DDPM++ (Song et al. 2021).
    #[default]
    Ddpmpp,
    /// NCSN++ (Song et al. 2021).
    Ncsnpp,
    /// ADM (Dhariwal & Nichol 2021).
    Adm,
}

/// `[model]` with `kind = "edm"`: a network of Karras et al. 2022. The defaults are those of its training on CIFAR-10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdmSection {
    /// Which network.
    pub arch: EdmArch,
    /// Channels of a level, over its multiple.
    pub channels: usize,
    /// Channels of each level as multiples of `channels`; one level each.
    pub multipliers: Vec<usize>,
    /// Residual blocks a level (one more on the way up).
    pub blocks: usize,
    /// Sides, in pixels, of the feature maps that get attention. Without it, the largest side of at most 16. ADM's heads
    /// have 64 channels: its levels of fewer have no attention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_at: Option<Vec<usize>>,
    /// Dropout in the residual blocks.
    pub dropout: f64,
    /// Whether sizes that the levels do not divide are padded and cropped.
    pub pad: bool,
    /// Classes that the network is told: `"auto"`, those of the images, or a number; left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
}

impl Default for EdmSection {
    fn default() -> Self {
        Self {
            arch: EdmArch::Ddpmpp,
            channels: 128,
            multipliers: vec![2, 2, 2],
            blocks: 4,
            attention_at: None,
            dropout: 0.13,
            pad: false,
            classes: None,
        }
    }
}

impl EdmSection {
    /// The section of a network like one with this configuration, for images of `shape`: attention stays on its levels.
    pub(crate) fn like(config: &EdmConfig, shape: ModelShape) -> Self {
        let arch = match (config.model_type, config.encoder_type) {
            (EdmArchitecture::DhariwalUNet, _) => EdmArch::Adm,
            (EdmArchitecture::SongUNet, EdmEncoder::Residual) => EdmArch::Ncsnpp,
            (EdmArchitecture::SongUNet, _) => EdmArch::Ddpmpp,
        };
        let levels = (config.img_resolution, config.channel_mult.len());
        Self {
            arch,
            channels: config.model_channels,
            multipliers: config.channel_mult.clone(),
            blocks: config.num_blocks,
            attention_at: Some(shape.same_levels(levels, &config.attn_resolutions)),
            dropout: config.dropout,
            pad: config.pad,
            classes: None,
        }
    }

    /// The network's full configuration for images of `shape`.
    ///
    /// # Errors   [`UnetError::Config`] if `attention_at` names a side that no level has, or one without heads;
    /// [`UnetError::Size`] if the levels do not divide the image and `pad` is off
    pub fn resolve(&self, shape: ModelShape) -> Result<EdmConfig, UnetError> {
        let sides = Sides::of(&self.multipliers, shape, self.pad)?;
        let base = match self.arch {
            EdmArch::Adm => EdmConfig::of(EdmArchitecture::DhariwalUNet),
            EdmArch::Ddpmpp => EdmConfig::of(EdmArchitecture::SongUNet),
            EdmArch::Ncsnpp => EdmConfig {
                embedding_type: EdmEmbedding::Fourier,
                channel_mult_noise: 2,
                encoder_type: EdmEncoder::Residual,
                resample_filter: crate::fir::FIR.to_vec(),
                ..EdmConfig::of(EdmArchitecture::SongUNet)
            },
        };
        let mut attn_resolutions = sides.with_attention(self.attention_at.as_deref())?;
        let headless = |side: &usize| {
            let level = sides.0.iter().position(|at| at == side).unwrap_or_default();
            let channels = self.channels.saturating_mul(self.multipliers[level]);
            base.heads(channels) == 0
        };
        match attn_resolutions.iter().find(|side| headless(side)) {
            Some(side) if self.attention_at.is_some() => {
                return Err(UnetError::Config {
                    key: ATTENTION_KEY.into(),
                    got: side.to_string(),
                    expected: "that level has fewer than the 64 channels of a head of ADM".into(),
                });
            }
            _ => attn_resolutions.retain(|side| !headless(side)),
        }
        let config = EdmConfig {
            img_resolution: sides.0[0],
            in_channels: shape.input_channels(),
            out_channels: shape.output_channels(),
            label_dim: shape.condition.classes.unwrap_or(0),
            null_class: shape.condition.null_class,
            augment_dim: shape.condition.vector.unwrap_or(0),
            model_channels: self.channels,
            channel_mult: self.multipliers.clone(),
            num_blocks: self.blocks,
            attn_resolutions,
            dropout: self.dropout,
            pad: self.pad,
            ..base
        };
        config.validate()?;
        Ok(config)
    }
}
