//! `model_index.json`: what a pipeline is made of.

use std::path::Path;

use serde_json::{Map, Value};

use super::keys::unsupported;
use super::scheduler::Scheduler;
use crate::error::Result;
use crate::json;

const MODEL_INDEX: &str = "model_index.json";
const AUTOENCODERS: [&str; 3] = ["vae", "vqvae", "movq"];
/// Steps of a `DDPMPipeline`, of the schedulers that it can drive well.
const DDPM_PIPELINE_STEPS: usize = 1000;

/// The classes that a pipeline's index names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Index {
    pipeline: Option<String>,
    /// The scheduler's, which counts more than what the scheduler's own file says.
    scheduler: Option<String>,
}

impl Index {
    /// Reads the index of a directory; an empty one where there is none.
    ///
    /// # Errors   [`StoreError::Unsupported`](crate::StoreError) naming a component that is neither network nor
    /// scheduler, or the class of a pipeline that does not simply sample from both; those of reading JSON
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(MODEL_INDEX);
        match path.is_file() {
            true => Self::from_json(&path, &json::read(&path)?),
            false => Ok(Self::default()),
        }
    }

    fn from_json(path: &Path, keys: &Map<String, Value>) -> Result<Self> {
        let supported = "a pipeline of unet and scheduler alone: pictures in latent space need an autoencoder, and texts an \
                         encoder, which are not implemented";
        let mut others: Vec<&String> = components(keys).filter(|name| !is_ours(name)).collect();
        others.sort_by_key(|name| !AUTOENCODERS.contains(&name.as_str()));
        if let Some(&name) = others.first() {
            return Err(unsupported(path, name, &keys[name], supported));
        }
        let pipeline = keys.get("_class_name").filter(|value| !value.is_null());
        let pipeline = match pipeline.map(|value| (value, value.as_str())) {
            None => None,
            Some((_, Some(name @ ("DDPMPipeline" | "DDIMPipeline" | "PNDMPipeline")))) => {
                Some(name.to_owned())
            }
            Some((value, _)) => {
                let supported = "DDPMPipeline or DDIMPipeline";
                return Err(unsupported(path, "_class_name", value, supported));
            }
        };
        let scheduler = keys
            .get("scheduler")
            .and_then(|parts| parts.get(1)?.as_str());
        Ok(Self {
            pipeline,
            scheduler: scheduler.map(str::to_owned),
        })
    }

    /// Reads the scheduler's file as this pipeline's.
    ///
    /// # Errors   as [`Scheduler::read`]
    pub(super) fn scheduler(&self, path: &Path) -> Result<Scheduler> {
        let mut keys: Map<String, Value> = json::read_python(path)?;
        let class = match self.pipeline.as_deref() {
            // These two make their own scheduler of whichever there is.
            Some("DDIMPipeline") => Some("DDIMScheduler"),
            Some("PNDMPipeline") => Some("PNDMScheduler"),
            _ => self.scheduler.as_deref(),
        };
        if let Some(name) = class {
            keys.insert("_class_name".to_owned(), name.into());
        }
        let mut scheduler = Scheduler::from_json(path, keys)?;
        let of_pipeline = ["DDPMScheduler", "DDIMScheduler"].contains(&scheduler.class());
        if self.pipeline.as_deref() == Some("DDPMPipeline") && of_pipeline {
            let total = scheduler.network()?.schedule.steps;
            scheduler.set_steps(total.min(DDPM_PIPELINE_STEPS));
        }
        Ok(scheduler)
    }
}

/// The names of what is there: `null` and `[null, null]` are not.
fn components(keys: &Map<String, Value>) -> impl Iterator<Item = &String> {
    keys.iter()
        .filter(|(name, value)| {
            !name.starts_with('_')
                && value
                    .as_array()
                    .is_some_and(|parts| parts.iter().any(|part| !part.is_null()))
        })
        .map(|(name, _)| name)
}

fn is_ours(name: &str) -> bool {
    ["unet", "scheduler"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreError;
    use serde_json::json;

    fn read(index: Value) -> Result<Index> {
        Index::from_json(Path::new("m/model_index.json"), index.as_object().unwrap())
    }

    #[test]
    fn what_is_not_network_or_scheduler_is_named() {
        let unet = json!(["diffusers", "UNet2DModel"]);
        for (name, value) in [
            ("vae", json!(["diffusers", "AutoencoderKL"])),
            ("vqvae", json!(["diffusers", "VQModel"])),
            ("movq", json!(["diffusers", "VQModel"])),
            ("text_encoder", json!(["transformers", "CLIPTextModel"])),
            ("anything", json!(["custom", "Thing"])),
        ] {
            let index = json!({"_class_name": "DDPMPipeline", "unet": unet, name: value});
            let error = read(index).unwrap_err();
            assert!(
                matches!(&error, StoreError::Unsupported { key, .. } if key == name),
                "{error}"
            );
            assert!(error.to_string().contains("autoencoder"), "{error}");
            let absent = [json!(null), json!([null, null]), json!(true)];
            for value in absent {
                assert!(read(json!({"unet": unet, name: value})).is_ok());
            }
        }
        // The autoencoder first: it says most.
        let both = json!({"bert": ["t", "B"], "vqvae": ["d", "V"]});
        let message = read(both).unwrap_err().to_string();
        assert!(message.contains("`vqvae`"), "{message}");
    }

    #[test]
    fn classes_decide() {
        for class in [json!("KarrasVePipeline"), json!("LDMPipeline"), json!(3)] {
            let message = read(json!({"_class_name": class})).unwrap_err().to_string();
            assert!(
                message.contains("_class_name") && message.contains(&class.to_string()),
                "{message}"
            );
        }
        let [ddpm, ddim, pndm] = ["DDPMScheduler", "DDIMScheduler", "PNDMScheduler"];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler_config.json");
        for (pipeline, index, own, total, class, steps) in [
            (None, None, None, 1000, ddpm, 1000),
            (None, None, Some("DDIMScheduler"), 1000, ddim, 50),
            (
                Some("DDPMPipeline"),
                Some("DDPMScheduler"),
                None,
                1000,
                ddpm,
                1000,
            ),
            (Some("DDPMPipeline"), None, None, 4000, ddpm, 1000),
            (
                Some("DDPMPipeline"),
                None,
                Some("DDIMScheduler"),
                200,
                ddim,
                200,
            ),
            (
                Some("DDIMPipeline"),
                None,
                Some("DDPMScheduler"),
                1000,
                ddim,
                50,
            ),
            (
                None,
                Some("DDIMScheduler"),
                Some("PNDMScheduler"),
                1000,
                ddim,
                50,
            ),
            (
                Some("PNDMPipeline"),
                None,
                Some("DDIMScheduler"),
                1000,
                pndm,
                50,
            ),
        ] {
            let mut keys = json!({"num_train_timesteps": total});
            if let Some(own) = own {
                keys["_class_name"] = own.into();
            }
            json::write_pretty(&path, &keys).unwrap();
            let index = Index {
                pipeline: pipeline.map(str::to_owned),
                scheduler: index.map(str::to_owned),
            };
            let scheduler = index.scheduler(&path).unwrap();
            let taken = scheduler.choice(None).unwrap().sample.steps;
            let found = (scheduler.class(), taken);
            assert_eq!(found, (class, Some(steps)), "{index:?} {own:?}");
        }
        let index = Index {
            scheduler: Some("KarrasVeScheduler".to_owned()),
            ..Index::default()
        };
        let message = index.scheduler(&path).unwrap_err().to_string();
        assert!(message.contains("KarrasVeScheduler"), "{message}");
    }
}
