//! `scheduler_config.json` in our words, and back.

use std::path::Path;

use ddpm_schedule::{Prediction, ScheduleConfig, ScheduleKind, Spacing, VarianceKind};
use serde_json::{Map, Value, json};

use crate::error::{Result, StoreError, excerpt};
use crate::json;

/// What a `scheduler_config.json` says; the default is what an empty one means.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerSettings {
    /// `num_train_timesteps`, `beta_*`, `trained_betas`, `rescale_betas_zero_snr`.
    pub schedule: ScheduleConfig,
    /// `prediction_type`.
    pub prediction: Prediction,
    /// `variance_type`; the `_log` kinds are the same figures.
    pub variance: VarianceKind,
    /// `clip_sample`: whether x̂0 is clamped.
    pub clip: bool,
    /// `clip_sample_range`: to ± this.
    pub clip_range: f64,
    /// `thresholding` and its figures.
    pub thresholding: Option<DynamicThresholding>,
    /// `timestep_spacing`.
    pub spacing: Spacing,
    /// `steps_offset`, added to every time step of the leading spacing.
    pub steps_offset: usize,
}

/// Clamping of x̂0 to a quantile of its own magnitudes (Saharia et al. 2022, section 2.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicThresholding {
    /// `dynamic_thresholding_ratio`: the quantile.
    pub ratio: f64,
    /// `sample_max_value`: the most that the threshold may be.
    pub max_value: f64,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::default(),
            prediction: Prediction::Eps,
            variance: VarianceKind::Small,
            clip: true,
            clip_range: 1.0,
            thresholding: None,
            spacing: Spacing::Leading,
            steps_offset: 0,
        }
    }
}

const DEFAULT_RATIO: f64 = 0.995;
const DEFAULT_MAX_VALUE: f64 = 1.0;

