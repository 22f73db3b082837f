//! Model directories of the Python library diffusers.
//!
//! The only place where its words (`alphas_cumprod`, `timestep_spacing`, …) are spoken.

mod hub;
mod index;
mod keys;
mod model_dir;
mod names;
mod pipeline;
mod scheduler;
mod weights;

pub use self::model_dir::DiffusersModel;
pub(crate) use self::pipeline::index as pipeline_index;
pub use self::pipeline::{export_pipeline, write_pipeline};
pub use self::scheduler::{
    Call, Choice, NETWORK_STEPS, NetworkSettings, Scheduler, Written, beta_schedule,
};
