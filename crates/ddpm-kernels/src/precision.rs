//! The element type of a network's forward and backward pass.

use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};

/// What a network computes in. Its parameters, their moments and averages stay f32 in every case, and so
/// do normalisations, softmax, the time embedding and the loss (Micikevicius et al. 2018).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits throughout.
    #[default]
    F32,
    /// 32 bits, but matrix products round their factors to 10 bits of mantissa (NVIDIA, from Ampere on).
    Tf32,
    /// Activations, and the copies of the weights that they meet, in bfloat16.
    Bf16,
    /// As [`Precision::Bf16`] in half precision; training needs its loss scaled.
    F16,
}

/// A device that does not compute in what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("precision {precision}: {lacks}; choose precision {instead}")]
pub struct PrecisionError {
    /// What was asked for.
    pub precision: Precision,
    /// What the device lacks.
    pub lacks: String,
    /// What it has.
    pub instead: String,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 4] = [Self::F32, Self::Tf32, Self::Bf16, Self::F16];

    /// The name, as in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The element type of activations.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 | Self::Tf32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
            Self::F16 => FloatDType::F16,
        }
    }

    /// Whether the loss must be scaled for gradients not to vanish.
    pub fn scales_loss(self) -> bool {
        self == Self::F16
    }

    /// Whether `device` computes in it; if it is a GPU, TF32 is allowed or forbidden for all GPUs from here on.
    ///
    /// # Errors   [`PrecisionError`] if it does not
    pub fn choose(self, device: &Device) -> Result<(), PrecisionError> {
        let lacks = |precision: Self| precision.lacks(device);
        if let Some(lacks_this) = lacks(self) {
            let has = Self::ALL.into_iter().filter(|p| lacks(*p).is_none());
            return Err(PrecisionError {
                precision: self,
                lacks: lacks_this,
                instead: has.map(Self::name).collect::<Vec<_>>().join(" or "),
            });
        }
        #[cfg(feature = "cube")]
        if crate::Place::of(device) == crate::Place::Gpu {
            crate::cube::allow_tf32(self == Self::Tf32);
        }
        Ok(())
    }

    fn lacks(self, device: &Device) -> Option<String> {
        #[cfg(feature = "cube")]
        if let burn::backend::DispatchDevice::Cube(device) = device.clone().inner().as_dispatch() {
            return crate::cube::lacks(device, self);
        }
        let has = match crate::Place::of(device) {
            #[cfg(feature = "flex")]
            crate::Place::Cpu => matches!(self, Self::F32 | Self::Bf16),
            _ => self == Self::F32,
        };
        (!has).then(|| match crate::Place::of(device) {
            #[cfg(feature = "flex")]
            crate::Place::Cpu => "the CPU's kernels compute in f32 and bf16".to_owned(),
            _ => "burn's own operations are used in f32 only".to_owned(),
        })
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| format!("`{text}` is no precision; write f32, tf32, bf16 or f16"))
    }
}
