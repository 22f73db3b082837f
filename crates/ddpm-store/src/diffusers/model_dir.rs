//! A network and its noise schedule as a directory that diffusers writes and reads.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::names;
use super::scheduler::SchedulerSettings;
use crate::error::{Result, StoreError};
use crate::json;
use crate::tensors::{self, NamedTensor, PICKLE, TensorFile};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const WEIGHTS_INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";
const PICKLED_WEIGHTS: &str = "diffusion_pytorch_model.bin";
const SCHEDULER_CONFIG: &str = "scheduler_config.json";
/// The release whose formats are written.
const DIFFUSERS_VERSION: &str = "0.42.1";

/// What a model directory holds.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusersModel {
    /// The network's `config.json` as it is.
    pub config: Map<String, Value>,
    /// Its weights, under diffusers' present names.
    pub tensors: TensorFile,
    /// The noise schedule, where one is there.
    pub scheduler: Option<SchedulerSettings>,
    /// Where `config.json` and the weights lie.
    pub unet_dir: PathBuf,
}

impl DiffusersModel {
    /// Reads a pipeline (`unet/`, `scheduler/`) or a flat directory (`config.json`, weights and perhaps
    /// `scheduler_config.json` side by side).
    ///
    /// # Errors   [`StoreError::Missing`] for a directory that is neither, [`StoreError::Format`] and
    /// [`StoreError::Tensor`] for broken files (pickles among them), [`StoreError::Unsupported`] for a
    /// scheduler value, [`StoreError::Io`]
    pub fn read(directory: &Path) -> Result<Self> {
        let unet_dir = locate(directory)?;
        let config = json::read(&unet_dir.join(CONFIG))?;
        let mut tensors = read_weights(&unet_dir)?;
        tensors.tensors = tensors.tensors.into_iter().map(names::modernise).collect();
        // An old and a new name of one parameter would meet here.
        tensors::check(&unet_dir, &tensors.tensors)?;
        let places = [
            directory.join("scheduler").join(SCHEDULER_CONFIG),
            directory.join(SCHEDULER_CONFIG),
        ];
        let scheduler = match places.iter().find(|path| path.is_file()) {
            Some(path) => Some(SchedulerSettings::read(path)?),
            None => None,
        };
        Ok(Self {
            config,
            tensors,
            scheduler,
            unet_dir,
        })
    }
}

fn locate(directory: &Path) -> Result<PathBuf> {
    let places = [directory.join("unet"), directory.to_owned()];
    let found = places
        .into_iter()
        .find(|place| place.join(CONFIG).is_file());
    found.ok_or_else(|| StoreError::Missing {
        path: directory.to_owned(),
        what: "unet/config.json or config.json".to_owned(),
        hint: "give a directory that diffusers' save_pretrained wrote".to_owned(),
    })
}

fn read_weights(unet_dir: &Path) -> Result<TensorFile> {
    let path = unet_dir.join(WEIGHTS);
    if path.is_file() {
        return TensorFile::read(&path);
    }
    let index = unet_dir.join(WEIGHTS_INDEX);
    if index.is_file() {
        return tensors::read_sharded(&index);
    }
    let pickle = unet_dir.join(PICKLED_WEIGHTS);
    if pickle.is_file() {
        return Err(StoreError::format(&pickle, "safetensors", PICKLE));
    }
    Err(StoreError::Missing {
        path,
        what: "the weights".to_owned(),
        hint: "copy them there, or save the model with safe_serialization=True".to_owned(),
    })
}

