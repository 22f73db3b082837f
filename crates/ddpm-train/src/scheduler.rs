//! A run's process and sampler as a scheduler of diffusers.

use std::path::Path;

use ddpm_store::diffusers::{NetworkSettings, Written};
use ddpm_unet::ModelConfig;
use serde_json::Value;

use crate::config::Config;
use crate::error::TrainError;

/// The scheduler that samples as `[sample]` does, or one that says the process alone.
///
/// # Errors   [`TrainError::Store`] with what diffusers has no scheduler for, and those of [`Config::validate`]
fn of(config: &Config) -> Result<Written, TrainError> {
    let network = NetworkSettings {
        process: config.process,
        schedule: config.schedule.clone(),
        meaning: config.meaning()?,
    };
    let path = Path::new("scheduler_config.json");
    Ok(Written::of(path, &network, &config.sample)?)
}

/// The `scheduler_config.json` of a run's checkpoints; none for networks and processes that diffusers does not have.
pub(crate) fn json(config: &Config) -> Option<Value> {
    if let ModelConfig::Plain(_) = config.model {
        return None;
    }
    let written = of(config).ok()?;
    Some(Value::Object(written.scheduler.to_json()))
}

/// Says once what diffusers will not do alike with the checkpoints of a run.
pub(crate) fn tell(config: &Config) {
    if let ModelConfig::Plain(_) = config.model {
        return;
    }
    match of(config).map(|written| written.difference) {
        Ok(None) => {}
        Ok(Some(difference)) => {
            tracing::info!("{difference}; the scheduler of the checkpoints says the process alone");
        }
        Err(error) => tracing::info!("the checkpoints have no scheduler for diffusers: {error}"),
    }
}
