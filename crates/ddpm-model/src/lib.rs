//! A trained network, opened from wherever it lies, and images drawn from it.
//!
//! [`OpenedModel::open`] takes a run, a checkpoint or a diffusers directory. [`OpenedModel::sample`] draws the first images of
//! a seed; [`Drawing`] is the same with every choice open: which images, in which batches, with progress.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use ddpm_model::OpenedModel;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::flex();
//! let mut model = OpenedModel::open("runs/digits-001".as_ref(), None, &device)?;
//! let images = model.sample(16, 0)?;
//! images.grid(Default::default())?.save_png("digits.png".as_ref())?;
//! # Ok(())
//! # }
//! ```

mod drawing;
mod error;
pub mod export;
mod import;
mod network;
mod open;
pub mod seed;
mod settings;
mod told;

pub use drawing::{Drawing, image_batch, vector};
pub use error::ModelError;
pub use import::{ImportOptions, Imported, Origin, Setting};
pub use network::SamplingNetwork;
pub use open::{OpenedModel, load_weights};
pub use settings::{ImportedFrom, SavedSettings};
pub use told::Told;