/// Writes a pipeline directory that Python's `DDPMPipeline.from_pretrained` loads; each file atomically,
/// the index that makes it a pipeline last.
///
/// # Errors   [`StoreError::Tensor`] for tensors that cannot be stored, [`StoreError::Format`] for a
/// schedule that is not valid, [`StoreError::Io`]
pub fn write_pipeline(
    directory: &Path,
    config: &Map<String, Value>,
    weights: &[NamedTensor],
    scheduler: &SchedulerSettings,
) -> Result<()> {
    let mut config = config.clone();
    let class = config
        .entry("_class_name")
        .or_insert_with(|| json!("UNet2DModel"))
        .clone();
    config.insert("_diffusers_version".to_owned(), json!(DIFFUSERS_VERSION));
    let unet_dir = directory.join("unet");
    let tensors = TensorFile::new(weights.to_vec());
    tensors.write(&unet_dir.join(WEIGHTS))?;
    json::write_pretty(&unet_dir.join(CONFIG), &config)?;
    let path = directory.join("scheduler").join(SCHEDULER_CONFIG);
    let mut settings = scheduler.to_json(&path)?;
    settings.insert("_diffusers_version".to_owned(), json!(DIFFUSERS_VERSION));
    json::write_pretty(&path, &settings)?;
    let index = json!({
        "_class_name": "DDPMPipeline",
        "_diffusers_version": DIFFUSERS_VERSION,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", class],
    });
    json::write_pretty(&directory.join("model_index.json"), &index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ddpm_schedule::{ScheduleConfig, ScheduleKind};
    use std::fs;

    fn weights(names: &[&str]) -> Vec<NamedTensor> {
        let tensor = |(index, name): (usize, &&str)| NamedTensor {
            name: (*name).to_owned(),
            shape: vec![2, 2],
            data: (0..4).map(|k| (index * 4 + k) as f32 / 3.0).collect(),
        };
        names.iter().enumerate().map(tensor).collect()
    }

    fn config() -> Map<String, Value> {
        let config =
            json!({"block_out_channels": [16, 32], "sample_size": 8, "mid_block_type": null});
        config.as_object().unwrap().clone()
    }

    #[test]
    fn a_pipeline_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("model");
        let weights = weights(&["conv_in.weight", "mid_block.attentions.0.to_q.weight"]);
        let schedule = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps: 50,
            ..Default::default()
        };
        let settings = SchedulerSettings {
            schedule,
            ..Default::default()
        };
        write_pipeline(&directory, &config(), &weights, &settings).unwrap();

        let model = DiffusersModel::read(&directory).unwrap();
        assert_eq!(model.tensors.tensors, weights);
        assert_eq!(model.scheduler.as_ref(), Some(&settings));
        assert_eq!(model.unet_dir, directory.join("unet"));
        assert_eq!(model.config["_class_name"], "UNet2DModel");
        for (key, value) in config() {
            assert_eq!(model.config[&key], value);
        }
        let index: Value = json::read(&directory.join("model_index.json")).unwrap();
        assert_eq!(index["scheduler"], json!(["diffusers", "DDPMScheduler"]));
        assert_eq!(index["_class_name"], "DDPMPipeline");

        // The same files side by side, as older repositories have them.
        let flat = root.path().join("flat");
        fs::create_dir(&flat).unwrap();
        for file in [
            "unet/config.json",
            "scheduler/scheduler_config.json",
            &format!("unet/{WEIGHTS}"),
        ] {
            fs::copy(
                directory.join(file),
                flat.join(Path::new(file).file_name().unwrap()),
            )
            .unwrap();
        }
        let flat_model = DiffusersModel::read(&flat).unwrap();
        assert_eq!(
            flat_model,
            DiffusersModel {
                unet_dir: flat.clone(),
                ..model
            }
        );
        fs::remove_file(flat.join(SCHEDULER_CONFIG)).unwrap();
        assert_eq!(DiffusersModel::read(&flat).unwrap().scheduler, None);
    }

    #[test]
    fn old_names_are_read_and_must_not_meet_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(WEIGHTS);
        json::write_pretty(&directory.path().join(CONFIG), &config()).unwrap();
        let old = ["mid_block.attentions.0.proj_attn.weight"];
        TensorFile::new(weights(&old)).write(&path).unwrap();
        let model = DiffusersModel::read(directory.path()).unwrap();
        assert!(
            model
                .tensors
                .get("mid_block.attentions.0.to_out.0.weight")
                .is_some()
        );

        let both = [old[0], "mid_block.attentions.0.to_out.0.weight"];
        TensorFile::new(weights(&both)).write(&path).unwrap();
        let refused = DiffusersModel::read(directory.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Tensor { .. }), "{refused}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let message = |expected: &str| {
            let message = DiffusersModel::read(directory.path())
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        };
        message("config.json");
        json::write_pretty(&directory.path().join(CONFIG), &config()).unwrap();
        message("the weights not found");
        fs::write(directory.path().join(PICKLED_WEIGHTS), "x").unwrap();
        message("pickle");
        fs::write(directory.path().join(CONFIG), "[1, 2").unwrap();
        message("not valid JSON");
    }

    #[test]
    fn shards_are_put_together() {
        let directory = tempfile::tempdir().unwrap();
        json::write_pretty(&directory.path().join(CONFIG), &config()).unwrap();
        let all = weights(&["a", "b", "c"]);
        let file = |k: usize| format!("diffusion_pytorch_model-0000{k}-of-00002.safetensors");
        let write = |k: usize, part: &[NamedTensor]| {
            TensorFile::new(part.to_vec())
                .write(&directory.path().join(file(k)))
                .unwrap();
        };
        write(1, &all[..2]);
        write(2, &all[2..]);
        let index = directory.path().join(WEIGHTS_INDEX);
        let map = |third: &str| json!({"weight_map": {"a": file(1), "b": file(1), "c": third}});
        json::write_pretty(&index, &map(&file(2))).unwrap();
        assert_eq!(
            DiffusersModel::read(directory.path())
                .unwrap()
                .tensors
                .tensors,
            all
        );

        json::write_pretty(&index, &map(&file(1))).unwrap();
        let message = DiffusersModel::read(directory.path())
            .unwrap_err()
            .to_string();
        assert!(message.contains("`c`"), "{message}");
        json::write_pretty(&index, &map("../secret.safetensors")).unwrap();
        let message = DiffusersModel::read(directory.path())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("not the name of a file beside it"),
            "{message}"
        );
    }
}
