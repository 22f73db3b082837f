//! The configuration of [`crate::UNet2D`]: the keys of diffusers' `config.json`, with its defaults.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{UnetError, excerpt};
use crate::layers::Activation;
use crate::resnet::{ResnetOptions, TimeShift};
use crate::skip_blocks::PICTURE_CHANNELS;

/// A level on the way down. In old files names begin with `UNetRes`, which diffusers cuts off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlockKind {
    /// Residual blocks.
    #[serde(alias = "UNetResDownBlock2D")]
    DownBlock2D,
    /// Residual blocks, each followed by attention.
    #[serde(alias = "UNetResAttnDownBlock2D")]
    AttnDownBlock2D,
    /// Residual blocks; the halving is one too.
    #[serde(alias = "UNetResResnetDownsampleBlock2D")]
    ResnetDownsampleBlock2D,
    /// Residual blocks that the image itself is added to ([`crate::UNet2D`] of the kind of NCSN++).
    #[serde(alias = "UNetResSkipDownBlock2D")]
    SkipDownBlock2D,
    /// The same, each residual block followed by attention.
    #[serde(alias = "UNetResAttnSkipDownBlock2D")]
    AttnSkipDownBlock2D,
}

impl DownBlockKind {
    /// Whether its residual blocks are followed by attention.
    #[must_use]
    pub fn attends(self) -> bool {
        matches!(self, Self::AttnDownBlock2D | Self::AttnSkipDownBlock2D)
    }

    /// Whether the image is carried beside the features.
    #[must_use]
    pub fn skips(self) -> bool {
        matches!(self, Self::SkipDownBlock2D | Self::AttnSkipDownBlock2D)
    }
}

/// A level on the way up; old names as in [`DownBlockKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlockKind {
    /// Residual blocks.
    #[serde(alias = "UNetResUpBlock2D")]
    UpBlock2D,
    /// Residual blocks, each followed by attention.
    #[serde(alias = "UNetResAttnUpBlock2D")]
    AttnUpBlock2D,
    /// Residual blocks; the doubling is one too.
    #[serde(alias = "UNetResResnetUpsampleBlock2D")]
    ResnetUpsampleBlock2D,
    /// Residual blocks that add to the image itself.
    #[serde(alias = "UNetResSkipUpBlock2D")]
    SkipUpBlock2D,
    /// The same, with attention after the last residual block.
    #[serde(alias = "UNetResAttnSkipUpBlock2D")]
    AttnSkipUpBlock2D,
}

impl UpBlockKind {
    /// Whether it has attention.
    #[must_use]
    pub fn attends(self) -> bool {
        matches!(self, Self::AttnUpBlock2D | Self::AttnSkipUpBlock2D)
    }

    /// Whether the image is carried beside the features.
    #[must_use]
    pub fn skips(self) -> bool {
        matches!(self, Self::SkipUpBlock2D | Self::AttnSkipUpBlock2D)
    }
}

/// The middle of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MidBlockKind {
    /// Residual block, attention, residual block.
    UNetMidBlock2D,
}

/// Features of the time step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeEmbeddingKind {
    /// Sinusoids.
    Positional,
    /// Random Fourier features of ln σ; the output is divided by σ.
    Fourier,
    /// A table of `num_train_timesteps` vectors.
    Learned,
}

/// How attention levels change the resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResampleStyle {
    /// By a convolution.
    Conv,
    /// By a residual block.
    Resnet,
}

/// How the time embedding acts on residual blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeScaleShift {
    /// It is added.
    Default,
    /// It scales and shifts.
    ScaleShift,
}

/// Class embeddings beside the table that `num_class_embeds` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassEmbedKind {
    /// The label is embedded like a time step.
    Timestep,
    /// The caller gives the embedding.
    Identity,
}

/// Height and width that a network was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SampleSize {
    /// A square.
    Square(usize),
    /// `[height, width]`.
    HeightWidth([usize; 2]),
}