impl SchedulerSettings {
    /// Reads a `scheduler_config.json`. Missing keys take diffusers' defaults; unknown ones are passed over
    /// with a warning.
    ///
    /// # Errors   [`StoreError::Unsupported`] naming the key of a value without a meaning here,
    /// [`StoreError::Format`] for what is not JSON or makes no schedule, [`StoreError::Io`]
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_json(path, json::read(path)?)
    }

    /// As [`SchedulerSettings::read`], of contents already at hand; `path` is for the messages.
    ///
    /// # Errors   as [`SchedulerSettings::read`]
    pub fn from_json(path: &Path, keys: Map<String, Value>) -> Result<Self> {
        let mut keys = Keys { path, keys };
        let thresholding = DynamicThresholding {
            ratio: keys
                .number("dynamic_thresholding_ratio")?
                .unwrap_or(DEFAULT_RATIO),
            max_value: keys
                .number("sample_max_value")?
                .unwrap_or(DEFAULT_MAX_VALUE),
        };
        let settings = Self {
            schedule: read_schedule(&mut keys)?,
            prediction: read_prediction(&mut keys)?,
            variance: match keys.text("variance_type")?.as_deref() {
                None | Some("fixed_small" | "fixed_small_log") => VarianceKind::Small,
                Some("fixed_large" | "fixed_large_log") => VarianceKind::Large,
                Some(other) => {
                    return keys.unsupported(
                        "variance_type",
                        &json!(other),
                        "fixed_small or fixed_large",
                    );
                }
            },
            clip: keys.boolean("clip_sample")?.unwrap_or(true),
            clip_range: keys.number("clip_sample_range")?.unwrap_or(1.0),
            thresholding: keys
                .boolean("thresholding")?
                .unwrap_or(false)
                .then_some(thresholding),
            spacing: match keys.text("timestep_spacing")?.as_deref() {
                None | Some("leading") => Spacing::Leading,
                Some("linspace") => Spacing::Linspace,
                Some("trailing") => Spacing::Trailing,
                Some(other) => {
                    let supported = "leading, linspace or trailing";
                    return keys.unsupported("timestep_spacing", &json!(other), supported);
                }
            },
            steps_offset: keys.count("steps_offset")?.unwrap_or(0),
        };
        keys.finish();
        check_schedule(path, &settings.schedule)?;
        Ok(settings)
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
        let thresholding = self.thresholding.unwrap_or(DynamicThresholding {
            ratio: DEFAULT_RATIO,
            max_value: DEFAULT_MAX_VALUE,
        });
        let keys = json!({
            "_class_name": "DDPMScheduler",
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
            "thresholding": self.thresholding.is_some(),
            "dynamic_thresholding_ratio": thresholding.ratio,
            "sample_max_value": thresholding.max_value,
            "timestep_spacing": match self.spacing {
                Spacing::Leading => "leading",
                Spacing::Linspace => "linspace",
                Spacing::Trailing => "trailing",
            },
            "steps_offset": self.steps_offset,
            "rescale_betas_zero_snr": config.zero_terminal_snr,
        });
        match keys {
            Value::Object(keys) => Ok(keys),
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

fn read_schedule(keys: &mut Keys) -> Result<ScheduleConfig> {
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
            return keys.unsupported("beta_schedule", &json!(other), supported);
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
        return keys.unsupported("num_train_timesteps", &json!(steps), supported);
    }
    Ok(ScheduleConfig {
        kind,
        steps: listed
            .as_ref()
            .map(Vec::len)
            .or(steps)
            .unwrap_or(default.steps),
        beta_start: keys.number("beta_start")?.unwrap_or(default.beta_start),
        beta_end: keys.number("beta_end")?.unwrap_or(default.beta_end),
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
        Some(other) => keys.unsupported(
            "prediction_type",
            &json!(other),
            "epsilon, sample or v_prediction",
        ),
    }
}

/// A configuration's keys, taken out one by one, so that the rest is what nobody knows.
struct Keys<'a> {
    path: &'a Path,
    keys: Map<String, Value>,
}

impl Keys<'_> {
    /// `null` means the default, as a missing key does.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => self.unsupported(key, &value, expected),
        }
    }

    fn number(&mut self, key: &'static str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn count(&mut self, key: &'static str) -> Result<Option<usize>> {
        self.typed(key, "a whole number", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    fn boolean(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        self.typed(key, "a name in quotes", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    fn numbers(&mut self, key: &'static str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })
    }

    fn unsupported<T>(
        &self,
        key: &'static str,
        value: &Value,
        supported: &'static str,
    ) -> Result<T> {
        let path = self.path.to_owned();
        Err(StoreError::Unsupported {
            path,
            key,
            value: excerpt(&value.to_string()),
            supported,
        })
    }

    fn finish(self) {
        // Keys with an underscore say who wrote the file.
        let unknown: Vec<_> = self
            .keys
            .keys()
            .filter(|key| !key.starts_with('_'))
            .collect();
        if !unknown.is_empty() {
            let unknown = excerpt(&format!("{unknown:?}"));
            tracing::warn!(path = %self.path.display(), unknown, "passing over unknown scheduler keys");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<SchedulerSettings> {
        let keys = value.as_object().unwrap().clone();
        SchedulerSettings::from_json(Path::new("m/scheduler_config.json"), keys)
    }

    #[test]
    fn nothing_means_the_defaults() {
        assert_eq!(read(json!({})).unwrap(), SchedulerSettings::default());
        let nulls = json!({"trained_betas": null, "variance_type": null, "skip_prk_steps": true});
        assert_eq!(read(nulls).unwrap(), SchedulerSettings::default());
    }

    #[test]
    fn every_key_is_heard() {
        let settings = read(json!({
            "num_train_timesteps": 200, "beta_start": 0.001, "beta_end": 0.03,
            "beta_schedule": "scaled_linear", "variance_type": "fixed_large", "clip_sample": false,
            "clip_sample_range": 2.5, "prediction_type": "v_prediction", "thresholding": true,
            "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5,
            "timestep_spacing": "trailing", "steps_offset": 1, "rescale_betas_zero_snr": true,
        }))
        .unwrap();
        let expected = SchedulerSettings {
            schedule: ScheduleConfig {
                kind: ScheduleKind::ScaledLinear,
                steps: 200,
                beta_start: 0.001,
                beta_end: 0.03,
                zero_terminal_snr: true,
                ..Default::default()
            },
            prediction: Prediction::V,
            variance: VarianceKind::Large,
            clip: false,
            clip_range: 2.5,
            thresholding: Some(DynamicThresholding {
                ratio: 0.9,
                max_value: 1.5,
            }),
            spacing: Spacing::Trailing,
            steps_offset: 1,
        };
        assert_eq!(settings, expected);
        let old = read(json!({"predict_epsilon": false})).unwrap();
        assert_eq!(old.prediction, Prediction::X0);
    }

    #[test]
    fn a_value_without_meaning_names_its_key() {
        let cases = [
            ("beta_schedule", json!("laplace")),
            ("variance_type", json!("learned_range")),
            ("prediction_type", json!("flow")),
            ("timestep_spacing", json!(3)),
            ("num_train_timesteps", json!(-5)),
            ("beta_end", json!("0.02")),
            ("clip_sample", json!(1)),
            ("trained_betas", json!([0.1, "x"])),
            ("steps_offset", json!(0.5)),
        ];
        for (key, value) in cases {
            let error = read(json!({ key: value })).unwrap_err();
            assert!(
                matches!(error, StoreError::Unsupported { key: k, .. } if k == key),
                "{error}"
            );
            assert!(error.to_string().contains("scheduler_config.json"));
        }
        let differing = read(json!({"num_train_timesteps": 3, "trained_betas": [0.1, 0.2]}));
        assert!(matches!(
            differing,
            Err(StoreError::Unsupported {
                key: "num_train_timesteps",
                ..
            })
        ));
        for impossible in [
            json!({"beta_start": 2.0}),
            json!({"num_train_timesteps": 0}),
        ] {
            assert!(matches!(read(impossible), Err(StoreError::Format { .. })));
        }
    }

    #[test]
    fn every_schedule_survives_the_way_there_and_back() {
        let kinds = [
            ScheduleKind::Linear,
            ScheduleKind::ScaledLinear,
            ScheduleKind::Cosine,
            ScheduleKind::SigmoidBeta,
            ScheduleKind::SigmoidAlphaBar,
        ];
        let path = Path::new("scheduler_config.json");
        for kind in kinds {
            for (scale_ends, zero_terminal_snr) in [(false, false), (true, false), (false, true)] {
                let schedule = ScheduleConfig {
                    kind,
                    steps: 100,
                    scale_ends,
                    zero_terminal_snr,
                    ..Default::default()
                };
                let settings = SchedulerSettings {
                    schedule,
                    ..Default::default()
                };
                let json = settings.to_json(path).unwrap();
                let text = serde_json::to_string(&json).unwrap();
                let back = read(serde_json::from_str(&text).unwrap()).unwrap();
                let (a, b) = (
                    settings.schedule.build().unwrap(),
                    back.schedule.build().unwrap(),
                );
                assert_eq!(a, b, "{kind:?} {scale_ends} {zero_terminal_snr}");
                let listed = kind == ScheduleKind::SigmoidAlphaBar;
                assert_eq!(json["trained_betas"].is_array(), listed);
            }
        }
        let betas = vec![0.1, 0.25, 0.5];
        let schedule = ScheduleConfig {
            kind: ScheduleKind::Custom,
            steps: 3,
            betas: Some(betas),
            ..Default::default()
        };
        let settings = SchedulerSettings {
            schedule,
            ..Default::default()
        };
        assert_eq!(
            read(Value::Object(settings.to_json(path).unwrap())).unwrap(),
            settings
        );
    }
}
