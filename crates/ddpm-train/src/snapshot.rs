//! A training state as a checkpoint, and back.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_diffusion::{ColumnScale, Learned};
use ddpm_model::load_weights;
use ddpm_store::{Checkpoint, NamedTensor};
use ddpm_unet::{Model, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::ema::{self, Tracked};
use crate::error::TrainError;
use crate::guard::Guard;
use crate::identity::{differences, identity_hash};
use crate::loss_scale::LossScale;
use crate::metric_averager::MetricAverager;
use crate::optim::{self, ParamState};
use crate::scheduler;
use crate::step::TrainState;

/// What a checkpoint keeps besides tensors, so that it can be understood without its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedState {
    /// The run's resolved configuration.
    pub config: Config,
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// [`ddpm_data::Dataset::fingerprint`] of the images.
    #[serde(default)]
    pub data: Option<String>,
    /// What must be said of the EMA weights before they are used, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_warning: Option<String>,
    /// The names of the classes that the network is told, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// How the columns of `condition.columns` are told, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnScale>,
    /// What else is needed to go on exactly.
    #[serde(default)]
    pub progress: Progress,
}

/// The small state of a run besides its tensors and its step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Updates made; without it as many as steps.
    pub updates: Option<u64>,
    /// Length of the log of skipped updates.
    pub skips_bytes: u64,
    /// What the guard remembers.
    pub guard: Guard,
    /// The steps since the last line of the metric log.
    pub window: MetricAverager,
    /// What the loss is scaled by, in half precision.
    #[serde(default)]
    pub loss_scale: LossScale,
    /// What the objective has learned of noise levels.
    #[serde(default, skip_serializing_if = "Learned::is_nothing")]
    pub learned: Learned,
}

impl SavedState {
    /// Updates made at a step: fewer than steps where some were skipped.
    pub fn updates_at(&self, step: u64) -> u64 {
        self.progress.updates.unwrap_or(step)
    }

    /// # Errors   [`TrainError::Format`] if the JSON of `path` is of another form
    pub fn read(path: &Path, state: Value) -> Result<Self, TrainError> {
        if let Some(from) = state
            .get("imported")
            .and_then(|imported| imported.get("from"))
        {
            return Err(TrainError::Format {
                path: path.to_owned(),
                problem: format!(
                    "imported from {from}, without a state of training; start a run from it with --init"
                ),
            });
        }
        serde_json::from_value(state).map_err(|error| TrainError::Format {
            path: path.join("state.json"),
            problem: format!("not a training state of this program: {error}"),
        })
    }
}

const EXP_AVG: &str = "exp_avg";
const EXP_AVG_SQ: &str = "exp_avg_sq";
const EMA: &str = "ema";
const POWER_FUNCTION: &str = "power_function";

/// The start of the names of a tracked average's tensors.
fn prefix(sigma_rel: f64) -> String {
    format!("{POWER_FUNCTION}/{sigma_rel}")
}

/// The whole state of a run at this moment.
///
/// # Errors   [`TrainError::Device`] if tensors cannot be read back
pub fn save(
    state: &TrainState,
    saved: &SavedState,
    metrics_bytes: u64,
) -> Result<Checkpoint, TrainError> {
    let weights = params::export(&state.model)
        .into_iter()
        .map(|(name, data)| named(name, data))
        .collect::<Result<_, _>>()?;
    let mut ema = Vec::new();
    let mut optimiser = Vec::new();
    for param in &state.params {
        ema.push(flat(&param.name, param, &param.ema)?);
        let name = |kind| format!("{kind}/{}", param.name);
        optimiser.push(flat(&name(EXP_AVG), param, &param.exp_avg)?);
        optimiser.push(flat(&name(EXP_AVG_SQ), param, &param.exp_avg_sq)?);
    }
    for average in &state.tracked {
        let prefix = prefix(average.sigma_rel);
        for mut tensor in tracked(state, average)? {
            tensor.name = format!("{prefix}/{}", tensor.name);
            optimiser.push(tensor);
        }
    }
    let scheduler = scheduler::json(&saved.config);
    let saved = SavedState {
        ema_warning: saved.config.ema_warning(state.updates),
        ..saved.clone()
    };
    let saved = serde_json::to_value(saved).map_err(|error| TrainError::Device {
        message: format!("the configuration has no JSON form: {error}"),
    })?;
    Ok(Checkpoint {
        step: state.step,
        images_seen: state.images_seen,
        config_hash: identity_hash(&saved[CONFIG]),
        metrics_bytes,
        weights,
        ema,
        optimiser,
        state: saved,
        config: Value::Object(state.model.to_json()),
        scheduler,
    })
}

/// A tracked average by the names of the parameters.
///
/// # Errors   [`TrainError::Device`] if it cannot be read back
pub(crate) fn tracked(
    state: &TrainState,
    average: &Tracked,
) -> Result<Vec<NamedTensor>, TrainError> {
    let pairs = state.params.iter().zip(&average.values);
    pairs
        .map(|(param, values)| flat(&param.name, param, values))
        .collect()
}

/// The name of [`SavedState::config`] in JSON.
const CONFIG: &str = "config";

/// The name of the first tensor that holds a non-finite number.
pub fn not_finite(checkpoint: &Checkpoint) -> Option<&str> {
    let Checkpoint {
        weights,
        ema,
        optimiser,
        ..
    } = checkpoint;
    let mut all = weights.iter().chain(ema).chain(optimiser);
    // Summing the magnitudes' bits would be no faster: this is one pass over what is about to be written to disk.
    all.find(|tensor| tensor.data.iter().any(|number| !number.is_finite()))
        .map(|tensor| tensor.name.as_str())
}

