//! `scheduler_config.json` in our words, and back.
//!
//! A scheduler is a class, the keys of its configuration, and what a pipeline hands to `set_timesteps` and `step`. Every
//! key that the class has is heeded or refused by name; others are passed over, as diffusers does.

mod classes;
mod curves;
mod edm;
mod flow;
mod samplers;
mod spread;
mod table;
mod write;

use std::path::{Path, PathBuf};

use ddpm_diffusion::{Meaning, SampleConfig, ThresholdConfig};
use ddpm_schedule::{Prediction, Process, ProcessConfig, Schedule, ScheduleConfig, Spacing};
use serde_json::{Map, Value, json};

use super::keys::{Keys, unsupported};
use crate::error::{Result, StoreError, excerpt};
use crate::json;

pub use flow::NETWORK_STEPS;
pub use table::beta_schedule;
pub use write::Written;

/// A scheduler as its file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduler {
    path: PathBuf,
    class: String,
    /// All keys that the class has; those that the file lacks are the class's defaults.
    keys: Map<String, Value>,
    unknown: Vec<String>,
    call: Call,
}

/// What a pipeline hands to a scheduler.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Call {
    /// `num_inference_steps`; unset: those of diffusers' pipelines.
    pub steps: Option<usize>,
    /// The other arguments of `set_timesteps`.
    pub set_timesteps: Map<String, Value>,
    /// The arguments of `step`.
    pub step: Map<String, Value>,
}

/// A network's process, whoever samples from it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSettings {
    /// The process.
    pub process: ProcessConfig,
    /// The table of a discrete process.
    pub schedule: ScheduleConfig,
    /// What the network's output means.
    pub meaning: Meaning,
}

/// A scheduler in our terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The process.
    pub process: Process,
    /// What the network's output means.
    pub meaning: Meaning,
    /// The sampler, the levels, and what is done to x̂0.
    pub sample: SampleConfig,
    /// The network's output is minus what it means (the EDM schedulers' `v_prediction`).
    pub negated: bool,
    /// The network of a flow is told t times this.
    pub flow_steps: usize,
    /// And of that the whole steps.
    pub told_whole: bool,
}

/// A call at work: its arguments, taken out one by one.
struct Asked<'a> {
    steps: usize,
    set_timesteps: Keys<'a>,
    step: Keys<'a>,
}

/// Where a file of ours keeps the call that samples alike: diffusers passes over keys with an underscore.
const CALL: &str = "_call";
const STEPS: &str = "num_inference_steps";
const CLASS: &str = "_class_name";
/// Arguments of `set_timesteps` that stand for a number of steps.
const LISTS: [&str; 2] = ["timesteps", "sigmas"];
/// The release whose formats are written.
pub(super) const DIFFUSERS_VERSION: &str = "0.42.1";
/// Keys that other classes of older repositories have, and that say nothing of a sample.
const HARMLESS: [&str; 3] = ["predict_epsilon", "skip_prk_steps", "set_alpha_to_one"];
/// `num_inference_steps` of diffusers' pipelines, but of those that visit every step.
const PIPELINE_STEPS: usize = 50;

