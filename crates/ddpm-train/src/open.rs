//! A finished network from wherever it lies: a run, a checkpoint or a diffusers directory.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_diffusion::SampleConfig;
use ddpm_schedule::{Prediction, Schedule, ScheduleConfig};
use ddpm_store::checkpoint::{self, Weights};
use ddpm_store::{DiffusersModel, NamedTensor, RunDir, SchedulerSettings};
use ddpm_unet::{Model, SampleSize};
use serde_json::{Map, Value};

use crate::error::TrainError;
use crate::snapshot::{SavedState, load_weights};

/// A network for sampling, with all that sampling needs to know.
#[derive(Debug)]
pub struct OpenedModel {
    /// The network, without autodiff.
    pub model: Model,
    /// What is to be said of these weights before they are used, if anything.
    pub warning: Option<String>,
    /// Where it came from: the checkpoint or the model directory.
    pub path: PathBuf,
    /// Optimiser steps it was trained for, where that is known.
    pub step: Option<u64>,
    /// The noise schedule.
    pub schedule: ScheduleConfig,
    /// What the network predicts.
    pub prediction: Prediction,
    /// How samples are drawn by default.
    pub sample: SampleConfig,
    /// Channels of an image.
    pub channels: usize,
    /// `[height, width]` of an image, where that is known.
    pub size: Option<[usize; 2]>,
    /// The run's seed, or 0.
    pub seed: u64,
}

impl OpenedModel {
    /// Opens the newest valid checkpoint of a run, a checkpoint, or a diffusers directory.
    ///
    /// # Errors   [`TrainError::Store`] if nothing of the kind is there or it is damaged,
    /// [`TrainError::Model`] or [`TrainError::Format`] if it holds a network that this
    /// program cannot build
    pub fn open(path: &Path, weights: Weights, device: &Device) -> Result<Self, TrainError> {
        if path.join("config.toml").is_file() {
            let run = RunDir::open(path)?;
            return match checkpoint::latest_valid(&run)? {
                Some(newest) => Self::from_checkpoint(&newest, weights, device),
                None => Err(TrainError::Format {
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
            return Self::from_checkpoint(path, weights, device);
        }
        Self::from_diffusers(path, device)
    }

    fn from_checkpoint(path: &Path, weights: Weights, device: &Device) -> Result<Self, TrainError> {
        let found = checkpoint::load_for_sampling(path, weights)?;
        let saved = SavedState::read(path, found.state)?;
        let Value::Object(json) = found.config else {
            return Err(TrainError::Format {
                path: path.to_owned(),
                problem: "the network's config.json is not an object".into(),
            });
        };
        Ok(Self {
            model: build(path, &json, found.weights, device)?,
            warning: match weights {
                Weights::Ema => saved.config.ema.warning(saved.updates_at(found.step)),
                Weights::Raw => None,
            },
            path: path.to_owned(),
            step: Some(found.step),
            schedule: saved.config.schedule.clone(),
            prediction: saved.config.objective.prediction,
            sample: saved.config.sample.clone(),
            channels: saved.channels,
            size: Some([saved.height, saved.width]),
            seed: saved.config.seed,
        })
    }

    fn from_diffusers(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let found = DiffusersModel::read(path)?;
        let settings = found.scheduler.unwrap_or_else(|| {
            tracing::warn!(
                "{}: no scheduler_config.json; taking diffusers' defaults (linear, 1000 steps, ε)",
                path.display()
            );
            SchedulerSettings::default()
        });
        let model = build(path, &found.config, found.tensors.tensors, device)?;
        if let Some(known) = model.time_steps()
            && known < settings.schedule.steps
        {
            return Err(TrainError::Format {
                path: path.to_owned(),
                problem: format!(
                    "the network knows {known} time steps and its scheduler has {}; \
                     they do not belong together",
                    settings.schedule.steps
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
        };
        Ok(Self {
            model,
            warning: None,
            path: found.unet_dir,
            step: None,
            sample: SampleConfig {
                variance: settings.variance,
                clip: settings.clip,
                clip_range: settings.clip_range,
                spacing: Some(settings.spacing),
                ..SampleConfig::default()
            },
            schedule: settings.schedule,
            prediction: settings.prediction,
            channels,
            size,
            seed: 0,
        })
    }

    /// The tables of the noise schedule.
    ///
    /// # Errors   [`TrainError::Schedule`] if the model's schedule makes no table
    pub fn tables(&self) -> Result<Schedule, TrainError> {
        self.schedule
            .build()
            .map_err(|source| TrainError::Schedule {
                section: "the model's schedule",
                source,
            })
    }
}

fn build(
    path: &Path,
    json: &Map<String, Value>,
    weights: Vec<NamedTensor>,
    device: &Device,
) -> Result<Model, TrainError> {
    let (model, unknown) = Model::from_json(json, device).map_err(|error| TrainError::Format {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    for key in unknown {
        tracing::warn!(
            "{}: key `{key}` of config.json is not known and has no effect",
            path.display()
        );
    }
    load_weights(path, model, weights)
}
