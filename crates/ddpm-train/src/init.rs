//! Runs that begin with the weights of another model.

use std::path::PathBuf;

use burn::tensor::Device;
use ddpm_model::{ModelError, OpenedModel};
use ddpm_store::checkpoint::Weights;
use ddpm_unet::params::{self, Fit};
use ddpm_unet::{Model, UnetError};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// The `[init]` section of a configuration. The optimiser starts afresh, and the EMA weights start as these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitConfig {
    /// A run, a checkpoint or a diffusers directory. What fits by name and shape is taken.
    pub model: PathBuf,
    /// Which of its weights; without it, the EMA weights of a run or checkpoint, and `unet/` of a diffusers directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<InitWeights>,
}

/// Which weights of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitWeights {
    /// The moving average.
    Ema,
    /// Those that were trained.
    Raw,
}

/// Names in a message.
const SHOWN: usize = 10;

impl InitConfig {
    /// The model.
    ///
    /// # Errors   those of [`OpenedModel::open`]
    pub fn open(&self, device: &Device) -> Result<OpenedModel, TrainError> {
        let weights = self.weights.map(|weights| match weights {
            InitWeights::Ema => Weights::Ema,
            InitWeights::Raw => Weights::Raw,
        });
        Ok(OpenedModel::open(&self.model, weights, device)?)
    }

    /// `model` with the weights of `opened` that fit it.
    ///
    /// # Errors   [`TrainError::Saved`] naming the model if nothing fits
    pub fn take(&self, opened: &OpenedModel, model: Model) -> Result<(Model, Fit), TrainError> {
        params::load_fitting(model, &opened.model).map_err(|error| {
            let problem = match error {
                UnetError::Parameters { missing, unused } => format!(
                    "none of its {} tensors fits the network by name and shape ({}; there {}); leave [model] out for \
                     a network like that one, or name another model",
                    params::shapes(&opened.model).len(),
                    list(&missing),
                    list(&unused),
                ),
                other => other.to_string(),
            };
            ModelError::Format {
                path: opened.path.clone(),
                problem,
            }
            .into()
        })
    }

    /// As [`InitConfig::take`], from the files, and says what was taken.
    ///
    /// # Errors   those of both
    pub(crate) fn begin(&self, model: Model, device: &Device) -> Result<Model, TrainError> {
        let opened = self.open(&device.clone().inner())?;
        let (model, fit) = self.take(&opened, model)?;
        let all = fit.fitting.len() + fit.missing.len() + fit.reshaped.len();
        let said = format!(
            "beginning with the weights of {}: {} of {all} tensors",
            opened.path.display(),
            fit.fitting.len()
        );
        let rest = [
            ("of another shape there", &fit.reshaped),
            ("not there", &fit.missing),
            ("only there", &fit.unused),
        ];
        let rest: Vec<String> = rest
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {}", list(names)))
            .collect();
        match rest.is_empty() {
            true => tracing::info!("{said}"),
            false => tracing::warn!("{said}; {}", rest.join("; ")),
        }
        Ok(model)
    }
}

/// The first names and the count of the others.
fn list(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_names_and_a_count_are_said() {
        let names = |count: usize| -> Vec<String> { (0..count).map(|i| i.to_string()).collect() };
        assert_eq!(list(&names(2)), "`0`, `1`");
        assert!(list(&names(10)).ends_with("`8`, `9`"));
        assert!(list(&names(13)).ends_with("`8`, `9` and 3 more"));
    }
}
