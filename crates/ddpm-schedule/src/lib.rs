//! Noise levels, diffusion processes, conversions and counter-based noise of diffusion models, in f64.
//!
//! Nothing here knows tensors or files: every function maps numbers to numbers, so the
//! whole crate can be checked against the papers. Tensors meet these figures once, cast
//! to f32, in the crates above.
//!
//! - [`level`]: x = signal·x0 + noise·ε, the one notion of how noisy an image is
//! - [`process`]: which levels there are, how training draws them, what a network is told of them
//! - [`schedule`]: β and ᾱ of a table, and its configuration
//! - [`prediction`]: what a network predicts, as coefficients of a level
//! - [`weighting`]: loss weights as functions of the signal-to-noise ratio
//! - [`importance`]: steps drawn by their losses
//! - [`spacing`], [`grid`]: which levels a sampler visits
//! - [`posterior`]: mean coefficients and variances of q(x' | x, x0)
//! - [`solver`]: coefficients of one sampling step
//! - [`ending`]: what is left of an image at the last step of a table
//! - [`noise`]: random numbers as a pure function of (seed, stream, step, index)
//! - [`named`]: choices in a file by their name alone or with options
//!
//! Steps of a table are indices `t = 0..T`; the papers count them from 1.
//!
//! ```
//! use ddpm_schedule::{Process, ScheduleConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let table = ScheduleConfig::default().build()?;
//! let process = Process::Discrete(table);
//! // A time between two steps is a level like any other.
//! let level = process.level(499.5);
//! assert!((level.signal.powi(2) + level.noise.powi(2) - 1.0).abs() < 1e-12);
//! assert!(process.level(100.0).snr() > level.snr());
//! # Ok(())
//! # }
//! ```

pub mod ending;
pub mod error;
pub mod grid;
pub mod importance;
pub mod level;
pub mod named;
pub mod noise;
pub mod posterior;
pub mod prediction;
pub mod process;
pub mod schedule;
pub mod solver;
pub mod spacing;
pub mod weighting;

pub use ending::Ending;
pub use error::ScheduleError;
pub use grid::{Grid, GridConfig, GridRules, Leg, Stop, Told};
pub use importance::Importance;
pub use level::Level;
pub use posterior::{Posterior, VarianceKind};
pub use prediction::{Coefs, Prediction};
pub use process::{Axis, Edm, Flow, Process, ProcessConfig, TimeLaw, Vp};
pub use schedule::{Schedule, ScheduleConfig, ScheduleKind};
pub use spacing::Spacing;
pub use weighting::Weighting;
