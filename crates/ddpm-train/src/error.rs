//! What can stop a training run.

use std::path::PathBuf;

use ddpm_data::DataError;
use ddpm_diffusion::DiffusionError;
use ddpm_model::ModelError;
use ddpm_schedule::ScheduleError;
use ddpm_store::StoreError;
use ddpm_unet::{PrecisionError, UnetError};
use serde::{Deserialize, Serialize};

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
    /// Samples that could not be judged.
    #[error(
        "the samples of step {step} cannot be judged: {problem}; set `train.eval_every = 0` to go on without"
    )]
    Evaluation {
        /// The step.
        step: u64,
        /// What is wrong.
        problem: String,
    },
    /// The network does not compute.
    #[error("the network failed: {message}")]
    Network {
        /// What it said.
        message: String,
    },
    /// A network that was saved, or drawing with one.
    #[error(transparent)]
    Saved(#[from] ModelError),
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
    /// The copies of the network on several ranks have come apart.
    #[error(
        "step {step}: the weights of rank {rank} differ from those of rank 0 by {distance:.1e} of their size; the \
         devices do not add up gradients as they should; go on from the last checkpoint with --resume on one device"
    )]
    ReplicaDiverged {
        /// Which rank, from 0.
        rank: usize,
        /// Optimiser steps done.
        step: u64,
        /// ‖difference‖ / ‖weights‖.
        distance: f64,
    },
    /// Another rank has other images than rank 0.
    #[error(
        "rank {rank} has another set of images than rank 0: {data}; give all ranks the same images in the same order"
    )]
    OtherImages {
        /// Which rank.
        rank: usize,
        /// Its set.
        data: String,
    },
    /// An error of another rank, which has it in full.
    #[error("rank {rank}: {message}")]
    OtherRank {
        /// Which rank.
        rank: usize,
        /// What is at fault.
        kind: Fault,
        /// The error there.
        message: String,
    },
    /// The ranks of a run cannot reach each other.
    #[error(
        "the ranks cannot work together: {problem}; go on from the last checkpoint with --resume"
    )]
    Ranks {
        /// What happened.
        problem: String,
    },
    /// The ranks' GPUs cannot sum gradients among themselves.
    #[error("NCCL does not join the GPUs of the ranks: {problem}")]
    Gpus {
        /// Why not.
        problem: String,
    },
    /// The device failed.
    #[error("the device failed: {message}")]
    Device {
        /// What the framework said.
        message: String,
    },
}

/// What is at fault for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The arguments or the configuration.
    Configuration,
    /// The images.
    Data,
    /// A checkpoint, or another file in a known format.
    Format,
    /// Training diverged.
    Diverged,
    /// The device, its memory, or the way to other ranks.
    Device,
    /// Something else.
    Other,
}

impl TrainError {
    /// What is at fault.
    #[must_use]
    pub fn kind(&self) -> Fault {
        match self {
            Self::Config { .. }
            | Self::Model(_)
            | Self::Schedule { .. }
            | Self::Identity { .. } => Fault::Configuration,
            Self::Data(error) => error.into(),
            Self::AnotherSet { .. } | Self::OtherImages { .. } => Fault::Data,
            Self::Store(error) => error.into(),
            Self::Format { .. } => Fault::Format,
            Self::Diffusion(error) => error.into(),
            Self::Diverged { .. } => Fault::Diverged,
            Self::Saved(error) => error.into(),
            Self::Network { .. } | Self::Evaluation { .. } => Fault::Other,
            Self::OtherRank { kind, .. } => *kind,
            Self::ReplicaDiverged { .. }
            | Self::Ranks { .. }
            | Self::Gpus { .. }
            | Self::Device { .. }
            | Self::Precision(_) => Fault::Device,
        }
    }
}

impl From<&DataError> for Fault {
    fn from(error: &DataError) -> Self {
        match error {
            DataError::Config { .. } | DataError::Column { .. } => Self::Configuration,
            _ => Self::Data,
        }
    }
}

impl From<&StoreError> for Fault {
    /// A run that is taken, locked or not there is a matter of the arguments; the rest are bad files.
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Occupied { .. } | StoreError::Locked { .. } => Self::Configuration,
            _ => Self::Format,
        }
    }
}

impl From<&DiffusionError> for Fault {
    fn from(error: &DiffusionError) -> Self {
        match error {
            DiffusionError::Network { .. } | DiffusionError::Stopped { .. } => Self::Other,
            DiffusionError::NonFinite { .. } => Self::Diverged,
            _ => Self::Configuration,
        }
    }
}

impl From<&ModelError> for Fault {
    fn from(error: &ModelError) -> Self {
        match error {
            ModelError::Store(error) => error.into(),
            ModelError::Diffusion(error) => error.into(),
            ModelError::Format { .. } | ModelError::Foreign { .. } => Self::Format,
            ModelError::Network(_)
            | ModelError::Schedule { .. }
            | ModelError::Size { .. }
            | ModelError::Option { .. } => Self::Configuration,
            ModelError::Device { .. } => Self::Device,
        }
    }
}
