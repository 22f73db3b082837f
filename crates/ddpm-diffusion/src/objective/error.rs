//! What an error counts.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::config::check;
use crate::DiffusionError;

/// A function of output - target, summed up element by element.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ErrorKind {
    /// Its square.
    L2 {},
    /// Its magnitude (Saharia et al. 2022, Palette).
    L1 {},
    /// √(e² + c²) - c: a square near 0, a magnitude far from it (Song & Dhariwal 2023).
    PseudoHuber {
        /// Where the one becomes the other; above 0.
        #[serde(default = "usual")]
        c: f64,
    },
}

fn usual() -> f64 {
    0.03
}

impl Default for ErrorKind {
    fn default() -> Self {
        Self::L2 {}
    }
}

impl ErrorKind {
    pub(super) fn check(self) -> Result<(), DiffusionError> {
        match self {
            Self::PseudoHuber { c } => {
                check("error.c", c, c > 0.0 && c.is_finite(), "a number above 0")
            }
            Self::L2 {} | Self::L1 {} => Ok(()),
        }
    }

    /// Element by element.
    pub(super) fn of(self, difference: Tensor<4>) -> Tensor<4> {
        match self {
            Self::L2 {} => difference.square(),
            Self::L1 {} => difference.abs(),
            Self::PseudoHuber { c } => (difference.square() + c * c).sqrt() - c,
        }
    }
}