/// What a checkpoint says of itself, checked against the run that is to go on from it.
///
/// # Errors   [`TrainError::Identity`] if it is of another configuration, [`TrainError::AnotherSet`] if it was
/// trained on other images, [`TrainError::Format`] if it contradicts itself
pub fn check(
    path: &Path,
    checkpoint: &Checkpoint,
    config: &Config,
    data: &str,
    describe: impl FnOnce() -> String,
) -> Result<SavedState, TrainError> {
    let saved = SavedState::read(path, checkpoint.state.clone())?;
    let hash = identity_hash(&checkpoint.state[CONFIG]);
    if hash != checkpoint.config_hash {
        return Err(TrainError::Format {
            path: path.to_owned(),
            problem: format!(
                "manifest.json is of another configuration ({}) than state.json ({hash}); the two do not belong \
                 together, resume from another checkpoint with --from",
                checkpoint.config_hash
            ),
        });
    }
    let changes: Vec<String> = differences(&saved.config, config)
        .iter()
        .filter(|change| change.identity)
        .map(ToString::to_string)
        .collect();
    if !changes.is_empty() {
        return Err(TrainError::Identity {
            path: path.to_owned(),
            changes: changes.join(", "),
        });
    }
    if saved.data.as_deref().is_some_and(|then| then != data) {
        return Err(TrainError::AnotherSet {
            path: path.to_owned(),
            data: describe(),
        });
    }
    Ok(saved)
}

/// The state that a checkpoint holds; `model` is the network of the same configuration, and averages of `sigma_rels` are
/// tracked besides.
///
/// # Errors   [`TrainError::Model`] if the weights are another network's, [`TrainError::Format`] if
/// moments or averages are missing, [`TrainError::Config`] if an average was not tracked so far
pub fn restore(
    path: &Path,
    checkpoint: Checkpoint,
    updates: u64,
    sigma_rels: &[f64],
    model: Model,
    device: &Device,
) -> Result<TrainState, TrainError> {
    let model = load_weights(path, model, checkpoint.weights)?;
    let prefixed = |tensor: NamedTensor| (format!("{EMA}/{}", tensor.name), tensor.data);
    let mut values: HashMap<String, Vec<f32>> = checkpoint.ema.into_iter().map(prefixed).collect();
    let moments = checkpoint.optimiser.into_iter();
    values.extend(moments.map(|tensor| (tensor.name, tensor.data)));
    let missing = |missing: String| TrainError::Format {
        path: path.to_owned(),
        problem: format!(
            "`{missing}` is missing or of another size; the checkpoint is not this network's"
        ),
    };
    let tracked = match updates {
        // They begin with the weights.
        0 => ema::track(&model, sigma_rels),
        _ => restore_tracked(path, &mut values, sigma_rels, &model, device)?.map_err(missing)?,
    };
    let params = optim::restore_params(&model, device, |kind, name| {
        values.remove(&format!("{kind}/{name}"))
    })
    .map_err(missing)?;
    Ok(TrainState {
        model,
        params,
        tracked,
        step: checkpoint.step,
        images_seen: checkpoint.images_seen,
        updates,
        loss_scale: LossScale::default(),
        learned: Learned::default(),
        graph: Default::default(),
    })
}

/// The averages of these σ_rel, or the name of a tensor that is missing.
fn restore_tracked(
    path: &Path,
    values: &mut HashMap<String, Vec<f32>>,
    sigma_rels: &[f64],
    model: &Model,
    device: &Device,
) -> Result<Result<Vec<Tracked>, String>, TrainError> {
    let has = |sigma_rel: &f64| {
        let start = format!("{}/", prefix(*sigma_rel));
        values.keys().any(|name| name.starts_with(&start))
    };
    if let Some(new) = sigma_rels.iter().find(|sigma_rel| !has(sigma_rel)) {
        return Err(TrainError::Config {
            key: "ema.power_function",
            got: format!("{sigma_rels:?}"),
            expected: format!(
                "{} does not hold the average of {new}, and none can begin in the middle of a run; take it out, or \
                 start a new run without --resume",
                path.display()
            ),
        });
    }
    let shapes = params::shapes(model);
    let device = device.clone().inner();
    let mut tensor = |sigma_rel: f64, name: &str, shape: &[usize]| {
        let name = format!("{}/{name}", prefix(sigma_rel));
        let count: usize = shape.iter().product();
        match values.remove(&name) {
            Some(data) if data.len() == count => {
                Ok(Tensor::from_data(TensorData::new(data, [count]), &device))
            }
            _ => Err(name),
        }
    };
    let average = |&sigma_rel: &f64| {
        let parameters = shapes.iter();
        let values = parameters.map(|(name, shape)| tensor(sigma_rel, name, shape));
        let values = values.collect::<Result<_, _>>()?;
        Ok(Tracked { sigma_rel, values })
    };
    Ok(sigma_rels.iter().map(average).collect())
}

fn flat(name: &str, param: &ParamState, values: &Tensor<1>) -> Result<NamedTensor, TrainError> {
    let mut tensor = named(name.to_owned(), values.to_data())?;
    tensor.shape.clone_from(&param.shape);
    Ok(tensor)
}

fn named(name: String, data: TensorData) -> Result<NamedTensor, TrainError> {
    let shape = data.shape().to_vec();
    let data = data.try_into_vec().map_err(|error| TrainError::Device {
        message: format!("`{name}` cannot be read back: {error:?}"),
    })?;
    Ok(NamedTensor { name, shape, data })
}
