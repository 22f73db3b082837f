//! Image sources, transforms and a deterministic prefetching loader.
//!
//! A [`DataConfig`] names a source; [`Dataset::load`] lists, checks and decodes it; a [`Loader`] hands out
//! batches in an order that is a pure function of (seed, item number), so a run resumes from one integer.
//!
//! Images leave this crate as `f32`, NCHW, in [[`PIXEL_MIN`], [`PIXEL_MAX`]]; the one exception is the
//! `synthetic` source, whose pixels are unbounded standard normal numbers.
//!
//! Nothing here trusts its input: sizes that a file claims are checked against the limits of [`DataConfig`]
//! and against the file's real length before memory is set aside for them.
//!
//! ```
//! use std::sync::Arc;
//!
//! use ddpm_data::{DataConfig, Dataset, Loader, LoaderConfig};
//!
//! # fn main() -> Result<(), ddpm_data::DataError> {
//! // The digits are inside the program.
//! let digits = Dataset::load(&DataConfig::default(), 0, &mut |_, _| {})?;
//! let mut loader = Loader::new(Arc::new(digits), LoaderConfig::default())?;
//! let batch = loader.next()?;
//! assert_eq!(batch.shape, [32, 1, 8, 8]);
//! # Ok(())
//! # }
//! ```

mod augment;
mod blob;
mod classes;
mod columns;
mod config;
mod dataset;
mod decode;
mod detect;
mod error;
#[cfg(test)]
mod fixtures;
mod kinds;
mod loader;
mod npz;
mod picture;
mod pixels;
mod raster;
mod source;
mod survey;
mod transform;
mod words;
mod zipfile;

pub use augment::{AugmentConfig, JitterConfig};
pub use columns::Column;
pub use config::{
    DEFAULT_CACHE_BYTES, DEFAULT_MAX_EXPANSION, DEFAULT_MAX_FILE_BYTES, DEFAULT_MAX_FILES,
    DEFAULT_MAX_IMAGE_PIXELS, DEFAULT_SYNTHETIC_CHANNELS, DEFAULT_SYNTHETIC_COUNT,
    DEFAULT_SYNTHETIC_SIZE, DataConfig, DataKind, Fit, FloatRange, MAX_CHANNELS, OnBad, Rgb, Size,
    Split,
};
pub use dataset::{Dataset, Item};
pub use decode::IMAGE_EXTENSIONS;
pub use detect::detect;
pub use error::{DataError, Skipped};
pub use kinds::PassedOver;
pub use loader::{Batch, Loader, LoaderConfig};
pub use npz::{NumberArray, npz_names, read_npz_array};
pub use picture::{Picture, read_picture};
pub use pixels::{PIXEL_MAX, PIXEL_MIN, pixel_from_u8};
pub use survey::{Survey, survey};
pub use transform::GREY_WEIGHTS;
