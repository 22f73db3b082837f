//! The configuration of [`crate::Edm2UNet`]: the arguments of EDM2's `UNet` and of its blocks, with their defaults.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::block::{Edm2BlockPlan, Flavour};
use crate::checks::{MOST, check, check_dropout, check_levels, check_sizes};
use crate::edm::{Resampling, read_over};
use crate::error::UnetError;

/// What an [`crate::Edm2UNet`] is built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edm2Config {
    /// The side of the images it was made for: parts are named after it, and attention is told by it.
    pub img_resolution: usize,
    /// Channels of the input, without the one of ones that is added.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Classes, 0 for none; the null class is all zeros and counts as none.
    pub label_dim: usize,
    /// Channels of a level, over its multiple.
    pub model_channels: usize,
    /// Channels of each level as multiples of `model_channels`.
    pub channel_mult: Vec<usize>,
    /// Features of the noise level as a multiple of `model_channels`; `None` is the first level's.
    pub channel_mult_noise: Option<usize>,
    /// Channels of the embedding as a multiple of `model_channels`; `None` is the largest level's.
    pub channel_mult_emb: Option<usize>,
    /// Residual blocks a level (one more on the way up).
    pub num_blocks: usize,
    /// Sides of the feature maps that get attention.
    pub attn_resolutions: Vec<usize>,
    /// The class's share in the embedding, the noise level having the rest.
    pub label_balance: f64,
    /// The skip's share in what is concatenated.
    pub concat_balance: f64,
    /// Channels of a head; levels of fewer have no attention.
    pub channels_per_head: usize,
    /// Dropout in the residual blocks.
    pub dropout: f64,
    /// The residual branch's share in a block's sum.
    pub res_balance: f64,
    /// Attention's share in a block's second sum.
    pub attn_balance: f64,
    /// What a block leaves is clipped to ± this.
    pub clip_act: Option<f64>,
    /// Whether the network knows the null class, one-hot of all zeros. Of this program alone.
    #[serde(rename = "_null_class")]
    pub null_class: bool,
    /// Whether sizes that the levels do not divide are padded and cropped. Of this program alone.
    #[serde(rename = "_pad")]
    pub pad: bool,
}

impl Default for Edm2Config {
    fn default() -> Self {
        Self {
            img_resolution: 64,
            in_channels: 3,
            out_channels: 3,
            label_dim: 0,
            model_channels: 192,
            channel_mult: vec![1, 2, 3, 4],
            channel_mult_noise: None,
            channel_mult_emb: None,
            num_blocks: 3,
            attn_resolutions: vec![16, 8],
            label_balance: 0.5,
            concat_balance: 0.5,
            channels_per_head: 64,
            dropout: 0.0,
            res_balance: 0.3,
            attn_balance: 0.3,
            clip_act: Some(256.0),
            null_class: false,
            pad: false,
        }
    }
}

/// A part with its name and the level whose resolution it leaves.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) level: usize,
    /// A block, or the first convolution.
    pub(crate) block: Option<Edm2BlockPlan>,
}

/// Both ways.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) enc: Vec<Planned>,
    pub(crate) dec: Vec<Planned>,
}

