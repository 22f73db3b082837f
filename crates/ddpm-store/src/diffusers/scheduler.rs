//! `scheduler_config.json` in our words, and back.

use std::path::Path;

use ddpm_schedule::{Prediction, ScheduleConfig, ScheduleKind, Spacing, VarianceKind};
use serde_json::{Map, Value, json};

use super::class::{Known, SchedulerClass};
use super::keys::{Keys, unsupported};
use crate::error::{Result, StoreError};
use crate::json;

/// What a `scheduler_config.json` says; the default is what an empty one means.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerSettings {
    /// `_class_name`: the sampler.
    pub class: SchedulerClass,
    /// `num_train_timesteps`, `beta_*`, `trained_betas`, `rescale_betas_zero_snr`.
    pub schedule: ScheduleConfig,
    /// `prediction_type`.
    pub prediction: Prediction,
    /// `variance_type`; `fixed_small_log` is the same figures as `fixed_small`, and `fixed_large_log`, of which diffusers
    /// makes the root of a negative number, is refused.
    pub variance: VarianceKind,
    /// `clip_sample`: whether x̂0 is clamped.
    pub clip: bool,
    /// `clip_sample_range`: to ± this.
    pub clip_range: f64,
    /// `timestep_spacing`.
    pub spacing: Spacing,
    /// `steps_offset`, added to every time step of the leading spacing.
    pub steps_offset: usize,
    /// `set_alpha_to_one` = false: DDIM ends at the first time step's ᾱ instead of 1.
    pub to_first: bool,
    /// Steps that the pipeline takes where they are not the sampler's own number.
    pub steps: Option<usize>,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            class: SchedulerClass::Ddpm,
            schedule: ScheduleConfig::default(),
            prediction: Prediction::Eps,
            variance: VarianceKind::Small,
            clip: true,
            clip_range: 1.0,
            spacing: Spacing::Leading,
            steps_offset: 0,
            to_first: false,
            steps: None,
        }
    }
}

/// Keys that DDPM and DDIM have no use for, in diffusers neither.
const HARMLESS: [&str; 3] = [
    "skip_prk_steps",
    "dynamic_thresholding_ratio",
    "sample_max_value",
];

