//! The configuration of [`crate::EdmUNet`]: the arguments of EDM's `SongUNet` and `DhariwalUNet`, with their defaults.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::checks::{MOST, check, check_dropout, check_levels, check_sizes};
use crate::error::{UnetError, excerpt};

/// Which class of EDM's networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdmArchitecture {
    /// DDPM++ and NCSN++ (Song et al. 2021).
    SongUNet,
    /// ADM (Dhariwal & Nichol 2021).
    DhariwalUNet,
}

/// Features of the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdmEmbedding {
    /// Sinusoids: DDPM++.
    Positional,
    /// Random Fourier features: NCSN++.
    Fourier,
}

/// What the way down is told of the image itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdmEncoder {
    /// Nothing: DDPM++.
    Standard,
    /// Each level adds the halved image.
    Skip,
    /// Each level adds the level before, halved by a convolution: NCSN++.
    Residual,
}

/// Whence the output comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdmDecoder {
    /// From the last level.
    Standard,
    /// From every level: a sum of doubled images.
    Skip,
}

/// What an [`crate::EdmUNet`] is built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdmConfig {
    /// Which network.
    pub model_type: EdmArchitecture,
    /// The side of the images it was made for: parts are named after it, and attention is told by it.
    pub img_resolution: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Classes, 0 for none; the null class is all zeros and counts as none.
    pub label_dim: usize,
    /// Numbers that describe an augmentation, 0 for none.
    pub augment_dim: usize,
    /// Channels of the first level, over its multiple.
    pub model_channels: usize,
    /// Channels of each level as multiples of `model_channels`.
    pub channel_mult: Vec<usize>,
    /// Channels of the embedding as a multiple of `model_channels`.
    pub channel_mult_emb: usize,
    /// Residual blocks a level (one more on the way up).
    pub num_blocks: usize,
    /// Sides of the feature maps that get attention.
    pub attn_resolutions: Vec<usize>,
    /// Dropout in the residual blocks.
    pub dropout: f64,
    /// Features of the noise level.
    pub embedding_type: EdmEmbedding,
    /// How many, as a multiple of `model_channels`.
    pub channel_mult_noise: usize,
    /// What the way down is told of the image.
    pub encoder_type: EdmEncoder,
    /// Whence the output comes.
    pub decoder_type: EdmDecoder,
    /// The filter that halves and doubles.
    pub resample_filter: Vec<f64>,
    /// Whether the network knows the null class, one-hot of all zeros. Of this program alone.
    #[serde(rename = "_null_class")]
    pub null_class: bool,
    /// Whether sizes that the levels do not divide are padded and cropped. Of this program alone.
    #[serde(rename = "_pad")]
    pub pad: bool,
}

/// Keys that `DhariwalUNet` does not have.
const OF_SONG: [&str; 5] = [
    "embedding_type",
    "channel_mult_noise",
    "encoder_type",
    "decoder_type",
    "resample_filter",
];
/// More taps than any filter of images has.
const MAX_TAPS: usize = 64;

impl EdmConfig {
    /// The defaults of a class, for images of 32 × 32 colours.
    #[must_use]
    pub fn of(model_type: EdmArchitecture) -> Self {
        let song = model_type == EdmArchitecture::SongUNet;
        Self {
            model_type,
            img_resolution: 32,
            in_channels: 3,
            out_channels: 3,
            label_dim: 0,
            augment_dim: 0,
            model_channels: if song { 128 } else { 192 },
            channel_mult: if song {
                vec![1, 2, 2, 2]
            } else {
                vec![1, 2, 3, 4]
            },
            channel_mult_emb: 4,
            num_blocks: if song { 4 } else { 3 },
            attn_resolutions: if song { vec![16] } else { vec![32, 16, 8] },
            dropout: 0.1,
            embedding_type: EdmEmbedding::Positional,
            channel_mult_noise: 1,
            encoder_type: EdmEncoder::Standard,
            decoder_type: EdmDecoder::Standard,
            resample_filter: vec![1.0, 1.0],
            null_class: false,
            pad: false,
        }
    }

