//! What turns images into features.

pub mod inception;
pub mod lenet;
mod resize;

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_store::TensorFile;
use ddpm_store::atomic::digest;
use ddpm_store::torch::TorchFile;
use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::features::Features;
use crate::images::Images;
use crate::rows::Rows;

use inception::Inception;
use lenet::{Lenet, read_back};

pub use resize::Resize;

/// An extractor. Features of different ones do not compare.
#[derive(Debug)]
pub enum Extractor {
    /// The bytes of an image, from -1 to 1.
    Pixels,
    /// FID's Inception of 2015.
    Inception {
        /// The network.
        network: Box<Inception>,
        /// How images come to its 299×299 pixels.
        resize: Resize,
        /// Where it computes.
        device: Device,
        /// Of the file of its weights.
        blake3: String,
    },
    /// A classifier that was trained on the set itself.
    Lenet {
        /// The network.
        network: Box<Lenet>,
        /// Of the file of its weights.
        blake3: String,
    },
}

/// What of an extractor its figures depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractorRecord {
    /// `pixels`, `inception` or `lenet`.
    pub name: String,
    /// The digest of the file of its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// How images were resized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
}

impl Extractor {
    /// The extractor of a file of weights: Inception's published ones (`.pth` or safetensors), or a classifier that
    /// `ddpm eval --train-extractor` has trained.
    ///
    /// # Errors   [`EvalError::Format`] for a file of something else, those of reading
    pub fn load(path: &Path, resize: Resize, device: &Device) -> Result<Self, EvalError> {
        let blake3 = |path: &Path| -> Result<String, EvalError> {
            let bytes = std::fs::read(path).map_err(|error| EvalError::Format {
                path: path.to_owned(),
                problem: format!("cannot be read: {error}"),
            })?;
            Ok(digest(&bytes))
        };
        if !TorchFile::looks_like(path) {
            let file = TensorFile::read(path)?;
            if Lenet::is_one(&file) {
                return Ok(Self::Lenet {
                    network: Box::new(Lenet::load(path, device)?),
                    blake3: blake3(path)?,
                });
            }
        }
        Ok(Self::Inception {
            network: Box::new(Inception::load(path, device)?),
            resize,
            device: device.clone(),
            blake3: blake3(path)?,
        })
    }

    /// What figures depend on.
    #[must_use]
    pub fn record(&self) -> ExtractorRecord {
        let (name, blake3, resize) = match self {
            Self::Pixels => ("pixels", None, None),
            Self::Inception { resize, blake3, .. } => ("inception", Some(blake3), Some(*resize)),
            Self::Lenet { blake3, .. } => ("lenet", Some(blake3), None),
        };
        ExtractorRecord {
            name: name.to_owned(),
            blake3: blake3.cloned(),
            resize,
        }
    }

    /// Whether the Fréchet distance is taken in principal components of the features, which are too many by far.
    #[must_use]
    pub fn reduces(&self) -> bool {
        matches!(self, Self::Pixels)
    }

    /// Images that are extracted at a time.
    #[must_use]
    pub fn batch(&self) -> usize {
        match self {
            Self::Pixels => 1024,
            Self::Inception { .. } => 16,
            Self::Lenet { .. } => 256,
        }
    }

    /// Numbers that it keeps of each image, for an estimate of memory.
    #[must_use]
    pub fn numbers(&self, [channels, height, width]: [usize; 3]) -> usize {
        match self {
            Self::Pixels => channels * height * width,
            Self::Inception { .. } => 2048 + 2023 + 1008,
            Self::Lenet { network, .. } => 64 + network.about.classes,
        }
    }

    /// The features of some images, a batch of [`Extractor::batch`] or fewer.
    ///
    /// # Errors   [`EvalError::Shape`] for images that it cannot see, [`EvalError::Device`]
    pub fn extract(&self, images: &Images) -> Result<Features, EvalError> {
        match self {
            Self::Pixels => {
                let pixels = images
                    .bytes()
                    .iter()
                    .map(|&byte| ddpm_data::pixel_from_u8(byte));
                let [_, channels, height, width] = images.shape();
                Ok(Features {
                    pooled: Rows::new(pixels.collect(), channels * height * width)?,
                    ..Features::default()
                })
            }
            Self::Inception {
                network,
                resize,
                device,
                ..
            } => {
                let shape = [images.count(), 3, 299, 299];
                let x = Tensor::from_data(TensorData::new(resize.input(images), shape), device);
                let seen = network.forward(x);
                Ok(Features {
                    pooled: rows(seen.pool3)?,
                    spatial: Some(rows(seen.spatial)?),
                    logits: Some(rows(seen.logits)?),
                    labels: None,
                })
            }
            Self::Lenet { network, .. } => {
                let seen = network.see(images)?;
                Ok(Features {
                    pooled: rows(seen.features)?,
                    spatial: None,
                    logits: Some(rows(seen.logits)?),
                    labels: None,
                })
            }
        }
    }
}

fn rows(tensor: Tensor<2>) -> Result<Rows, EvalError> {
    let [_, dim] = tensor.dims();
    Rows::new(read_back(tensor)?, dim)
}