impl Scheduler {
    /// Reads a `scheduler_config.json`. Missing keys take the defaults of the class; those that it does not have are
    /// passed over with a warning, as diffusers does.
    ///
    /// # Errors   as [`Scheduler::from_json`], and [`StoreError::Io`]
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_json(path, json::read_python(path)?)
    }

    /// As [`Scheduler::read`], of contents already at hand; `path` is for the messages.
    ///
    /// # Errors   [`StoreError::Unsupported`] naming the class or key of a process or a network that has no meaning here,
    /// [`StoreError::Format`] for what makes no schedule
    pub fn from_json(path: &Path, keys: Map<String, Value>) -> Result<Self> {
        let mut keys = Keys { path, keys };
        let call = Call::read(&mut keys)?;
        let class = keys.take(CLASS).unwrap_or_else(|| json!("DDPMScheduler"));
        let known = class.as_str().and_then(classes::known);
        let Some((class, mut all)) = known else {
            let expected = "a scheduler of a table of betas, of EDM or of flow matching, such as DDIMScheduler";
            return Err(keys.refusal(CLASS, &class, expected));
        };
        // What said it before diffusers 0.9.
        let predict_epsilon = keys.boolean("predict_epsilon")?.unwrap_or(true);
        if !predict_epsilon && !keys.has("prediction_type") {
            all.insert("prediction_type".to_owned(), json!("sample"));
        }
        // Betas that are listed say how many there are, unless the file does.
        if let Some(betas) = keys.keys.get("trained_betas").and_then(Value::as_array) {
            all.entry("num_train_timesteps")
                .and_modify(|steps| *steps = json!(betas.len()));
        }
        let mut unknown = Vec::new();
        for (key, value) in keys.keys {
            match all.get_mut(&key) {
                Some(_) if value.is_null() => {}
                Some(default) => *default = value,
                // Keys with an underscore say who wrote the file.
                None if key.starts_with('_') || HARMLESS.contains(&key.as_str()) => {}
                None => unknown.push(key),
            }
        }
        if !unknown.is_empty() {
            let unknown = excerpt(&format!("{unknown:?}"));
            tracing::warn!(path = %path.display(), unknown, "passing over unknown scheduler keys, as diffusers does");
        }
        let scheduler = Self {
            path: path.to_owned(),
            class: class.to_owned(),
            keys: all,
            unknown,
            call,
        };
        scheduler.network()?;
        Ok(scheduler)
    }

    /// `_class_name`.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Keys of the file that the class does not have.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The refusal of what the file says of a key.
    #[must_use]
    pub fn refusal(&self, key: &str, supported: &'static str) -> StoreError {
        let value = self.keys.get(key).unwrap_or(&Value::Null);
        unsupported(&self.path, key, value, supported)
    }

    /// Steps that a pipeline takes, where no call says another number.
    pub(super) fn set_steps(&mut self, steps: usize) {
        self.call.steps.get_or_insert(steps);
    }

    /// The network's process and the meaning of its output, also of a class that has no sampler here.
    ///
    /// # Errors   [`StoreError::Unsupported`] naming the key, [`StoreError::Format`] for what makes no process
    pub fn network(&self) -> Result<NetworkSettings> {
        let mut keys = self.keys();
        let has_table = keys.has("beta_schedule");
        let found = match self.choice(None) {
            Ok(choice) => NetworkSettings {
                process: match choice.process {
                    Process::Discrete(_) => ProcessConfig::Discrete {},
                    Process::Vp(vp) => ProcessConfig::Vp(vp),
                    Process::Edm(edm) => ProcessConfig::Edm(edm),
                    Process::Flow(flow) => ProcessConfig::Flow(flow),
                },
                schedule: match choice.process {
                    Process::Discrete(_) => table::schedule(&mut keys)?,
                    _ => ScheduleConfig::default(),
                },
                meaning: choice.meaning,
            },
            Err(_) if has_table => samplers::network(&mut keys)?,
            Err(error) => return Err(error),
        };
        keys.made(found.process.build(&found.schedule))?;
        if found.schedule.zero_terminal_snr && found.meaning.prediction == Prediction::Eps {
            let supported = "v_prediction or sample where rescale_betas_zero_snr is true: the last step holds no signal \
                             to recover an image from";
            return Err(keys.refusal("prediction_type", &json!("epsilon"), supported));
        }
        Ok(found)
    }

    /// The scheduler in our terms, for a number of steps: the call's own if none is given.
    ///
    /// # Errors   [`StoreError::Unsupported`] naming the class, key or argument that has no meaning here,
    /// [`StoreError::Format`] for what makes no schedule
    pub fn choice(&self, steps: Option<usize>) -> Result<Choice> {
        let mut keys = self.keys();
        let arguments = |keys: &Map<String, Value>| Keys {
            path: &self.path,
            keys: keys.clone(),
        };
        let mut asked = Asked {
            steps: match steps.or(self.call.steps) {
                Some(steps) => steps,
                None => self.usual_steps()?,
            },
            set_timesteps: arguments(&self.call.set_timesteps),
            step: arguments(&self.call.step),
        };
        if steps.is_some() && steps != self.call.steps {
            // A list is of the number of steps that it has.
            asked.set_timesteps.drop(&LISTS);
        }
        let choice = classes::choice(&self.class, &mut keys, &mut asked)?;
        for rest in [&asked.set_timesteps, &asked.step] {
            if let Some((argument, value)) = rest.keys.iter().next() {
                let expected = "none of it: the scheduler has no such argument";
                return Err(rest.refusal(argument, value, expected));
            }
        }
        Ok(choice)
    }

    /// What the file says to a sampler that somebody else has chosen.
    ///
    /// # Errors   [`StoreError::Unsupported`] naming the key
    pub fn for_any_sampler(&self) -> Result<SampleConfig> {
        let mut keys = self.keys();
        let mut sample = SampleConfig {
            steps: self.call.steps,
            ..SampleConfig::default()
        };
        let clips = keys.has("beta_schedule");
        hold(&mut keys, &mut sample, clips)?;
        if keys.has("timestep_spacing") {
            sample.spacing = Some(spread::spacing(&mut keys, Spacing::Leading {})?);
            sample.offset = keys.count("steps_offset")?.unwrap_or(0);
        }
        Ok(sample)
    }

    /// All steps of DDPM, else those of diffusers' pipelines.
    fn usual_steps(&self) -> Result<usize> {
        let mut keys = self.keys();
        if !keys.has("beta_schedule") {
            return Ok(PIPELINE_STEPS);
        }
        let process = table::process(&mut keys)?;
        let all = process.schedule().map_or(PIPELINE_STEPS, Schedule::len);
        Ok(match self.class.as_str() {
            "DDPMScheduler" => all,
            _ => all.min(PIPELINE_STEPS),
        })
    }

    /// The file's contents: the class, all of its keys, and the call that samples alike.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json = self.keys.clone();
        // A missing key is the default; some of diffusers' defaults are no JSON.
        json.retain(|_, value| !value.is_null());
        json.insert(CLASS.to_owned(), json!(self.class));
        json.insert("_diffusers_version".to_owned(), json!(DIFFUSERS_VERSION));
        if self.call != Call::default() {
            let mut set_timesteps = self.call.set_timesteps.clone();
            if !LISTS.iter().any(|list| set_timesteps.contains_key(*list)) {
                set_timesteps.insert(STEPS.to_owned(), json!(self.call.steps));
            }
            let call = json!({"steps": self.call.steps, "set_timesteps": set_timesteps, "step": self.call.step});
            json.insert(CALL.to_owned(), call);
        }
        json
    }

    fn keys(&self) -> Keys<'_> {
        Keys {
            path: &self.path,
            keys: self.keys.clone(),
        }
    }
}

