//! An imported network as a run: `config.toml` and one checkpoint.

use std::path::{Path, PathBuf};

use ddpm_store::diffusers::{NetworkSettings, Written};
use ddpm_store::{Checkpoint, RunDir, checkpoint};
use serde_json::{Value, json};
use toml::Table;

use super::{Imported, Network};
use crate::error::ModelError;

/// The section of `config.toml` and the key of `state.json` that tell a run that was imported from one that was trained.
const IMPORTED: &str = "imported";

impl Imported {
    /// Writes the run, in a directory that is new or empty, and returns its checkpoint. It has no state of training, so
    /// it can be sampled from and not be resumed.
    ///
    /// # Errors   [`ModelError::Store`] if something is there already or the disk refuses
    pub fn write(self, run: &Path) -> Result<PathBuf, ModelError> {
        let config = self.toml()?;
        let checkpoint = self.into_checkpoint()?;
        let writer = RunDir::create(run)?;
        let path = checkpoint::save(&writer, &checkpoint)?;
        // Last, for it makes the directory a run.
        writer.write_config(&config)?;
        Ok(path)
    }

    fn origin(&self) -> Value {
        json!({
            "from": std::path::absolute(&self.source).unwrap_or_else(|_| self.source.clone()).to_string_lossy(),
            "program": self.program,
        })
    }

    fn toml(&self) -> Result<String, ModelError> {
        let failed = |error: String| ModelError::Format {
            path: self.source.clone(),
            problem: format!("its settings have no TOML form: {error}"),
        };
        let mut table =
            Table::try_from(&self.sections).map_err(|error| failed(error.to_string()))?;
        let origin =
            toml::Value::try_from(self.origin()).map_err(|error| failed(error.to_string()))?;
        table.insert(IMPORTED.into(), origin);
        toml::to_string(&table).map_err(|error| failed(error.to_string()))
    }

    fn into_checkpoint(self) -> Result<Checkpoint, ModelError> {
        let [height, width] = self.size;
        let mut origin = self.origin();
        origin["settings"] = json!(self.settings);
        let scheduler = self.scheduler()?;
        let Network {
            config,
            weights,
            ema,
            channels,
            step,
        } = self.network;
        let mut state = json!({
            "config": self.sections, "channels": channels, "height": height, "width": width,
        });
        state[IMPORTED] = origin;
        Ok(Checkpoint {
            step: step.unwrap_or(0),
            images_seen: 0,
            // Of no configuration of training.
            config_hash: IMPORTED.to_owned(),
            metrics_bytes: 0,
            weights,
            ema,
            optimiser: Vec::new(),
            state,
            config: Value::Object(config),
            scheduler,
        })
    }

    /// diffusers' scheduler, for a network and a process that it has.
    fn scheduler(&self) -> Result<Option<Value>, ModelError> {
        if self.network.config.get("_class_name") != Some(&json!("UNet2DModel")) {
            return Ok(None);
        }
        let network = NetworkSettings {
            process: self.sections.process,
            schedule: self.sections.schedule.clone(),
            meaning: self.sections.meaning()?,
        };
        let path = Path::new("scheduler_config.json");
        let written = Written::of(path, &network, &self.sections.sample).ok();
        Ok(written.map(|written| Value::Object(written.scheduler.to_json())))
    }
}