impl SchedulerSettings {
    /// Reads a `scheduler_config.json`. Missing keys take diffusers' defaults; unknown ones are passed over
    /// with a warning, as diffusers does.
    ///
    /// # Errors   [`StoreError::Unsupported`] naming the key of a value without a meaning here (the class of a process
    /// that is no table of β among them), [`StoreError::Format`] for what is not JSON or makes no schedule,
    /// [`StoreError::Io`]
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_json(path, json::read(path)?)
    }

    /// As [`SchedulerSettings::read`], of contents already at hand; `path` is for the messages.
    ///
    /// # Errors   as [`SchedulerSettings::read`]
    pub fn from_json(path: &Path, mut keys: Map<String, Value>) -> Result<Self> {
        let name = keys.remove("_class_name").unwrap_or_default();
        let known = Known::read(path, &name)?;
        let mut keys = Keys { path, keys };
        refuse_other_kinds(&mut keys)?;
        let settings = Self {
            schedule: read_schedule(&mut keys, known.beta_ends)?,
            prediction: read_prediction(&mut keys)?,
            variance: match keys.text("variance_type")?.as_deref() {
                None | Some("fixed_small" | "fixed_small_log") => VarianceKind::Small,
                Some("fixed_large") => VarianceKind::Large,
                Some(other) => {
                    let supported = match other {
                        "learned" | "learned_range" => {
                            "fixed_small or fixed_large; a learned variance is not implemented"
                        }
                        _ => "fixed_small or fixed_large",
                    };
                    return Err(unsupported(path, "variance_type", &json!(other), supported));
                }
            },
            clip: keys.boolean("clip_sample")?.unwrap_or(true),
            clip_range: keys.number("clip_sample_range")?.unwrap_or(1.0),
            spacing: match keys.text("timestep_spacing")?.as_deref() {
                None => known.spacing,
                Some("leading") => Spacing::Leading,
                Some("linspace") => Spacing::Linspace,
                Some("trailing") => Spacing::Trailing,
                Some(other) => {
                    let supported = "leading, linspace or trailing";
                    return Err(unsupported(
                        path,
                        "timestep_spacing",
                        &json!(other),
                        supported,
                    ));
                }
            },
            steps_offset: keys.count("steps_offset")?.unwrap_or(0),
            to_first: !keys.boolean("set_alpha_to_one")?.unwrap_or(true),
            class: known.class,
            steps: None,
        };
        // The keys of a sampler that is not used say nothing here.
        if !matches!(settings.class, SchedulerClass::Other(_)) {
            keys.finish(&HARMLESS);
        }
        settings.check(path)?;
        Ok(settings)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let refuse = |key, value, supported| Err(unsupported(path, key, &value, supported));
        if self.clip && !(self.clip_range > 0.0 && self.clip_range.is_finite()) {
            return refuse(
                "clip_sample_range",
                json!(self.clip_range),
                "a number above 0",
            );
        }
        if self.schedule.zero_terminal_snr && self.prediction == Prediction::Eps {
            let supported = "v_prediction or sample where rescale_betas_zero_snr is true: the last step holds no signal \
                             to recover an image from";
            return refuse("prediction_type", json!("epsilon"), supported);
        }
        check_schedule(path, &self.schedule).map(drop)
    }

    /// The file's contents, with every key that diffusers' `DDPMScheduler` has. Schedules that it cannot
    /// compute are listed as `trained_betas`.
    ///
    /// # Errors   [`StoreError::Format`] naming `path` if the schedule is not valid
    pub fn to_json(&self, path: &Path) -> Result<Map<String, Value>> {
        let config = &self.schedule;
        check_schedule(path, config)?;
        let (beta_schedule, listed) = match config.kind {
            ScheduleKind::Linear => ("linear", false),
            ScheduleKind::ScaledLinear => ("scaled_linear", false),
            ScheduleKind::Cosine => ("squaredcos_cap_v2", false),
            ScheduleKind::SigmoidBeta => ("sigmoid", false),
            ScheduleKind::SigmoidAlphaBar | ScheduleKind::Custom => ("linear", true),
        };
        // diffusers rescales listed β too, so they are listed as they were before.
        let before_rescaling = ScheduleConfig {
            zero_terminal_snr: false,
            ..config.clone()
        };
        let trained_betas = match listed {
            true => Some(check_schedule(path, &before_rescaling)?),
            false => None,
        };
        let scale = if config.scale_ends {
            1000.0 / config.steps as f64
        } else {
            1.0
        };
        let class = match &self.class {
            SchedulerClass::Ddpm => "DDPMScheduler",
            SchedulerClass::Ddim => "DDIMScheduler",
            SchedulerClass::Other(name) => name,
        };
        let keys = json!({
            "_class_name": class,
            "num_train_timesteps": config.steps,
            "beta_start": config.beta_start * scale,
            "beta_end": config.beta_end * scale,
            "beta_schedule": beta_schedule,
            "trained_betas": trained_betas,
            "variance_type": match self.variance {
                VarianceKind::Small => "fixed_small",
                VarianceKind::Large => "fixed_large",
            },
            "clip_sample": self.clip,
            "clip_sample_range": self.clip_range,
            "prediction_type": match self.prediction {
                Prediction::Eps => "epsilon",
                Prediction::X0 => "sample",
                Prediction::V => "v_prediction",
            },
            "thresholding": false,
            "dynamic_thresholding_ratio": 0.995,
            "sample_max_value": 1.0,
            "timestep_spacing": match self.spacing {
                Spacing::Leading => "leading",
                Spacing::Linspace => "linspace",
                Spacing::Trailing => "trailing",
            },
            "steps_offset": self.steps_offset,
            "rescale_betas_zero_snr": config.zero_terminal_snr,
        });
        match keys {
            Value::Object(mut keys) => {
                // DDPM's files do not have it.
                if self.to_first || self.class == SchedulerClass::Ddim {
                    keys.insert("set_alpha_to_one".to_owned(), json!(!self.to_first));
                }
                Ok(keys)
            }
            other => Err(StoreError::format(path, "scheduler configuration", other)),
        }
    }
}