impl Call {
    fn read(keys: &mut Keys<'_>) -> Result<Self> {
        let Some(call) = keys.object(CALL)? else {
            return Ok(Self::default());
        };
        let mut call = Keys {
            path: keys.path,
            keys: call,
        };
        let steps = call.count("steps")?;
        if let Some(steps) = steps.filter(|steps| *steps > table::MOST_STEPS) {
            return Err(call.refusal("steps", &json!(steps), "at most 10000"));
        }
        let mut set_timesteps = call.object("set_timesteps")?.unwrap_or_default();
        set_timesteps.remove(STEPS);
        Ok(Self {
            steps,
            set_timesteps,
            step: call.object("step")?.unwrap_or_default(),
        })
    }
}

/// `thresholding` before `clip_sample`, as in diffusers; `clips` is what a missing `clip_sample` means.
fn hold(keys: &mut Keys<'_>, sample: &mut SampleConfig, clips: bool) -> Result<()> {
    let ratio = keys.number("dynamic_thresholding_ratio")?.unwrap_or(0.995);
    let most = keys.number("sample_max_value")?.unwrap_or(1.0);
    sample.clip = keys.boolean("clip_sample")?.unwrap_or(clips);
    sample.clip_range = keys.number("clip_sample_range")?.unwrap_or(1.0);
    if keys.boolean("thresholding")?.unwrap_or(false) {
        sample.threshold = Some(ThresholdConfig { ratio, most });
    } else if sample.clip && !(sample.clip_range > 0.0 && sample.clip_range.is_finite()) {
        let range = json!(sample.clip_range);
        return Err(keys.refusal("clip_sample_range", &range, "a number above 0"));
    }
    Ok(())
}

/// `final_sigmas_type`: whether the last step ends above the image.
fn ends_above(keys: &mut Keys<'_>) -> Result<bool> {
    match keys.text("final_sigmas_type")?.as_deref() {
        None | Some("zero") => Ok(false),
        Some("sigma_min") => Ok(true),
        Some(other) => Err(keys.refusal("final_sigmas_type", &json!(other), "zero or sigma_min")),
    }
}

#[cfg(test)]
mod tests;
