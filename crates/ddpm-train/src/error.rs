//! What can stop a training run.

use std::path::PathBuf;

use ddpm_data::DataError;
use ddpm_diffusion::DiffusionError;
use ddpm_schedule::ScheduleError;
use ddpm_store::StoreError;
use ddpm_unet::{PrecisionError, UnetError};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A configuration value that makes no run.
    #[error("`{key}` = {got}: {expected}")]
    Config {
        /// The configuration key.
        key: &'static str,
        /// The value that was given.
        got: String,
        /// What is possible instead.
        expected: String,
    },
    /// The `[model]` section, or the images that it is to be trained on, do not fit a network.
    #[error("[model]: {0}")]
    Model(#[from] UnetError),
    /// The `[schedule]`, `[objective]` or `[sample]` section.
    #[error("{section}: {source}")]
    Schedule {
        /// The section of the configuration.
        section: &'static str,
        /// What is wrong with it.
        source: ScheduleError,
    },
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A run directory, a checkpoint or another file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Saved weights or state that do not belong to what reads them.
    #[error("{}: {problem}", .path.display())]
    Format {
        /// The checkpoint, model directory or file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A run cannot go on as another one.
    #[error("{}: cannot be resumed with another configuration: {changes}; take that back, or start a new run without --resume", .path.display())]
    Identity {
        /// The run, or the checkpoint that is of another one.
        path: PathBuf,
        /// Every key that differs, with its two values.
        changes: String,
    },
    /// The images are not those that the run was trained on.
    #[error("{}: was trained on another set of images than {data}; give the same images in the same order, or start a new run without --resume", .path.display())]
    AnotherSet {
        /// The checkpoint.
        path: PathBuf,
        /// The set as it is now.
        data: String,
    },
    /// The device does not compute in what the configuration asks for.
    #[error("[train]: {0}")]
    Precision(#[from] PrecisionError),
    /// Sampling or the forward process.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// The loss or a gradient is not a number any more.
    #[error(
        "training diverged: the {quantity} at step {step} is {value}; {last_good}; \
         lower `optim.lr`, lengthen `optim.warmup_steps` or set `optim.clip_norm`"
    )]
    Diverged {
        /// `loss` or `gradient norm`.
        quantity: &'static str,
        /// The step, counted from 1.
        step: u64,
        /// Its value.
        value: f64,
        /// Where the last good state is, in words.
        last_good: String,
    },
    /// The copies of the network on several devices have come apart.
    #[error(
        "step {step}: the weights on device {device} of --devices differ from those on the first by {distance:.1e} of \
         their size; the devices do not add up gradients as they should; go on from the last checkpoint with \
         --resume and --device"
    )]
    Apart {
        /// Which device, counted from 1 as in the list.
        device: usize,
        /// Optimiser steps done.
        step: u64,
        /// ‖difference‖ / ‖weights‖.
        distance: f64,
    },
    /// The device failed.
    #[error("the device failed: {message}")]
    Device {
        /// What the framework said.
        message: String,
    },
}