impl SampleSize {
    /// `[height, width]`.
    pub fn height_width(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side, side],
            Self::HeightWidth(size) => size,
        }
    }
}

/// Networks of the field have 2 to 4.
const MAX_LAYERS_PER_BLOCK: usize = 64;
/// What diffusers' `EMAModel` notes about itself in the `config.json` of its weights.
const EMA_KEYS: [&str; 7] = [
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
];
/// Of an image, in pixels.
const MAX_SIDE: usize = 1 << 14;

macro_rules! config {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $default:expr, $expected:literal;)*) => {
        /// What a [`crate::UNet2D`] is built from. Field names, values and defaults are those of
        /// `UNet2DModel`'s `config.json`.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct UNet2DConfig {
            $($(#[$doc])* pub $key: $type,)*
        }

        impl Default for UNet2DConfig {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl UNet2DConfig {
            /// Reads the object of a `config.json`. Missing keys take their defaults; the second
            /// value lists the keys that were not known (and have no effect).
            ///
            /// # Errors   [`UnetError::Unsupported`] for a value of a known key that this crate
            /// does not implement, [`UnetError::Config`] for impossible combinations
            pub fn from_json(json: &Map<String, Value>) -> Result<(Self, Vec<String>), UnetError> {
                let mut config = Self::default();
                $(if let Some(value) = json.get(stringify!($key)).or_else(|| json.get(concat!("_", stringify!($key)))) {
                    config.$key = read(stringify!($key), value, $expected)?;
                })*
                let known = [$(stringify!($key)),*];
                let unknown = json
                    .keys()
                    .filter(|key| !key.starts_with('_') && !known.contains(&key.as_str()))
                    .filter(|key| !EMA_KEYS.contains(&key.as_str()))
                    .cloned()
                    .collect();
                config.validate()?;
                Ok((config, unknown))
            }
        }
    };
}

config! {
    /// Height and width of the images; not needed to build the network.
    sample_size: Option<SampleSize> = None, "an integer, [height, width] or null";
    /// Channels of the input.
    in_channels: usize = 3, "a positive integer";
    /// Channels of the output.
    out_channels: usize = 3, "a positive integer";
    /// Whether the input is in [0, 1] and to be brought to [-1, 1] first.
    center_input_sample: bool = false, "true or false";
    /// Features of the time step.
    time_embedding_type: TimeEmbeddingKind = TimeEmbeddingKind::Positional, "positional, fourier or learned";
    /// Channels of the time embedding; `None` is four times the first level's.
    time_embedding_dim: Option<usize> = None, "a positive integer or null";
    /// Shifts the frequencies of the sinusoids.
    freq_shift: f64 = 0.0, "a number";
    /// Cosines before sines.
    flip_sin_to_cos: bool = true, "true or false";
    /// The levels on the way down.
    down_block_types: Vec<DownBlockKind> = vec![
        DownBlockKind::DownBlock2D,
        DownBlockKind::AttnDownBlock2D,
        DownBlockKind::AttnDownBlock2D,
        DownBlockKind::AttnDownBlock2D,
    ], "a list of DownBlock2D, AttnDownBlock2D, ResnetDownsampleBlock2D, SkipDownBlock2D and AttnSkipDownBlock2D";
    /// The middle, or none.
    mid_block_type: Option<MidBlockKind> = Some(MidBlockKind::UNetMidBlock2D), "UNetMidBlock2D or null";
    /// The levels on the way up.
    up_block_types: Vec<UpBlockKind> = vec![
        UpBlockKind::AttnUpBlock2D,
        UpBlockKind::AttnUpBlock2D,
        UpBlockKind::AttnUpBlock2D,
        UpBlockKind::UpBlock2D,
    ], "a list of UpBlock2D, AttnUpBlock2D, ResnetUpsampleBlock2D, SkipUpBlock2D and AttnSkipUpBlock2D";
    /// Channels of each level.
    block_out_channels: Vec<usize> = vec![224, 448, 672, 896], "a list of positive integers";
    /// Residual blocks a level (one more on the way up).
    layers_per_block: usize = 2, "a positive integer";
    /// The middle's residual sums are divided by this.
    mid_block_scale_factor: f64 = 1.0, "a number";
    /// Padding of the strided convolutions; 0 pads right and bottom by one.
    downsample_padding: usize = 1, "0 or 1";
    /// How attention levels halve.
    downsample_type: ResampleStyle = ResampleStyle::Conv, "conv or resnet";
    /// How attention levels double.
    upsample_type: ResampleStyle = ResampleStyle::Conv, "conv or resnet";
    /// Dropout in the residual blocks.
    dropout: f64 = 0.0, "a number in [0, 1)";
    /// The nonlinearity of the residual blocks.
    act_fn: Activation = Activation::Silu, "silu, swish, relu, gelu or mish";
    /// Channels of an attention head; `None` is one head over all channels.
    attention_head_dim: Option<usize> = Some(8), "a positive integer or null";
    /// Groups of the normalisations; `None` is a quarter of the channels, at most 32.
    norm_num_groups: Option<usize> = Some(32), "a positive integer or null";
    /// Groups of the normalisation in the middle's attention.
    attn_norm_num_groups: Option<usize> = None, "a positive integer or null";
    /// Added to the variance in the normalisations.
    norm_eps: f64 = 1e-5, "a positive number";
    /// How the time embedding acts on residual blocks.
    resnet_time_scale_shift: TimeScaleShift = TimeScaleShift::Default, "default or scale_shift";
    /// Whether the middle has attention.
    add_attention: bool = true, "true or false";
    /// Class embedding other than a table.
    class_embed_type: Option<ClassEmbedKind> = None, "timestep, identity or null";
    /// Classes of the table.
    num_class_embeds: Option<usize> = None, "a positive integer or null";
    /// Time steps of a learned time embedding.
    num_train_timesteps: Option<usize> = None, "a positive integer or null";
    /// Whether the last class of the table stands for "no class given" (Ho & Salimans 2022). Of this program alone:
    /// such keys are written with an underscore, and diffusers passes over them.
    #[serde(rename = "_null_class", skip_serializing_if = "std::ops::Not::not")]
    null_class: bool = false, "true or false";
    /// Numbers that the network is told of each image besides its class. Of this program alone.
    #[serde(rename = "_vector_dim", skip_serializing_if = "Option::is_none")]
    vector_dim: Option<usize> = None, "a positive integer or null";
    /// Heads of each attention, whatever its channels; needs `attention_head_dim = null`. Of this program alone.
    #[serde(rename = "_num_attention_heads", skip_serializing_if = "Option::is_none")]
    num_attention_heads: Option<usize> = None, "a positive integer or null";
    /// Sinusoids of the time step, where they are not as many as the first level's channels. Of this program alone.
    #[serde(rename = "_time_features", skip_serializing_if = "Option::is_none")]
    time_features: Option<usize> = None, "a positive integer or null";
}

fn read<T: DeserializeOwned>(key: &str, value: &Value, expected: &str) -> Result<T, UnetError> {
    serde_json::from_value(value.clone()).map_err(|_| UnetError::Unsupported {
        key: key.into(),
        got: excerpt(&value.to_string()),
        supported: expected.into(),
    })
}

impl UNet2DConfig {
    /// The object of a `config.json` that Python's diffusers reads.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json = match serde_json::to_value(self) {
            Ok(Value::Object(json)) => json,
            // A struct of plain fields with string keys always is a JSON object.
            _ => Map::new(),
        };
        json.insert("_class_name".into(), "UNet2DModel".into());
        json
    }

    /// Channels of the time embedding.
    pub fn temb_channels(&self) -> usize {
        self.time_embedding_dim
            .unwrap_or_else(|| 4 * self.block_out_channels.first().copied().unwrap_or_default())
    }

    /// Features of the time step: sinusoids, random frequencies or columns of the table.
    pub fn time_features(&self) -> usize {
        self.time_features
            .unwrap_or_else(|| self.block_out_channels.first().copied().unwrap_or_default())
    }

    /// Channels of an attention head over `channels` channels.
    ///
    /// # Errors   [`UnetError::Config`] if `num_attention_heads` does not divide them
    pub fn head_dim(&self, channels: usize) -> Result<usize, UnetError> {
        match self.num_attention_heads {
            None => Ok(self.attention_head_dim.unwrap_or(channels)),
            Some(heads) if heads > 0 && channels.is_multiple_of(heads) => Ok(channels / heads),
            Some(heads) => Err(UnetError::Config {
                key: "_num_attention_heads".into(),
                got: heads.to_string(),
                expected: format!("must divide the {channels} channels of a level with attention"),
            }),
        }
    }

    /// Both sides of an image must be a multiple of this.
    pub fn size_multiple(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    /// # Errors   [`UnetError::Config`] for a combination that no network can have
    pub fn validate(&self) -> Result<(), UnetError> {
        let fail = |key: &str, got: String, expected: String| {
            Err(UnetError::Config {
                key: key.into(),
                got,
                expected,
            })
        };
        let levels = self.block_out_channels.len();
        if levels == 0 || levels > 12 {
            return fail(
                "block_out_channels",
                excerpt(&format!("{:?}", self.block_out_channels)),
                "must have 1 to 12 levels".into(),
            );
        }
        for (key, count) in [
            ("down_block_types", self.down_block_types.len()),
            ("up_block_types", self.up_block_types.len()),
        ] {
            if count != levels {
                return fail(
                    key,
                    format!("{count} levels"),
                    format!("must have one for each of the {levels} block_out_channels"),
                );
            }
        }
        let positive = [
            ("in_channels", Some(self.in_channels)),
            ("out_channels", Some(self.out_channels)),
            ("layers_per_block", Some(self.layers_per_block)),
            ("time_embedding_dim", self.time_embedding_dim),
            ("norm_num_groups", self.norm_num_groups),
            ("attn_norm_num_groups", self.attn_norm_num_groups),
            ("attention_head_dim", self.attention_head_dim),
            ("num_class_embeds", self.num_class_embeds),
            ("num_train_timesteps", self.num_train_timesteps),
            ("_vector_dim", self.vector_dim),
            ("_num_attention_heads", self.num_attention_heads),
            ("_time_features", self.time_features),
        ];
        let channels = self.block_out_channels.iter().copied().map(Some);
        let levels = channels.map(|value| ("block_out_channels", value));
        for (key, value) in positive.into_iter().chain(levels) {
            // 2^20 channels, classes or steps are far over any network and keep sizes from overflowing.
            if value.is_some_and(|value| value == 0 || value > 1 << 20) {
                return fail(
                    key,
                    value.unwrap_or_default().to_string(),
                    "must be between 1 and 1048576".into(),
                );
            }
        }
        // Sides are rounded up to what the levels divide, and images are as large as this says.
        if let Some([height, width]) = self.sample_size.map(SampleSize::height_width)
            && ![height, width]
                .iter()
                .all(|side| (1..=MAX_SIDE).contains(side))
        {
            return fail(
                "sample_size",
                format!("{height}x{width}"),
                format!("both sides must be between 1 and {MAX_SIDE}"),
            );
        }
        if self.null_class && self.num_class_embeds.is_none_or(|classes| classes < 2) {
            return fail(
                "_null_class",
                "true".into(),
                "needs num_class_embeds of at least 2, the last of which it is".into(),
            );
        }
        if let (Some(heads), Some(_)) = (self.num_attention_heads, self.attention_head_dim) {
            return fail(
                "_num_attention_heads",
                heads.to_string(),
                "needs attention_head_dim = null: heads have either a number or a size".into(),
            );
        }
        self.validate_skips()?;
        // Every layer is an object before any weight is looked at.
        if self.layers_per_block > MAX_LAYERS_PER_BLOCK {
            return fail(
                "layers_per_block",
                self.layers_per_block.to_string(),
                format!("must be between 1 and {MAX_LAYERS_PER_BLOCK}"),
            );
        }
        // More padding makes a level larger than half of the one before, so the skips do not fit.
        if self.downsample_padding > 1 {
            return fail(
                "downsample_padding",
                self.downsample_padding.to_string(),
                "must be 0 or 1".into(),
            );
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(
                "dropout",
                self.dropout.to_string(),
                "must be in [0, 1)".into(),
            );
        }
        if !(self.norm_eps > 0.0 && self.norm_eps.is_finite()) {
            return fail(
                "norm_eps",
                self.norm_eps.to_string(),
                "must be positive".into(),
            );
        }
        if self.mid_block_scale_factor == 0.0 || !self.mid_block_scale_factor.is_finite() {
            return fail(
                "mid_block_scale_factor",
                self.mid_block_scale_factor.to_string(),
                "must be a number other than 0".into(),
            );
        }
        let half = (self.time_features() / 2) as f64;
        if self.time_embedding_type == TimeEmbeddingKind::Positional
            && !(half - self.freq_shift > 0.0 && self.freq_shift.is_finite())
        {
            return fail(
                "freq_shift",
                self.freq_shift.to_string(),
                format!("must be under {half}, half the features of the time step"),
            );
        }
        if self.time_embedding_type == TimeEmbeddingKind::Learned
            && self.num_train_timesteps.is_none()
        {
            return fail(
                "num_train_timesteps",
                "null".into(),
                "must be set for a learned time embedding".into(),
            );
        }
        Ok(())
    }

    /// The image that skip blocks carry has to reach each of them in its size.
    fn validate_skips(&self) -> Result<(), UnetError> {
        let fail = |key: &str, got: String, expected: &str| {
            Err(UnetError::Config {
                key: key.into(),
                got,
                expected: expected.into(),
            })
        };
        let last = self.block_out_channels.len() - 1;
        let halving = self.down_block_types.iter().take(last);
        let Some(down) = halving.clone().rposition(|kind| kind.skips()) else {
            return self.validate_up_skips(last, fail);
        };
        if !halving.take(down).all(|kind| kind.skips()) {
            return fail(
                "down_block_types",
                excerpt(&format!("{:?}", self.down_block_types)),
                "skip blocks halve the image: all levels before one must be skip blocks too",
            );
        }
        if self.in_channels != PICTURE_CHANNELS {
            return fail(
                "in_channels",
                self.in_channels.to_string(),
                "must be 3 for skip blocks on the way down",
            );
        }
        self.validate_up_skips(last, fail)
    }

    fn validate_up_skips(
        &self,
        last: usize,
        fail: impl Fn(&str, String, &str) -> Result<(), UnetError>,
    ) -> Result<(), UnetError> {
        let mut doubling = self.up_block_types.iter().take(last);
        let Some(first) = doubling.position(|kind| kind.skips()) else {
            return Ok(());
        };
        if !self.up_block_types[first..].iter().all(|kind| kind.skips()) {
            return fail(
                "up_block_types",
                excerpt(&format!("{:?}", self.up_block_types)),
                "skip blocks double the image: all levels after one must be skip blocks too",
            );
        }
        if self.out_channels != PICTURE_CHANNELS {
            return fail(
                "out_channels",
                self.out_channels.to_string(),
                "must be 3 for skip blocks on the way up",
            );
        }
        Ok(())
    }

    pub(crate) fn resnet_options(&self) -> ResnetOptions {
        ResnetOptions {
            temb_channels: self.temb_channels(),
            groups: self.norm_num_groups,
            first_groups: None,
            eps: self.norm_eps,
            dropout: self.dropout,
            activation: self.act_fn,
            time_shift: match self.resnet_time_scale_shift {
                TimeScaleShift::Default => TimeShift::Default,
                TimeScaleShift::ScaleShift => TimeShift::ScaleShift,
            },
            output_scale: 1.0,
        }
    }
}

#[cfg(test)]
mod tests;
