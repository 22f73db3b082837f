//! A run's process and sampler in diffusers' words.
//!
//! Nothing is trusted: each setting that may sample alike is read back as any other file is, and taken if what comes of
//! it is what it was made from.

mod alike;
mod classes;
mod levels;
mod network;

use std::path::Path;

use ddpm_diffusion::{Hold, Plan, SampleConfig};
use ddpm_schedule::ProcessConfig;
use serde_json::{Map, Value, json};

use super::{Call, NetworkSettings, Scheduler, classes as known};
use crate::diffusers::keys::unsupported;
use crate::error::{Result, StoreError};

/// A scheduler for a network of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The scheduler.
    pub scheduler: Scheduler,
    /// Why diffusers does not sample with it as we do, where that is so: it then says the process alone.
    pub difference: Option<String>,
}

impl Written {
    /// The scheduler that samples as `sample` does, or else one of the same process; `path` is where its file is to be.
    ///
    /// # Errors   [`StoreError::Unsupported`] for a process or a network that diffusers has no scheduler for,
    /// [`StoreError::Format`] for settings that make no process or no plan
    pub fn of(path: &Path, network: &NetworkSettings, sample: &SampleConfig) -> Result<Self> {
        // Plans warn of settings that are seldom meant, and none of these is to be run.
        let silence = tracing::subscriber::NoSubscriber::default();
        tracing::subscriber::with_default(silence, || Self::found(path, network, sample))
    }

    fn found(path: &Path, network: &NetworkSettings, sample: &SampleConfig) -> Result<Self> {
        let process = network.process.build(&network.schedule);
        let bad = |error: String| StoreError::format(path, "scheduler configuration", error);
        let process = process.map_err(|error| bad(error.to_string()))?;
        let plan = sample.plan(&process, network.meaning);
        let plan = plan.map_err(|error| bad(error.to_string()))?;
        network::check(path, network)?;
        let made = classes::of(&plan);
        if let Some(made) = &made {
            let found = candidates(path, network, sample, &plan, made)
                .find(|scheduler| alike::alike(scheduler, &plan));
            if let Some(scheduler) = found {
                return Ok(Self {
                    scheduler,
                    difference: None,
                });
            }
        }
        let name = plan.sampler().name();
        let free = SampleConfig {
            clip: false,
            threshold: None,
            ..sample.clone()
        };
        let limits = plan.hold() != Hold::Free;
        let difference = match made {
            None => format!(
                "diffusers has no scheduler for the sampler {name} of the process {} as it is set",
                process.name()
            ),
            Some(made) if limits && Self::found(path, network, &free)?.difference.is_none() => {
                format!(
                    "diffusers' {} has no limits for x0, and samples alike with sample.clip = false alone",
                    made.class
                )
            }
            Some(made) => format!(
                "no settings of diffusers' {} make {name}'s steps over these levels",
                made.class
            ),
        };
        Ok(Self {
            scheduler: describe(path, network, sample, &plan)?,
            difference: Some(difference),
        })
    }
}

/// A class of diffusers, with its keys and the arguments of its `step`.
struct Made {
    class: &'static str,
    keys: Map<String, Value>,
    step: Map<String, Value>,
}

/// Every way of writing the levels beside the keys of a sampler.
fn candidates<'a>(
    path: &'a Path,
    network: &'a NetworkSettings,
    sample: &'a SampleConfig,
    plan: &'a Plan,
    made: &'a Made,
) -> impl Iterator<Item = Scheduler> + 'a {
    let levels = levels::all(made.class, sample, plan);
    levels.into_iter().filter_map(move |levels| {
        let (class, mut keys) = known::known(made.class)?;
        let given = network::keys(&keys, network).ok()?;
        let given = given.into_iter().chain(network::hold(&keys, plan.hold()));
        let given = given.chain(made.keys.clone()).chain(levels.keys);
        // A key that the class does not have says nothing to it.
        for (key, value) in given {
            keys.entry(key).and_modify(|known| *known = value);
        }
        Some(Scheduler {
            path: path.to_owned(),
            class: class.to_owned(),
            keys,
            unknown: Vec::new(),
            call: Call {
                steps: Some(plan.steps()),
                set_timesteps: levels.set_timesteps,
                step: made.step.clone(),
            },
        })
    })
}

/// A scheduler of the same process with its own sampler.
///
/// # Errors   [`StoreError::Unsupported`] if there is none
fn describe(
    path: &Path,
    network: &NetworkSettings,
    sample: &SampleConfig,
    plan: &Plan,
) -> Result<Scheduler> {
    let stochastic = plan.sampler().about().stochastic || !classes::is_silent(network.meaning);
    let class = match (&network.process, stochastic) {
        (ProcessConfig::Discrete {}, true) => "DDPMScheduler",
        (ProcessConfig::Discrete {}, false) => "DDIMScheduler",
        (ProcessConfig::Edm(_), _) => "EDMEulerScheduler",
        _ => "FlowMatchEulerDiscreteScheduler",
    };
    let mut made = Made {
        class,
        keys: Map::new(),
        step: Map::new(),
    };
    if !classes::is_silent(network.meaning) {
        made.keys
            .insert("variance_type".to_owned(), json!("learned_range"));
    }
    let mut all = candidates(path, network, sample, plan, &made);
    let found = all.find(|scheduler| {
        let read = scheduler.network();
        read.is_ok_and(|read| alike::same_process(&read, network))
    });
    let mut found = found.ok_or_else(|| {
        let supported = "one that a scheduler of diffusers can describe";
        unsupported(path, "process", &json!(network.process), supported)
    })?;
    found.call = Call::default();
    Ok(found)
}

#[cfg(test)]
mod tests;
