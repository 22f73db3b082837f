//! Model directories of the Python library diffusers.
//!
//! The only place where its words (`alphas_cumprod`, `timestep_spacing`, …) are spoken.

mod model_dir;
mod names;
mod scheduler;

pub use self::model_dir::{DiffusersModel, write_pipeline};
pub use self::scheduler::{DynamicThresholding, SchedulerSettings};
