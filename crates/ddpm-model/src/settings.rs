//! What a checkpoint says of its network, as far as sampling needs it.

use std::path::Path;

use ddpm_diffusion::{ColumnScale, ConditionConfig, Meaning, ObjectiveConfig, SampleConfig};
use ddpm_schedule::{Process, ProcessConfig, ScheduleConfig, named};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ModelError;

/// `state.json` of a checkpoint; other keys are those of training.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SavedSettings {
    /// The sections of the run's configuration that are about sampling.
    pub config: Sections,
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// What must be said of the EMA weights before they are used, if anything.
    #[serde(default)]
    pub ema_warning: Option<String>,
    /// The names of the classes in the order of their numbers.
    #[serde(default)]
    pub class_names: Option<Vec<String>>,
    /// How the columns of `condition.columns` are told, in their order.
    #[serde(default)]
    pub columns: Vec<ColumnScale>,
    /// What it was imported from, if it was not trained here.
    #[serde(default)]
    pub imported: Option<ImportedFrom>,
}

/// Where an imported network comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ImportedFrom {
    /// The path of the file or directory.
    pub from: String,
    /// The program that wrote it.
    pub program: String,
}

/// Sections of a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sections {
    /// Seed of every random number of the run.
    #[serde(with = "crate::seed")]
    pub seed: u64,
    /// The diffusion process.
    #[serde(deserialize_with = "named::deserialize", default)]
    pub process: ProcessConfig,
    /// The noise schedule: the table of the process `discrete`.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// What the network predicts.
    #[serde(default)]
    pub objective: ObjectiveConfig,
    /// What the network is told of an image.
    #[serde(default)]
    pub condition: ConditionConfig,
    /// How samples are drawn.
    #[serde(default)]
    pub sample: SampleConfig,
}

impl SavedSettings {
    /// # Errors   [`ModelError::Format`] if the JSON of `path` is of another form
    pub fn read(path: &Path, state: Value) -> Result<Self, ModelError> {
        serde_json::from_value(state).map_err(|error| ModelError::Format {
            path: path.join("state.json"),
            problem: format!("not a training state of this program: {error}"),
        })
    }
}

impl Sections {
    /// The diffusion process.
    ///
    /// # Errors   [`ModelError::Schedule`] naming the key
    pub fn process(&self) -> Result<Process, ModelError> {
        let section = match self.process {
            ProcessConfig::Discrete {} => "[schedule]",
            _ => "[process]",
        };
        let built = self.process.build(&self.schedule);
        built.map_err(|source| ModelError::Schedule { section, source })
    }

    /// What the network's output means.
    ///
    /// # Errors   as [`Sections::process`]; [`ModelError::Diffusion`]
    pub fn meaning(&self) -> Result<Meaning, ModelError> {
        Ok(self.objective.build(&self.process()?)?.meaning())
    }
}
