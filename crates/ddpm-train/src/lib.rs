//! The training loop: step, optimiser, learning rate, EMA, events and stop.
//!
//! This crate prints nothing and picks no device: it tells an observer what happens, and is told
//! where to compute and when to stop. All it writes goes through `ddpm-store`. A run is a function
//! of its configuration and its data set: no random number depends on the history of the process.

mod ahead;
mod batches;
mod config;
mod denoise;
mod ema;
mod error;
mod events;
#[cfg(feature = "faults")]
pub mod faults;
mod flight;
mod guard;
mod identity;
mod loss_scale;
mod lr;
mod memory;
mod open;
mod optim;
mod parallel;
mod passes;
mod position;
mod probe;
mod recorder;
mod recovery;
mod rhythm;
mod scheduler;
mod seed;
mod snapshot;
mod speed;
mod state;
mod stop;
#[cfg(test)]
mod testing;
mod trainer;
mod tuned;
mod underway;
mod window;

pub use config::{Config, TrainConfig, Validated};
pub use denoise::SamplingNetwork;
pub use ema::{EmaConfig, Law, SigmaRels, Synthesis, posthoc, power};
pub use error::TrainError;
pub use events::Event;
pub use flight::AHEAD;
pub use guard::{Cause, Guard, GuardConfig, SpikePolicy, Verdict};
pub use identity::{Change, differences, identity_hash};
pub use loss_scale::LossScale;
pub use lr::{Decay, learning_rate};
pub use memory::{MemoryEstimate, checkpoint_bytes, least_bytes, sampling_bytes, snapshots_bytes};
pub use open::OpenedModel;
pub use optim::{OptimConfig, OptimKind, ParamGrads, Slot, Update, ema_network, new_slots, update};
pub use parallel::check_devices;
pub use probe::{Probe, probe};
pub use rhythm::{checkpoints_on_disk, times};
pub use snapshot::{Progress, SavedState};
pub use state::{Computed, Part, Recipe, StepReport, TrainState};
pub use stop::Stop;
pub use trainer::{Job, Outcome, Start, image_batch, model_shape, train};
pub use tuned::recall as recall_tuning;
pub use underway::Unseen;
pub use window::{MetricLine, Window};
