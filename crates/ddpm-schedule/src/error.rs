//! What can be wrong with a schedule, a choice of steps or an objective.

/// Everything this crate refuses, with what to change.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// The number of steps is outside what a schedule may have.
    #[error("schedule.steps is {steps}; it must be from 1 to {max}")]
    Steps {
        /// The number asked for.
        steps: usize,
        /// The largest allowed.
        max: usize,
    },
    /// The ends of a β range are not 0 < start ≤ end < 1.
    #[error(
        "beta_start {start} and beta_end {end} must satisfy 0 < beta_start <= beta_end < 1{hint}"
    )]
    BetaRange {
        /// The first β, after any scaling.
        start: f64,
        /// The last β, after any scaling.
        end: f64,
        /// Why the ends may differ from those configured; empty or starts with a semicolon.
        hint: String,
    },
    /// A schedule parameter other than β has no meaning.
    #[error("schedule.{name} is {value}; it must be {expected}")]
    Parameter {
        /// The key.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// One β of a table lies outside (0, 1).
    #[error("beta[{t}] is {beta}; every β must lie between 0 and 1 (the last one may be 1)")]
    Beta {
        /// Its step.
        t: usize,
        /// Its value.
        beta: f64,
    },
    /// ᾱ stops falling, because f64 cannot hold 1 - β or ᾱ.
    #[error(
        "alpha_bar[{t}] is {alpha_bar:e} and does not fall within what f64 holds; use fewer steps, or betas that are less extreme"
    )]
    Degenerate {
        /// The first such step.
        t: usize,
        /// ᾱ there.
        alpha_bar: f64,
    },
    /// The list of β and the kind of the schedule contradict each other.
    #[error("{problem}")]
    Betas {
        /// The contradiction and how to end it.
        problem: String,
    },
    /// A choice of sampling steps is impossible.
    #[error("{problem}")]
    Timesteps {
        /// What is wrong and what to choose.
        problem: String,
    },
    /// An objective that the schedule makes meaningless.
    #[error(
        "predicting eps cannot work with zero terminal SNR, because the last step holds no signal to recover x0 from; set objective.prediction to \"v\" or \"x0\""
    )]
    EpsAtZeroSnr,
    /// A spacing that skips the last step of a schedule that needs it.
    #[error(
        "zero terminal SNR needs sampling to start at the last step, {last}, but {spacing} spacing starts at {first}; set spacing to \"trailing\" or \"linspace\""
    )]
    SpacingAtZeroSnr {
        /// The spacing asked for.
        spacing: &'static str,
        /// Where it starts.
        first: usize,
        /// The last step of the schedule.
        last: usize,
    },
    /// A section that the chosen process does not read.
    #[error("[{section}] has settings, but {why}")]
    Unused {
        /// The section.
        section: &'static str,
        /// Whose it is, and what to do.
        why: &'static str,
    },
    /// A parameter of a sampling step or a loss weight has no meaning.
    #[error("{name} is {value}; it must be {expected}")]
    Coefficient {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
}
