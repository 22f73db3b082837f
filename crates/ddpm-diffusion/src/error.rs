//! What can go wrong between a schedule, a network and a batch of images.

use ddpm_schedule::ScheduleError;

use crate::denoiser::DenoiserError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DiffusionError {
    /// The schedule, the choice of steps or the objective is impossible.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A key of the `[sample]` section has no meaning.
    #[error("sample.{key} is {got}; it must be {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Two image tensors that must be alike differ.
    #[error("{what} has the shape {got:?}, expected {expected:?} (batch, channels, height, width)")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// The shape that fits.
        expected: [usize; 4],
        /// Its shape.
        got: [usize; 4],
    },
    /// A list with one entry an image has another length than the batch.
    #[error("{got} {what} were given for a batch of {expected} images; give one for each")]
    Batch {
        /// What is listed.
        what: &'static str,
        /// The number of images.
        expected: usize,
        /// The length of the list.
        got: usize,
    },
    /// A time step outside the schedule.
    #[error("time step {t} lies beyond the schedule, whose last step is {last}")]
    Step {
        /// The step.
        t: usize,
        /// The largest one there is.
        last: usize,
    },
    /// The network failed.
    #[error("the network failed at time step {t}: {source}")]
    Denoiser {
        /// The time step it was asked about.
        t: usize,
        /// Its own account.
        source: DenoiserError,
    },
    /// The network gave NaN or an infinity.
    #[error(
        "the network's output is not finite at sampling step {step} of {of} (time step {t}); its training diverged or \
         its precision is too narrow: take an earlier checkpoint, or compute in f32"
    )]
    NonFinite {
        /// The sampling step, counted from 1.
        step: usize,
        /// Steps planned.
        of: usize,
        /// The time step that it was asked about.
        t: usize,
    },
    /// The observer asked to stop.
    #[error("sampling was stopped after step {step} of {of}")]
    Stopped {
        /// Steps done.
        step: usize,
        /// Steps planned.
        of: usize,
    },
}
