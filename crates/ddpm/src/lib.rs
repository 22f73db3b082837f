//! Denoising diffusion models as a library: train, sample and judge them, on burn's tensors.
//!
//! This crate adds nothing: it re-exports what a user of the library needs. [`Model`] opens what was trained and draws from
//! it; [`train()`] runs a whole run from a [`Config`]; [`TrainState`] is one optimiser step after the other over any network
//! that is a [`TrainNetwork`]. Below them, each module is one layer: [`schedule`] the maths of noise levels, [`diffusion`]
//! samplers and objectives, [`unet`] networks, [`data`] images, [`store`] files.
//!
//! ```no_run
//! use ddpm::{Choice, Model, resolve};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = resolve(Choice::Auto)?.device;
//! let mut model = Model::open("runs/digits-001".as_ref(), None, &device)?;
//! let images = model.sample(16, 0)?;
//! images.grid(Default::default())?.save_png("digits.png".as_ref())?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` has a training run in 40 lines, a diffusers directory, a sampler and a network of one's own, and a
//! two-dimensional toy.

pub use burn;
pub use ddpm_data as data;
pub use ddpm_diffusion as diffusion;
pub use ddpm_schedule as schedule;
pub use ddpm_store as store;
pub use ddpm_unet as unet;

pub use ddpm_data::{DataConfig, Dataset};
pub use ddpm_device::{Choice, resolve};
pub use ddpm_diffusion::{
    Condition, Meaning, Network, ObjectiveConfig, Plan, SampleConfig, Sampler, sample,
};
pub use ddpm_model::{Drawing, ModelError, OpenedModel as Model, image_batch};
pub use ddpm_schedule::{Process, ProcessConfig, ScheduleConfig};
pub use ddpm_store::{GridOptions, ImageBatch, RunDir};
pub use ddpm_train::{
    Config, EmaConfig, Event, Job, MicroBatch, OptimConfig, Outcome, Start, StepConfig, StepReport,
    Stop, TrainError, TrainNetwork, TrainState, Trained, Validated, Workers, train,
};
