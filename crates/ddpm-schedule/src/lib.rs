//! Noise schedules, time steps, conversions and counter-based noise of diffusion models, in f64.
//!
//! Nothing here knows tensors or files: every function maps numbers to numbers, so the
//! whole crate can be checked against the papers. Tensors meet these figures once, cast
//! to f32, in the crates above.
//!
//! - [`schedule`]: β and ᾱ of a noise schedule, and its configuration
//! - [`mod@timesteps`]: which steps a sampler visits, and respacing to them
//! - [`ending`]: what is left of an image at the last step
//! - [`posterior`]: mean coefficients and variances of q(x_{t-1} | x_t, x0)
//! - [`prediction`]: conversions among ε, x0 and v
//! - [`weighting`]: loss weights as functions of the signal-to-noise ratio
//! - [`solver`]: coefficients of one sampling step
//! - [`noise`]: random numbers as a pure function of (seed, stream, step, index)
//!
//! Steps are indices `t = 0..T`; the papers count them from 1.

pub mod ending;
pub mod error;
pub mod noise;
pub mod posterior;
pub mod prediction;
pub mod schedule;
pub mod solver;
pub mod timesteps;
pub mod weighting;

pub use ending::Ending;
pub use error::ScheduleError;
pub use posterior::{Posterior, VarianceKind};
pub use prediction::{Prediction, check_objective};
pub use schedule::{Schedule, ScheduleConfig, ScheduleKind};
pub use timesteps::{Respaced, RespacedStep, Spacing, timesteps};
pub use weighting::Weighting;