impl Edm2Config {
    /// Reads the object of a `config.json`. Missing keys take their defaults; the second value lists the keys that were
    /// not known (and have no effect).
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
        let mut json = crate::edm::keys(self);
        json.retain(|key, value| !(key.starts_with('_') && *value == Value::Bool(false)));
        json
    }

    /// Channels of each level.
    pub(crate) fn channels(&self) -> Vec<usize> {
        let each = self.channel_mult.iter();
        each.map(|multiple| multiple.saturating_mul(self.model_channels))
            .collect()
    }

    /// Channels of the embedding.
    pub(crate) fn emb_channels(&self) -> usize {
        let largest = self.channel_mult.iter().max().copied().unwrap_or_default();
        let multiple = self.channel_mult_emb.unwrap_or(largest);
        self.model_channels.saturating_mul(multiple)
    }

    /// Features of the noise level.
    pub(crate) fn noise_channels(&self) -> usize {
        let first = self.channel_mult.first().copied().unwrap_or_default();
        let multiple = self.channel_mult_noise.unwrap_or(first);
        self.model_channels.saturating_mul(multiple)
    }

    /// # Errors   [`UnetError::Config`] for a combination that no network can have
    pub fn validate(&self) -> Result<(), UnetError> {
        let levels = self.channel_mult.len();
        check_levels("channel_mult", &self.channel_mult)?;
        let mut sizes = vec![
            ("img_resolution", self.img_resolution),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("model_channels", self.model_channels),
            ("channels_per_head", self.channels_per_head),
        ];
        sizes.extend(self.channels().into_iter().map(|n| ("channel_mult", n)));
        sizes.extend([
            ("channel_mult_noise", self.noise_channels()),
            ("channel_mult_emb", self.emb_channels()),
        ]);
        check_sizes(sizes)?;
        let classes = self.label_dim;
        check(
            "label_dim",
            classes.to_string(),
            classes <= MOST,
            "must be at most 1048576",
        )?;
        check(
            "num_blocks",
            self.num_blocks.to_string(),
            (1..=64).contains(&self.num_blocks),
            "must be between 1 and 64",
        )?;
        check(
            "img_resolution",
            self.img_resolution.to_string(),
            self.img_resolution >> (levels - 1) > 0,
            "is too small to be halved at each level",
        )?;
        for (key, share) in [
            ("label_balance", self.label_balance),
            ("concat_balance", self.concat_balance),
            ("res_balance", self.res_balance),
            ("attn_balance", self.attn_balance),
        ] {
            let holds = (0.0..=1.0).contains(&share);
            check(key, share.to_string(), holds, "must be in [0, 1]")?;
        }
        check_dropout(self.dropout)?;
        check(
            "clip_act",
            format!("{:?}", self.clip_act),
            self.clip_act.is_none_or(|most| most > 0.0),
            "must be over 0, or null",
        )?;
        check(
            "_null_class",
            self.null_class.to_string(),
            !self.null_class || self.label_dim > 0,
            "needs classes: label_dim",
        )
    }

    /// Heads of attention over `channels` channels.
    pub(crate) fn heads(&self, channels: usize) -> usize {
        channels / self.channels_per_head.max(1)
    }

    /// The parts of a valid configuration.
    pub(crate) fn plan(&self) -> Plan {
        let channels = self.channels();
        let side = |level: usize| self.img_resolution >> level;
        let attends = |level: usize| self.attn_resolutions.contains(&side(level));
        let planned = |level: usize, name: &str, block: Option<Edm2BlockPlan>| Planned {
            name: format!("{0}x{0}_{name}", side(level)),
            level,
            block,
        };
        let block =
            |input: usize, output: usize, flavour: Flavour, attention: bool| Edm2BlockPlan {
                input,
                output,
                flavour,
                resampling: Resampling::Keep,
                heads: if attention { self.heads(output) } else { 0 },
                skip: 0,
            };

        let mut enc = Vec::new();
        let mut skips = Vec::new();
        let mut x = channels[0];
        for (level, &output) in channels.iter().enumerate() {
            if level == 0 {
                enc.push(planned(level, "conv", None));
            } else {
                let down = Edm2BlockPlan {
                    resampling: Resampling::Down,
                    ..block(x, x, Flavour::Encoder, false)
                };
                enc.push(planned(level, "down", Some(down)));
            }
            skips.push(x);
            for i in 0..self.num_blocks {
                let part = block(x, output, Flavour::Encoder, attends(level));
                enc.push(planned(level, &format!("block{i}"), Some(part)));
                skips.push(output);
                x = output;
            }
        }
        let mut dec = Vec::new();
        let last = channels.len() - 1;
        for (level, &output) in channels.iter().enumerate().rev() {
            if level == last {
                let first = block(x, x, Flavour::Decoder, true);
                let second = block(x, x, Flavour::Decoder, false);
                dec.push(planned(level, "in0", Some(first)));
                dec.push(planned(level, "in1", Some(second)));
            } else {
                let up = Edm2BlockPlan {
                    resampling: Resampling::Up,
                    ..block(x, x, Flavour::Decoder, false)
                };
                dec.push(planned(level, "up", Some(up)));
            }
            for i in 0..=self.num_blocks {
                let skip = skips.pop().unwrap_or_default();
                let part = Edm2BlockPlan {
                    skip,
                    ..block(x + skip, output, Flavour::Decoder, attends(level))
                };
                dec.push(planned(level, &format!("block{i}"), Some(part)));
                x = output;
            }
        }
        Plan { enc, dec }
    }
}