/// The β of a schedule that is valid.
fn check_schedule(path: &Path, config: &ScheduleConfig) -> Result<Vec<f64>> {
    let built = config.build();
    let schedule =
        built.map_err(|error| StoreError::format(path, "scheduler configuration", error))?;
    Ok(schedule.betas().to_vec())
}

/// Settings that make pictures of another kind, whatever samples them.
fn refuse_other_kinds(keys: &mut Keys) -> Result<()> {
    let path = keys.path;
    if keys.boolean("thresholding")? == Some(true) {
        let supported = "false; dynamic thresholding is not implemented";
        return Err(unsupported(path, "thresholding", &json!(true), supported));
    }
    if keys.boolean("use_flow_sigmas")? == Some(true) {
        let supported = "false; flow matching is not implemented";
        return Err(unsupported(
            path,
            "use_flow_sigmas",
            &json!(true),
            supported,
        ));
    }
    // Networks of EDM, which are told ln(σ)/4.
    match keys.text("timestep_type")?.as_deref() {
        None | Some("discrete") => Ok(()),
        Some(other) => Err(unsupported(
            path,
            "timestep_type",
            &json!(other),
            "discrete",
        )),
    }
}

fn read_schedule(keys: &mut Keys, [beta_start, beta_end]: [f64; 2]) -> Result<ScheduleConfig> {
    let default = ScheduleConfig::default();
    let steps = keys.count("num_train_timesteps")?;
    let listed = keys.numbers("trained_betas")?;
    let named = match keys.text("beta_schedule")?.as_deref() {
        None | Some("linear") => Some(ScheduleKind::Linear),
        Some("scaled_linear") => Some(ScheduleKind::ScaledLinear),
        Some("squaredcos_cap_v2") => Some(ScheduleKind::Cosine),
        Some("sigmoid") => Some(ScheduleKind::SigmoidBeta),
        // diffusers does not look at it where β are listed.
        Some(_) if listed.is_some() => None,
        Some(other) => {
            let supported =
                "linear, scaled_linear, squaredcos_cap_v2, sigmoid or a list of trained_betas";
            return Err(unsupported(
                keys.path,
                "beta_schedule",
                &json!(other),
                supported,
            ));
        }
    };
    let kind = match (&listed, named) {
        (None, Some(kind)) => kind,
        _ => ScheduleKind::Custom,
    };
    if let (Some(betas), Some(steps)) = (&listed, steps)
        && betas.len() != steps
    {
        let supported = "the number of trained_betas";
        return Err(unsupported(
            keys.path,
            "num_train_timesteps",
            &json!(steps),
            supported,
        ));
    }
    Ok(ScheduleConfig {
        kind,
        steps: listed
            .as_ref()
            .map(Vec::len)
            .or(steps)
            .unwrap_or(default.steps),
        beta_start: keys.number("beta_start")?.unwrap_or(beta_start),
        beta_end: keys.number("beta_end")?.unwrap_or(beta_end),
        betas: listed,
        zero_terminal_snr: keys.boolean("rescale_betas_zero_snr")?.unwrap_or(false),
        ..default
    })
}

fn read_prediction(keys: &mut Keys) -> Result<Prediction> {
    // What said it before diffusers 0.9.
    let predict_epsilon = keys.boolean("predict_epsilon")?.unwrap_or(true);
    match keys.text("prediction_type")?.as_deref() {
        None if predict_epsilon => Ok(Prediction::Eps),
        None => Ok(Prediction::X0),
        Some("epsilon") => Ok(Prediction::Eps),
        Some("sample") => Ok(Prediction::X0),
        Some("v_prediction") => Ok(Prediction::V),
        Some(other) => {
            let supported = "epsilon, sample or v_prediction";
            Err(unsupported(
                keys.path,
                "prediction_type",
                &json!(other),
                supported,
            ))
        }
    }
}

#[cfg(test)]
mod tests;
