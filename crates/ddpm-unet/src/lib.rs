//! U-Nets that predict noise: one weight-compatible with diffusers' `UNet2DModel`, those of EDM and EDM2, that of
//! denoising-diffusion-pytorch, and the plain tutorial network.
//!
//! This crate knows no files, no schedules and no samplers: it turns a configuration into a burn
//! module, and named tensors into its parameters. Nothing here panics on what a user can give:
//! shapes, sizes and labels are checked where they enter.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ddpm_unet::{ModelConfig, ModelShape, NetworkCondition, UnetSection};
//!
//! # fn main() -> Result<(), ddpm_unet::UnetError> {
//! let config = ModelConfig::Unet(UnetSection {
//!     channels: 8,
//!     multipliers: vec![1, 2],
//!     blocks: 1,
//!     groups: 4,
//!     ..UnetSection::default()
//! });
//! let shape = ModelShape {
//!     channels: 3,
//!     height: 16,
//!     width: 16,
//!     learned_variance: false,
//!     self_condition: false,
//!     steps: 1000,
//!     condition: Default::default(),
//! };
//! let device = Device::flex();
//! let network = config.build(shape, 0, &device)?;
//! let noisy = Tensor::<4>::zeros([2, 3, 16, 16], &device);
//! let noise = network.forward(noisy, Tensor::from_floats([10.0, 900.0], &device), NetworkCondition::default(), None)?;
//! assert_eq!(noise.dims(), [2, 3, 16, 16]);
//! # Ok(())
//! # }
//! ```

mod attention;
mod blocks;
mod checks;
mod class_embedding;
mod config;
pub mod cost;
mod dict;
mod edm;
mod edm2;
mod error;
mod fir;
pub mod foreign;
mod given;
mod init;
mod layers;
mod lucidrains;
mod model;
mod model_json;
mod padding;
pub mod params;
mod plain;
mod recompute;
mod resample;
mod resnet;
mod skip_blocks;
#[cfg(test)]
mod testing;
mod time_embedding;
mod unet;

pub use class_embedding::{ClassLabels, NetworkCondition};
pub use config::{
    ClassEmbedKind, DownBlockKind, MidBlockKind, ResampleStyle, SampleSize, TimeEmbeddingKind,
    TimeScaleShift, UNet2DConfig, UpBlockKind,
};
pub use cost::{AttentionCost, Cost, LevelCost};
pub use ddpm_kernels::{Precision, PrecisionError};
pub use edm::{
    DhariwalUNet, EdmArch, EdmArchitecture, EdmConfig, EdmDecoder, EdmEmbedding, EdmEncoder,
    EdmSection, EdmUNet, SongUNet,
};
pub use edm2::{Edm2Config, Edm2Section, Edm2UNet};
pub use error::UnetError;
pub use given::GivenSection;
pub use init::{Init, InitKind};
pub use layers::{Activation, DropoutRng};
pub use lucidrains::{LucidrainsConfig, LucidrainsSection, LucidrainsUNet};
pub use model::{
    ATTENTION_KEY, Auto, Classes, ConditionShape, Conditioning, Model, ModelConfig, ModelShape,
    PlainSection, UnetSection,
};
pub use plain::PlainUNet;
pub use unet::UNet2D;
