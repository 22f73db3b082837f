//! U-Nets that predict noise: one weight-compatible with diffusers' `UNet2DModel`, and the plain
//! tutorial network.
//!
//! This crate knows no files, no schedules and no samplers: it turns a configuration into a burn
//! module, and named tensors into its parameters. Nothing here panics on what a user can give:
//! shapes, sizes and labels are checked where they enter.

mod attention;
mod blocks;
mod class_embedding;
mod config;
mod error;
pub mod figures;
mod fit;
mod init;
mod layers;
mod model;
mod model_json;
pub mod params;
mod plain;
mod recompute;
mod resample;
mod resnet;
#[cfg(test)]
mod testing;
mod time_embedding;
mod unet;

pub use class_embedding::ClassLabels;
pub use config::{
    ClassEmbedKind, DownBlockKind, MidBlockKind, ResampleStyle, SampleSize, TimeEmbeddingKind,
    TimeScaleShift, UNet2DConfig, UpBlockKind,
};
pub use ddpm_kernels::{Precision, PrecisionError};
pub use error::UnetError;
pub use figures::{AttentionFigures, Figures, LevelFigures};
pub use init::{Init, InitKind};
pub use layers::{Activation, DropoutRng};
pub use model::{
    ATTENTION_KEY, Conditioning, Model, ModelConfig, ModelShape, PlainSection, UnetSection,
};
pub use plain::PlainUNet;
pub use unet::UNet2D;
