//! Model directories of the Python library diffusers.
//!
//! The only place where its words (`alphas_cumprod`, `timestep_spacing`, …) are spoken.

mod hub;
mod index;
mod keys;
mod model_dir;
mod names;
mod scheduler;
mod weights;

pub(crate) use self::model_dir::pipeline;
pub use self::model_dir::{DiffusersModel, write_pipeline};
pub use self::scheduler::{
    Call, Choice, NETWORK_STEPS, NetworkSettings, Scheduler, Written, beta_schedule,
};
