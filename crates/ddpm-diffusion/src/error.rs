//! What can go wrong between a schedule, a network and a batch of images.

use ddpm_schedule::ScheduleError;

use crate::network::NetworkError;

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
    /// A key of the `[objective]` section has no meaning.
    #[error("objective.{key} is {got}; it must be {expected}")]
    Objective {
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A number that an edit cannot do with.
    #[error("{what} is {got}; it must be {expected}")]
    Editing {
        /// The number.
        what: &'static str,
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
    /// A time that is no step of the table.
    #[error("time {t} is no step of the table, whose steps are 0 to {last}")]
    Step {
        /// The time.
        t: f64,
        /// The last step.
        last: usize,
    },
    /// The network failed.
    #[error("the network failed at time step {t}: {source}")]
    Network {
        /// The time it was asked about.
        t: f64,
        /// Its own account.
        source: NetworkError,
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
        /// The time that it was asked about.
        t: f64,
    },
    /// A sampler that does not serve the process, the grid or the network.
    #[error("the sampler {sampler} {problem}")]
    Sampler {
        /// Its name.
        sampler: &'static str,
        /// Why not, and what to do.
        problem: String,
    },
    /// A likelihood of a process that has no table of steps.
    #[error(
        "the bound on the likelihood is a sum over the steps of a table, and the process {process} has none; take a model \
         of the process \"discrete\""
    )]
    Likelihood {
        /// The process.
        process: &'static str,
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