    /// Reads the object of a `config.json`. Missing keys take the defaults of their class; the second value lists the
    /// keys that were not known (and have no effect).
    ///
    /// # Errors   [`UnetError::Unsupported`] for a value that a key cannot have, [`UnetError::Config`] for impossible
    /// combinations
    pub fn from_json(json: &Map<String, Value>) -> Result<(Self, Vec<String>), UnetError> {
        let named = json.get("model_type").unwrap_or(&Value::Null);
        let model_type = serde_json::from_value(named.clone())
            .map_err(|_| unsupported("model_type", named, "SongUNet or DhariwalUNet"))?;
        if model_type == EdmArchitecture::DhariwalUNet
            && let Some((key, value)) = json.iter().find(|(key, _)| OF_SONG.contains(&key.as_str()))
        {
            return Err(unsupported(
                key,
                value,
                "nothing: DhariwalUNet has no such key",
            ));
        }
        let (config, unknown) = read_over(Self::of(model_type), json)?;
        config.validate()?;
        Ok((config, unknown))
    }

    /// The object of a `config.json`, without the name of its class.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json = keys(self);
        if self.model_type == EdmArchitecture::DhariwalUNet {
            json.retain(|key, _| !OF_SONG.contains(&key.as_str()));
        }
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
        self.model_channels.saturating_mul(self.channel_mult_emb)
    }

    /// Features of the noise level.
    pub(crate) fn noise_channels(&self) -> usize {
        self.model_channels.saturating_mul(self.channel_mult_noise)
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
            ("channel_mult_emb", self.emb_channels()),
            ("channel_mult_noise", self.noise_channels()),
        ];
        sizes.extend(self.channels().into_iter().map(|n| ("channel_mult", n)));
        check_sizes(sizes)?;
        for (key, size) in [
            ("label_dim", self.label_dim),
            ("augment_dim", self.augment_dim),
        ] {
            check(
                key,
                size.to_string(),
                size <= MOST,
                "must be at most 1048576",
            )?;
        }
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
        check_dropout(self.dropout)?;
        check(
            "channel_mult_noise",
            self.noise_channels().to_string(),
            self.noise_channels().is_multiple_of(2)
                && self.noise_channels() >= self.least_features(),
            "gives an odd number of features of the noise level, or too few",
        )?;
        let taps = &self.resample_filter;
        let sum: f64 = taps.iter().sum();
        check(
            "resample_filter",
            format!("{taps:?}"),
            taps.len().is_multiple_of(2)
                && (2..=MAX_TAPS).contains(&taps.len())
                && sum.is_finite()
                && sum != 0.0,
            "must be an even number of taps whose sum is not 0",
        )?;
        check(
            "_null_class",
            self.null_class.to_string(),
            !self.null_class || self.label_dim > 0,
            "needs classes: label_dim",
        )
    }

    /// Sinusoids between 1 and 1/10000 are two frequencies at least.
    fn least_features(&self) -> usize {
        match (self.model_type, self.embedding_type) {
            (EdmArchitecture::SongUNet, EdmEmbedding::Positional) => 4,
            _ => 2,
        }
    }
}

/// A struct's fields as a JSON object.
pub(crate) fn keys(config: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(json)) => json,
        // A struct of plain fields with string keys always is a JSON object.
        _ => Map::new(),
    }
}

/// A configuration with the values of an object, and its keys that are not known. What begins with an underscore is
/// another program's own.
///
/// # Errors   [`UnetError::Unsupported`] naming the key of a value that it cannot have
pub(crate) fn read_over<T: Serialize + DeserializeOwned>(
    mut config: T,
    json: &Map<String, Value>,
) -> Result<(T, Vec<String>), UnetError> {
    let mut unknown = Vec::new();
    for (key, value) in json {
        let mut all = keys(&config);
        if !all.contains_key(key) {
            unknown.extend((!key.starts_with('_')).then(|| key.clone()));
            continue;
        }
        all.insert(key.clone(), value.clone());
        config = serde_json::from_value(Value::Object(all))
            .map_err(|error| unsupported(key, value, &expected(&error.to_string())))?;
    }
    Ok((config, unknown))
}

fn unsupported(key: &str, value: &Value, supported: &str) -> UnetError {
    UnetError::Unsupported {
        key: key.into(),
        got: excerpt(&value.to_string()),
        supported: supported.into(),
    }
}

/// What serde expected, without what it found.
fn expected(error: &str) -> String {
    let after = error.split_once("expected ").map(|(_, after)| after);
    after.unwrap_or("a value of another kind").to_owned()
}
