//! A finished network from wherever it lies: a run, a checkpoint or a diffusers directory.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_diffusion::{ColumnScale, ConditionConfig, Meaning, SampleConfig};
use ddpm_schedule::{Process, ProcessConfig, ScheduleConfig};
use ddpm_store::checkpoint::{self, Weights};
use ddpm_store::diffusers::{Choice, NETWORK_STEPS, Scheduler};
use ddpm_store::{DiffusersModel, NamedTensor, RunDir, StoreError};
use ddpm_unet::cost::parameters_of_json;
use ddpm_unet::{Model, SampleSize, UnetError, params};
use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::settings::{ImportedFrom, SavedSettings};

/// A network for sampling, with all that sampling needs to know.
#[derive(Debug)]
pub struct OpenedModel {
    /// The network, without autodiff.
    pub model: Model,
    /// Where it is.
    pub device: Device,
    /// What is to be said of these weights before they are used, if anything.
    pub warning: Option<String>,
    /// Where it came from: the checkpoint or the model directory.
    pub path: PathBuf,
    /// Optimiser steps it was trained for, where that is known.
    pub step: Option<u64>,
    /// Whether these are EMA weights, where that is known.
    pub averaged: Option<bool>,
    /// The resolved configuration of the run that trained it, where that is known.
    pub trained: Option<Value>,
    /// What it was imported from, if it was not trained here.
    pub imported: Option<ImportedFrom>,
    /// The diffusion process.
    pub process: ProcessConfig,
    /// The noise schedule of a discrete process.
    pub schedule: ScheduleConfig,
    /// What the network's output means.
    pub meaning: Meaning,
    /// What the network is told of an image.
    pub condition: ConditionConfig,
    /// The names of the classes in the order of their numbers, where there are any.
    pub class_names: Option<Vec<String>>,
    /// How the columns of `condition.columns` are told, in their order.
    pub columns: Vec<ColumnScale>,
    /// How samples are drawn by default.
    pub sample: SampleConfig,
    /// Channels of an image.
    pub channels: usize,
    /// `[height, width]` of an image, where that is known.
    pub size: Option<[usize; 2]>,
    /// The run's seed, or 0.
    pub seed: u64,
    /// Why no images can be sampled with it, where that is so; `schedule` and `sample` then say nothing.
    pub refusal: Option<StoreError>,
    /// The scheduler of a diffusers directory, whose levels depend on the number of steps.
    pub scheduler: Option<Scheduler>,
}

impl OpenedModel {
    /// Opens the newest valid checkpoint of a run, a checkpoint, or a diffusers directory. `weights` of `None` are the EMA
    /// weights of a run, and those of a diffusers directory that diffusers would take.
    ///
    /// # Errors   [`ModelError::Store`] if nothing of the kind is there or it is damaged,
    /// [`ModelError::Network`] or [`ModelError::Format`] if it holds a network that this
    /// program cannot build
    pub fn open(
        path: &Path,
        weights: Option<Weights>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let of_run = weights.unwrap_or(Weights::Ema);
        if path.join("config.toml").is_file() {
            let run = RunDir::open(path)?;
            return match checkpoint::latest_valid(&run)? {
                Some(newest) => Self::from_checkpoint(&newest, of_run, device),
                None => Err(ModelError::Format {
                    path: path.to_owned(),
                    problem: "this run has no checkpoint yet; wait for its first one".into(),
                }),
            };
        }
        // Without its manifest a checkpoint is damaged, not a model of diffusers: nothing would say its schedule.
        if ["manifest.json", "state.json"]
            .iter()
            .any(|name| path.join(name).is_file())
        {
            return Self::from_checkpoint(path, of_run, device);
        }
        Self::from_diffusers(path, weights, device)
    }

    fn from_checkpoint(path: &Path, weights: Weights, device: &Device) -> Result<Self, ModelError> {
        let found = checkpoint::load_for_sampling(path, weights)?;
        let trained = found.state.get("config").cloned();
        let saved = SavedSettings::read(path, found.state)?;
        let Value::Object(json) = found.config else {
            return Err(ModelError::Format {
                path: path.to_owned(),
                problem: "the network's config.json is not an object".into(),
            });
        };
        Ok(Self {
            model: build(path, &json, found.weights, device)?,
            warning: saved.ema_warning.filter(|_| found.averaged),
            device: device.clone(),
            path: path.to_owned(),
            // That of an import may be unknown.
            step: (saved.imported.is_none() || found.step > 0).then_some(found.step),
            imported: saved.imported,
            averaged: Some(found.averaged),
            trained,
            process: saved.config.process,
            schedule: saved.config.schedule.clone(),
            meaning: saved.config.meaning()?,
            condition: saved.config.condition.clone(),
            class_names: saved.class_names,
            columns: saved.columns,
            sample: saved.config.sample.clone(),
            channels: saved.channels,
            size: Some([saved.height, saved.width]),
            seed: saved.config.seed,
            refusal: None,
            scheduler: None,
        })
    }

