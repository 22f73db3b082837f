//! What several tests train.

use ddpm_unet::{ModelConfig, UnetSection};

use crate::config::Config;

/// A U-Net of a few thousand parameters on the digits.
pub(crate) fn tiny(dropout: f64) -> Config {
    Config {
        model: ModelConfig::Unet(UnetSection {
            channels: 8,
            multipliers: vec![1, 2],
            blocks: 1,
            attention_at: Some(vec![]),
            groups: 4,
            dropout,
            ..UnetSection::default()
        }),
        ..Config::default()
    }
}
