//! Model directories of the Python library diffusers.
//!
//! The only place where its words (`alphas_cumprod`, `timestep_spacing`, …) are spoken.

mod class;
mod hub;
mod index;
mod keys;
mod model_dir;
mod names;
mod scheduler;
mod weights;

pub use self::class::SchedulerClass;
pub use self::model_dir::{DiffusersModel, write_pipeline};
pub use self::scheduler::SchedulerSettings;
