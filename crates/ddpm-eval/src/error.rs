//! The one error type of this crate.

use std::path::PathBuf;

use ddpm_data::DataError;
use ddpm_store::StoreError;

/// What can stop images from being judged.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file of weights, statistics or figures.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Images, or an `.npz` file of numbers.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file that is not what it is taken for.
    #[error("{}: {problem}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Numbers that do not belong together.
    #[error("{what}: {got} instead of {expected}")]
    Shape {
        /// Of what.
        what: &'static str,
        /// What there should be.
        expected: String,
        /// What there is.
        got: String,
    },
    /// Too few images for a figure.
    #[error(
        "{figure} needs at least {needed} images, and there are {got} {of}; give more with -n or another reference"
    )]
    Few {
        /// The figure.
        figure: &'static str,
        /// How many it needs.
        needed: usize,
        /// How many there are.
        got: usize,
        /// Of which set.
        of: &'static str,
    },
    /// A feature that is NaN or infinite.
    #[error(
        "feature {feature} of image {image} ({of}) is not finite; the extractor's weights or the images are damaged"
    )]
    NotFinite {
        /// The number of the image.
        image: usize,
        /// The number of the feature.
        feature: usize,
        /// Of which set.
        of: &'static str,
    },
    /// A matrix that has no eigenvalues.
    #[error(
        "the eigenvalues of a covariance of {dim} features cannot be found; the features are damaged"
    )]
    Eigenvalues {
        /// Its side.
        dim: usize,
    },
    /// Figures that are not comparable.
    #[error("{}: {problem}", .path.display())]
    Incomparable {
        /// The second file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// A signal came.
    #[error("stopped")]
    Stopped,
    /// The device failed.
    #[error("the device failed: {message}")]
    Device {
        /// What the framework said.
        message: String,
    },
}
