//! What a network costs, from its configuration alone: nothing of it is allocated.
//!
//! All counts are `u128` and saturate, so that no configuration overflows them, and a configuration that no
//! network can have is the same error here as when it is built.
//!
//! [`Cost::parameters`] is exact. [`Cost::multiplications`] counts convolutions, linear layers and
//! attention, not the transforms that save some of them. [`Cost::kept`] counts what the CPU kernels of
//! `ddpm-kernels` and burn's autodiff keep from the forward to the backward pass: the input of each
//! convolution (normalised inputs are computed again), queries, keys, values and results of attention, and
//! the mask and result of dropout. Time embeddings and moments of normalisations are left out: they are
//! vectors beside images.

mod edm;
mod edm2;
mod layer;
mod live;
mod lucidrains;
mod plain;
#[cfg(test)]
mod tests;
mod unet;

use serde_json::{Map, Value};

use crate::config::UNet2DConfig;
use crate::edm::EdmConfig;
use crate::edm2::Edm2Config;
use crate::error::UnetError;
use crate::lucidrains::LucidrainsConfig;
use crate::model::{ModelConfig, ModelShape};
use crate::model_json::Described;

/// The figures of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Parameters: equal to `num_params` of the network when it is built.
    pub parameters: u128,
    /// Multiplications of one network evaluation of one image.
    pub multiplications: u128,
    /// Numbers that one image's forward pass keeps for the backward pass in training.
    pub kept: u128,
    /// The same where blocks are computed again ([`crate::UNet2D::recomputed`]): the skips and what lies between the
    /// blocks, with the inside of the largest block. Networks of other kinds keep as much as otherwise.
    pub recomputed: u128,
    /// Numbers of the largest feature map of one image.
    pub widest: u128,
    /// Numbers of one image's feature maps that exist at once in a forward pass without gradients, at most.
    pub live: u128,
    /// Numbers of the weights as the CPU kernels keep them while sampling: 36 instead of 9 for each 3×3
    /// kernel that is computed by F(4×4, 3×3).
    pub packed: u128,
    /// The levels, the image's own first; with the plain network, the bottleneck last.
    pub levels: Vec<LevelCost>,
}

/// The figures of one level of resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelCost {
    /// Rows of its feature maps, padding included.
    pub height: usize,
    /// Columns of its feature maps, padding included.
    pub width: usize,
    /// Channels that leave it.
    pub channels: usize,
    /// Its attention on the way down, in the middle and on the way up together.
    pub attention: Option<AttentionCost>,
}

/// The figures of a level's attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionCost {
    /// How many blocks have it.
    pub blocks: u128,
    /// Tokens: the pixels of a feature map.
    pub tokens: u128,
    /// Heads of each block.
    pub heads: usize,
    /// Multiplications of all its blocks for one image, projections included.
    pub multiplications: u128,
}

impl Cost {
    /// The figures of the network that `model` builds for images of `shape`.
    ///
    /// # Errors   those of [`ModelConfig::build`], for the same configurations
    pub fn of(model: &ModelConfig, shape: ModelShape) -> Result<Self, UnetError> {
        let size = [shape.height, shape.width];
        match model {
            ModelConfig::Unet(section) => Self::of_unet(&section.resolve(shape)?, size),
            ModelConfig::Given(section) => Self::of_unet(&section.resolve(shape)?.0, size),
            ModelConfig::Plain(section) => Self::of_plain(shape.channels, &section.features, size),
            ModelConfig::Edm(section) => Self::of_edm(&section.resolve(shape)?, size),
            ModelConfig::Edm2(section) => Self::of_edm2(&section.resolve(shape)?, size),
            ModelConfig::Lucidrains(section) => Self::of_lucidrains(&section.resolve(shape)?, size),
        }
    }

    /// The figures of a [`crate::UNet2D`] over images of `[height, width]`, padded to what its levels divide.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn of_unet(config: &UNet2DConfig, size: [usize; 2]) -> Result<Self, UnetError> {
        unet::figures(config, size)
    }

    /// The figures of a [`crate::EdmUNet`] over images of `[height, width]`, padded to what its levels divide.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn of_edm(config: &EdmConfig, size: [usize; 2]) -> Result<Self, UnetError> {
        edm::figures(config, size)
    }

    /// The figures of a [`crate::Edm2UNet`] over images of `[height, width]`, padded to what its levels divide.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn of_edm2(config: &Edm2Config, size: [usize; 2]) -> Result<Self, UnetError> {
        edm2::figures(config, size)
    }

    /// The figures of a [`crate::LucidrainsUNet`] over images of `[height, width]`, padded to what its levels divide.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn of_lucidrains(config: &LucidrainsConfig, size: [usize; 2]) -> Result<Self, UnetError> {
        lucidrains::figures(config, size)
    }

    /// The figures of a [`crate::PlainUNet`] over images of `[height, width]`.
    ///
    /// # Errors   [`UnetError::Config`] if there is no level or a level without channels,
    /// [`UnetError::Shape`] if the image is too small to be halved at each level
    pub fn of_plain(
        channels: usize,
        features: &[usize],
        size: [usize; 2],
    ) -> Result<Self, UnetError> {
        let [height, width] = size;
        crate::plain::check_levels(channels, features)?;
        crate::plain::check_size(channels, features.len(), height, width)?;
        Ok(plain::figures(channels, features, size))
    }

    /// The share of one evaluation's multiplications that a level's attention has, from 0 to 1.
    pub fn share(&self, attention: &AttentionCost) -> f64 {
        attention.multiplications as f64 / self.multiplications.max(1) as f64
    }
}

/// Parameters of the network that a `config.json` describes.
///
/// # Errors   those of [`crate::Model::from_json`]
pub fn parameters_of_json(json: &Map<String, Value>) -> Result<u128, UnetError> {
    // The size of the images does not matter to the weights.
    let figures = match Described::read(json)? {
        Described::Unet { config, .. } => Cost::of_unet(&config, [1, 1])?,
        Described::Plain {
            channels, features, ..
        } => {
            crate::plain::check_levels(channels, &features)?;
            plain::figures(channels, &features, [1, 1])
        }
        Described::Edm { config, .. } => Cost::of_edm(&config, [1, 1])?,
        Described::Edm2 { config, .. } => Cost::of_edm2(&config, [1, 1])?,
        Described::Lucidrains { config, .. } => Cost::of_lucidrains(&config, [1, 1])?,
    };
    Ok(figures.parameters)
}
