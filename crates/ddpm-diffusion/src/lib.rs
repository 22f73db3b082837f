//! The diffusion engine: forward process, objectives, denoisers and samplers over any network.
//!
//! - [`Network`]: the one thing the engine asks of a network, its raw output
//! - [`Denoiser`]: what samplers ask, x̂0; [`NetworkDenoiser`], [`clip`] and [`threshold`] are denoisers
//! - [`q_sample`]: the forward process, which noises images
//! - [`Objective`]: what the network is trained to output, and the loss
//! - [`sampler`]: one file a sampler; [`Walk`]: what a sampler's steps may ask
//! - [`SampleConfig`] → [`Plan`] → [`sample()`]: the reverse process
//! - [`editing`]: one file a way to change images: painting in, variations, inversion, larger canvases
//! - [`Likelihood`]: bits per dimension, term by term
//! - [`randn_images`]: noise made on the host, the same bits on every device
//!
//! The engine knows no network, no file and no data set. Every figure comes from
//! `ddpm_schedule` in f64 and is cast once, when it meets a tensor. Layout is NCHW, pixels
//! lie in [-1, 1].
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use burn::tensor::{Device, Tensor};
//! use ddpm_diffusion::{
//!     Condition, Meaning, Network, NetworkError, SampleBatch, SampleConfig, sample,
//! };
//! use ddpm_schedule::{Process, ScheduleConfig};
//!
//! /// Takes all that it sees for noise.
//! struct AllNoise;
//!
//! impl Network for AllNoise {
//!     fn forward(&self, x: Tensor<4>, _: Tensor<1>, _: &Condition) -> Result<Tensor<4>, NetworkError> {
//!         Ok(x)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let process = Process::Discrete(ScheduleConfig::default().build()?);
//! let config = SampleConfig {
//!     steps: Some(10),
//!     ..SampleConfig::default()
//! };
//! let plan = config.plan(&process, Meaning::from(process.usual_prediction()))?;
//! let batch = SampleBatch {
//!     shape: [2, 1, 8, 8],
//!     seed: 0,
//!     first_index: 0,
//!     condition: Condition::default(),
//!     guide: Default::default(),
//!     device: Device::flex(),
//! };
//! let images = sample(&AllNoise, &plan, batch, &mut |_| ControlFlow::Continue(()))?;
//! assert_eq!(images.dims(), [2, 1, 8, 8]);
//! # Ok(())
//! # }
//! ```

mod bound;
pub mod clip;
pub mod condition;
mod config;
mod denoiser;
pub mod editing;
mod error;
mod finite;
mod forward;
mod guidance;
mod likelihood;
mod network;
mod noise;
mod objective;
mod plan;
mod progress;
mod rows;
mod sample;
pub mod sampler;
mod self_condition;
pub mod threshold;
mod walk;

pub use bound::BoundRows;
pub use condition::{ColumnScale, Condition, ConditionConfig, PictureKind};
pub use config::{SampleConfig, ThresholdConfig};
pub use denoiser::{Denoiser, Estimate, LearnedVariance, Output};
pub use error::DiffusionError;
pub use forward::q_sample;
pub use guidance::{GuidanceConfig, Guide, Guided, Interval};
pub use likelihood::{BitsPerDim, Likelihood};
pub use network::{Network, NetworkDenoiser, NetworkError};
pub use noise::{noise_of, randn_images};
pub use objective::{
    Bound, BoundRules, BoundTarget, ErrorKind, ImportanceConfig, Learned, LossOut, Objective,
    ObjectiveConfig, Target, UncertaintyConfig, Variance,
};
pub use plan::{Hold, Meaning, Plan, VarianceOutput};
pub use progress::Progress;
pub use sample::{Observer, SampleBatch, sample, sample_by, sample_from, walk};
pub use sampler::{About, Evaluations, Method, Sampler, Step};
pub use self_condition::SelfConditioned;
pub use walk::{NoiseAt, Walk};

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