    fn from_diffusers(
        path: &Path,
        weights: Option<Weights>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let found = DiffusersModel::read_weights(path, weights)?;
        let scheduler = match found.scheduler {
            Some(scheduler) => scheduler,
            None => {
                if found.refusal.is_none() {
                    tracing::warn!(
                        "{}: no scheduler_config.json; taking diffusers' defaults (linear, 1000 steps, ε)",
                        path.display()
                    );
                }
                Scheduler::from_json(path, Map::new())?
            }
        };
        let network = scheduler.network()?;
        let model = build(path, &found.config, found.tensors.tensors, device)?;
        if found.refusal.is_none()
            && let Some(known) = model.time_steps()
            && network.process == (ProcessConfig::Discrete {})
            && known < network.schedule.steps
        {
            return Err(ModelError::Format {
                path: path.to_owned(),
                problem: format!(
                    "the network knows {known} time steps and its scheduler has {}; \
                     they do not belong together",
                    network.schedule.steps
                ),
            });
        }
        let (channels, size) = match &model {
            Model::Unet(unet) => {
                let config = unet.config();
                (
                    config.in_channels,
                    config.sample_size.map(SampleSize::height_width),
                )
            }
            Model::Plain(plain) => (plain.channels(), None),
            Model::Lucidrains(network) => (network.config().in_channels, None),
            Model::Edm(edm) => {
                let side = edm.config().img_resolution;
                (edm.config().in_channels, Some([side; 2]))
            }
            Model::Edm2(edm2) => {
                let side = edm2.config().img_resolution;
                (edm2.config().in_channels, Some([side; 2]))
            }
        };
        Ok(Self {
            model,
            device: device.clone(),
            warning: None,
            path: found.unet_dir,
            step: None,
            condition: ConditionConfig::default(),
            class_names: None,
            columns: Vec::new(),
            averaged: None,
            trained: None,
            imported: None,
            // Where it is refused, `prepare` says why.
            sample: match sampling(&scheduler, None) {
                Ok(sample) => sample,
                Err(_) => scheduler.for_any_sampler()?,
            },
            process: network.process,
            schedule: network.schedule,
            meaning: network.meaning,
            channels,
            size,
            seed: 0,
            refusal: found.refusal,
            scheduler: Some(scheduler),
        })
    }

    /// Makes `sample` ready for a sampler and a number of steps that the caller has chosen, or the model's own.
    ///
    /// # Errors   [`ModelError::Store`] naming the file and the key that stands in the way
    pub fn prepare(
        &mut self,
        sampler: Option<&str>,
        steps: Option<usize>,
    ) -> Result<(), ModelError> {
        if let Some(refusal) = self.refusal.take() {
            return Err(refusal.into());
        }
        let Some(scheduler) = &self.scheduler else {
            return Ok(());
        };
        self.sample = match (sampling(scheduler, steps), sampler) {
            (Ok(own), None) => own,
            (Ok(own), Some(name)) if own.sampler.name() == name => own,
            (Err(refused), None) => return Err(refused.into()),
            (_, Some(_)) => scheduler.for_any_sampler()?,
        };
        Ok(())
    }

    /// The diffusion process.
    ///
    /// # Errors   [`ModelError::Schedule`] if the model's settings make none
    pub fn process(&self) -> Result<Process, ModelError> {
        let built = self.process.build(&self.schedule);
        built.map_err(|source| ModelError::Schedule {
            section: "the model's schedule",
            source,
        })
    }
}

/// A scheduler as diffusers' pipelines drive it.
///
/// # Errors   [`StoreError::Unsupported`] naming the key of what has no meaning here, or that no network is told here
fn sampling(scheduler: &Scheduler, steps: Option<usize>) -> Result<SampleConfig, StoreError> {
    let Choice {
        sample,
        negated,
        flow_steps,
        told_whole,
        ..
    } = scheduler.choice(steps)?;
    let refuse = |key, supported| Err(scheduler.refusal(key, supported));
    match (negated, told_whole, flow_steps == NETWORK_STEPS) {
        (true, ..) => refuse(
            "prediction_type",
            "epsilon: the sign of the other is that of no network here",
        ),
        (_, true, _) => refuse(
            "use_flow_sigmas",
            "a flow-matching scheduler: networks here are told real-valued times",
        ),
        (_, _, false) => refuse(
            "num_train_timesteps",
            "1000 for flow matching: networks here are told 1000·t",
        ),
        _ => Ok(sample),
    }
}

pub(crate) fn build(
    path: &Path,
    json: &Map<String, Value>,
    weights: Vec<NamedTensor>,
    device: &Device,
) -> Result<Model, ModelError> {
    let bad = |problem| ModelError::Format {
        path: path.to_owned(),
        problem,
    };
    let unbuildable = |error: UnetError| bad(error.to_string());
    // Before there is a network: a few wrong characters in config.json can ask for more than any memory.
    let asked = parameters_of_json(json).map_err(unbuildable)?;
    let held: u128 = weights.iter().map(|tensor| tensor.data.len() as u128).sum();
    // As many more as a forgotten tensor or two explain are told of by name below.
    if asked > held.saturating_mul(2) {
        return Err(bad(format!(
            "config.json asks for a network of {asked} parameters, but the weights beside it are {held} numbers; \
             they do not belong together"
        )));
    }
    let (model, unknown) = Model::from_json(json, device).map_err(unbuildable)?;
    for key in unknown {
        tracing::warn!(
            "{}: key `{key}` of config.json is not known and has no effect",
            path.display()
        );
    }
    load_weights(path, model, weights)
}

/// `model` with the weights of `path`.
///
/// # Errors   [`ModelError::Format`] naming the tensor that does not fit
pub fn load_weights(
    path: &Path,
    model: Model,
    weights: Vec<NamedTensor>,
) -> Result<Model, ModelError> {
    let tensors = weights
        .into_iter()
        .map(|tensor| (tensor.name, tensor.shape, tensor.data));
    params::load(model, tensors).map_err(|error| ModelError::Format {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}
