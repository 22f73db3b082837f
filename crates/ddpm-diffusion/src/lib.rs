//! The diffusion engine: forward process, objectives and samplers over any denoiser.
//!
//! - [`Denoiser`]: the one thing the engine asks of a network
//! - [`q_sample`]: the forward process, which noises images
//! - [`Objective`]: what the network is trained to output, and the loss
//! - [`SampleConfig`] → [`Plan`] → [`sample`]: the reverse process
//! - [`randn_images`]: noise made on the host, the same bits on every device
//!
//! The engine knows no network, no file and no data set. Every figure comes from
//! `ddpm_schedule` in f64 and is cast once, when it meets a tensor. Layout is NCHW, pixels
//! lie in [-1, 1], and time steps are indices `0..T`.

mod config;
mod denoiser;
mod error;
mod forward;
mod noise;
mod objective;
mod rows;
pub mod sampler;

pub use config::{DdimRules, SampleConfig, SamplerKind};
pub use denoiser::{Denoiser, DenoiserError};
pub use error::DiffusionError;
pub use forward::q_sample;
pub use noise::randn_images;
pub use objective::{Goal, LossOut, Objective, ObjectiveConfig};
pub use sampler::{ImageBatch, Plan, Progress, Sampler, sample, sample_from};

#[cfg(test)]
mod test_support;
