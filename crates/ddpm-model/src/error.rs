//! What can stop a network from being opened or drawn with.

use std::path::PathBuf;

use ddpm_diffusion::DiffusionError;
use ddpm_schedule::ScheduleError;
use ddpm_store::StoreError;
use ddpm_unet::UnetError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A run, a checkpoint or another file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Saved weights or settings that do not belong to what reads them.
    #[error("{}: {problem}", .path.display())]
    Format {
        /// The checkpoint, model directory or file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A network that cannot be built.
    #[error("[model]: {0}")]
    Network(#[from] UnetError),
    /// The schedule or process of a model.
    #[error("{section}: {source}")]
    Schedule {
        /// The section of the configuration.
        section: &'static str,
        /// What is wrong with it.
        source: ScheduleError,
    },
    /// Sampling.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// The size of the images is not known.
    #[error("{}: does not say how large its images are; name a size", .path.display())]
    Size {
        /// The model.
        path: PathBuf,
    },
    /// What diffusers cannot represent.
    #[error("{}: `{key}` is {value}, which diffusers has nothing for; {hint}", .path.display())]
    Foreign {
        /// The model.
        path: PathBuf,
        /// The key of the network's or the run's configuration.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// What to do.
        hint: &'static str,
    },
    /// An option that is missing, or that says nothing of what is imported.
    #[error("{option}: {problem}")]
    Option {
        /// As it is written on the command line.
        option: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The device failed.
    #[error("the device failed: {message}")]
    Device {
        /// What the framework said.
        message: String,
    },
}
