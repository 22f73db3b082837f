//! The configuration of [`crate::LucidrainsUNet`]: the arguments of that program's `Unet`, a value for each level where it
//! takes one for all.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::checks::{MOST, check, check_dropout, check_levels, check_sizes};
use crate::edm::{keys, read_over};
use crate::error::UnetError;

/// Learned keys and values of each head.
pub(crate) const MEMORY: usize = 4;

/// What a [`crate::LucidrainsUNet`] is built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LucidrainsConfig {
    /// Channels of the input, those of a self-condition counted.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Channels of a level, over its multiple; the time embedding has four times as many.
    pub dim: usize,
    /// Channels of the first convolution.
    pub init_dim: usize,
    /// Channels that leave each level as multiples of `dim`.
    pub dim_mults: Vec<usize>,
    /// Whether a level's attention is full instead of linear.
    pub full_attn: Vec<bool>,
    /// Heads of each level's attention.
    pub attn_heads: Vec<usize>,
    /// Channels of each of them.
    pub attn_dim_head: Vec<usize>,
    /// Sines and cosines of learned frequencies that tell the time; 0: of fixed ones.
    pub learned_sinusoidal_dim: usize,
    /// Dropout in the first half of the residual blocks.
    pub dropout: f64,
    /// Whether sizes that the levels do not divide are padded and cropped. Of this program alone.
    #[serde(rename = "_pad")]
    pub pad: bool,
}

impl Default for LucidrainsConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            dim: 64,
            init_dim: 64,
            dim_mults: vec![1, 2, 4, 8],
            full_attn: vec![false, false, false, true],
            attn_heads: vec![4; 4],
            attn_dim_head: vec![32; 4],
            learned_sinusoidal_dim: 0,
            dropout: 0.0,
            pad: false,
        }
    }
}

impl LucidrainsConfig {
    /// Reads the object of a `config.json`. Missing keys take the program's defaults; the second value lists the keys that
    /// were not known (and have no effect).
    ///
    /// # Errors   [`UnetError::Unsupported`] for a value that a key cannot have, [`UnetError::Config`] for impossible
    /// combinations
    pub fn from_json(json: &Map<String, Value>) -> Result<(Self, Vec<String>), UnetError> {
        let (config, unknown) = read_over(Self::default(), json)?;
        config.validate()?;
        Ok((config, unknown))
    }

    /// The object of a `config.json`, without the name of its class.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json = keys(self);
        json.retain(|key, value| !(key.starts_with('_') && *value == Value::Bool(false)));
        json
    }

    /// Channels that enter each level, and those that leave the last.
    pub(crate) fn channels(&self) -> Vec<usize> {
        let levels = self.dim_mults.iter();
        let levels = levels.map(|multiple| multiple.saturating_mul(self.dim));
        std::iter::once(self.init_dim).chain(levels).collect()
    }

    /// Channels of the time embedding.
    pub(crate) fn time_channels(&self) -> usize {
        self.dim.saturating_mul(4)
    }

    /// Numbers that tell the time.
    pub(crate) fn time_features(&self) -> usize {
        match self.learned_sinusoidal_dim {
            0 => self.dim,
            // The time itself stands before them.
            learned => learned + 1,
        }
    }

    /// # Errors   [`UnetError::Config`] for a combination that no network can have
    pub fn validate(&self) -> Result<(), UnetError> {
        let levels = self.dim_mults.len();
        check_levels("dim_mults", &self.dim_mults)?;
        for (key, given) in [
            ("full_attn", self.full_attn.len()),
            ("attn_heads", self.attn_heads.len()),
            ("attn_dim_head", self.attn_dim_head.len()),
        ] {
            let expected = "must have a value for each level";
            check(key, format!("{given} values"), given == levels, expected)?;
        }
        let heads = self.attn_heads.iter().zip(&self.attn_dim_head);
        let inner = heads.map(|(heads, dim)| ("attn_dim_head", heads.saturating_mul(*dim)));
        let mut sizes = vec![
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("init_dim", self.init_dim),
            ("dim", self.dim),
        ];
        sizes.extend(self.channels().into_iter().map(|n| ("dim_mults", n)));
        sizes.extend(inner);
        check_sizes(sizes)?;
        let learned = self.learned_sinusoidal_dim;
        check(
            "learned_sinusoidal_dim",
            learned.to_string(),
            learned.is_multiple_of(2) && learned <= MOST,
            "must be even, and at most 1048576",
        )?;
        check(
            "dim",
            self.dim.to_string(),
            learned > 0 || (self.dim.is_multiple_of(2) && self.dim >= 4),
            "must be even and at least 4, for so many sines and cosines tell the time",
        )?;
        check_dropout(self.dropout)
    }
}
