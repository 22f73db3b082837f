//! The training loop: step, optimiser, learning rate, EMA, events and stop.
//!
//! This crate prints nothing and picks no device: it tells an observer what happens, and is told
//! where to compute and when to stop. All it writes goes through `ddpm-store`. A run is a function
//! of its configuration and its data set: no random number depends on the history of the process.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ddpm_train::{Config, MicroBatch, StepConfig, TrainState};
//! use ddpm_unet::{ModelConfig, ModelShape, UnetSection};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = ModelConfig::Unet(UnetSection {
//!     channels: 8,
//!     multipliers: vec![1, 2],
//!     blocks: 1,
//!     groups: 4,
//!     ..UnetSection::default()
//! });
//! let validated = Config::default().validate()?;
//! let config = StepConfig::from(&validated);
//! let shape = ModelShape {
//!     channels: 1,
//!     height: 8,
//!     width: 8,
//!     learned_variance: false,
//!     self_condition: false,
//!     steps: 1000,
//!     condition: Default::default(),
//! };
//! let device = Device::flex().autodiff();
//! let mut state = TrainState::new(model.build(shape, 0, &device)?);
//! for step in 0..2 {
//!     let images = Tensor::zeros([4, 1, 8, 8], &device);
//!     let report;
//!     (state, report) = state.step(vec![MicroBatch::draw(images, step, 0, &config)], &config)?;
//!     assert!(report.loss.is_finite());
//! }
//! assert_eq!(state.images_seen, 8);
//! # Ok(())
//! # }
//! ```

mod autotune_cache;
mod collective;
mod config;
mod ema;
mod error;
mod evaluate;
mod events;
pub mod faults;
mod forward_backward;
mod graph;
mod guard;
mod identity;
mod init;
mod intervals;
mod r#loop;
mod loss_scale;
mod lr;
mod memory;
mod metric_averager;
mod micro_batch;
mod model_shape;
mod numbers;
mod optim;
mod pending;
mod pipeline;
mod position;
mod prefetch;
mod probe;
mod promise;
mod ranks;
mod recovery;
mod run_output;
mod samples;
mod scheduler;
mod snapshot;
mod speed;
mod step;
mod stop;
#[cfg(test)]
mod testing;
mod told;
mod train_network;
mod trainer;

pub use autotune_cache::load as load_autotune_cache;
pub use collective::gradients::{Reduction, time_of_sum};
#[cfg(feature = "mpi")]
pub use collective::mpi;
pub use collective::{Collective, first_failure, on_first};
pub use config::{Config, TrainConfig, Validated};
pub use ema::{EmaConfig, Law, SigmaRels, Synthesis, posthoc, power};
pub use error::{Fault, TrainError};
pub use evaluate::{Evaluate, Evaluated};
pub use events::Event;
pub use guard::{Cause, GuardConfig, SpikePolicy};
pub use identity::{Change, differences, identity_hash};
pub use init::{InitConfig, InitWeights};
pub use intervals::{checkpoints_on_disk, times};
pub use lr::{Decay, learning_rate};
pub use memory::{MemoryEstimate, checkpoint_bytes, least_bytes, sampling_bytes, snapshots_bytes};
pub use micro_batch::MicroBatch;
pub use model_shape::{condition_shape, model_shape};
pub use optim::{OptimConfig, OptimKind};
pub use pending::PendingStep;
pub use pipeline::PIPELINE_DEPTH;
pub use probe::{Probe, probe};
pub use promise::{Bound, PromiseConfig};
pub use ranks::check_ranks;
pub use step::{StepConfig, StepReport, TrainState};
pub use stop::Stop;
pub use train_network::{TrainNetwork, Trained};
pub use trainer::{Job, Outcome, Start, Workers, train};
