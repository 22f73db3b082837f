//! Pipeline directories, as Python's `DDPMPipeline.from_pretrained` loads them, written.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::scheduler::{DIFFUSERS_VERSION, Scheduler};
use crate::atomic::{self, DirCommit};
use crate::error::{Result, StoreError};
use crate::json;
use crate::tensors::{self, NamedTensor, TensorFile};

const WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";

/// Writes a pipeline; each file atomically, the index that makes it a pipeline last.
///
/// # Errors   [`StoreError::Tensor`] for tensors that cannot be stored, [`StoreError::Io`]
pub fn write_pipeline(
    directory: &Path,
    config: &Map<String, Value>,
    weights: &[NamedTensor],
    scheduler: &Scheduler,
) -> Result<()> {
    TensorFile::new(weights.to_vec()).write(&directory.join(WEIGHTS))?;
    for (name, json) in files(config, scheduler) {
        json::write_pretty(&directory.join(name), &json)?;
    }
    Ok(())
}

/// Writes a pipeline with further files in it, by their names; the directory is there when all of it is.
///
/// # Errors   [`StoreError::Occupied`] if something has that name, [`StoreError::Tensor`], [`StoreError::Io`]
pub fn export_pipeline(
    directory: &Path,
    config: &Map<String, Value>,
    weights: &[NamedTensor],
    scheduler: &Scheduler,
    further: &[(&str, &[u8])],
) -> Result<()> {
    if std::fs::symlink_metadata(directory).is_ok() {
        return Err(StoreError::Occupied {
            path: directory.to_owned(),
            what: "something is already there",
        });
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let mut commit = DirCommit::begin(atomic::parent(directory), &name)?;
    tensors::check(&directory.join(WEIGHTS), weights)?;
    commit.write(WEIGHTS, |out| {
        tensors::write_to(out, weights, &BTreeMap::new())
    })?;
    for (name, json) in files(config, scheduler) {
        let bytes = json::to_bytes(&directory.join(name), &json)?;
        commit.write(name, |out| out.write_all(&bytes))?;
    }
    for (name, bytes) in further {
        commit.write(name, |out| out.write_all(bytes))?;
    }
    commit.commit()?;
    Ok(())
}

/// The texts of a pipeline, the index last.
fn files(config: &Map<String, Value>, scheduler: &Scheduler) -> [(&'static str, Value); 3] {
    let mut config = config.clone();
    let class = config
        .entry("_class_name")
        .or_insert_with(|| json!("UNet2DModel"))
        .clone();
    config.insert("_diffusers_version".to_owned(), json!(DIFFUSERS_VERSION));
    [
        ("unet/config.json", Value::Object(config)),
        (
            "scheduler/scheduler_config.json",
            Value::Object(scheduler.to_json()),
        ),
        ("model_index.json", index(&json!(scheduler.class()), &class)),
    ]
}

/// `model_index.json` of a network and a scheduler of these classes.
pub(crate) fn index(scheduler: &Value, unet: &Value) -> Value {
    let pipeline = match scheduler.as_str() {
        Some("DDIMScheduler") => "DDIMPipeline",
        // For those that it cannot drive it is a way of loading both.
        _ => "DDPMPipeline",
    };
    json!({
        "_class_name": pipeline,
        "_diffusers_version": DIFFUSERS_VERSION,
        "scheduler": ["diffusers", scheduler],
        "unet": ["diffusers", unet],
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::DiffusersModel;

    #[test]
    fn an_export_is_there_in_whole_and_replaces_nothing() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("digits.v1");
        let weights = [NamedTensor {
            name: "conv_in.weight".into(),
            shape: vec![2],
            data: vec![0.5, -1.0],
        }];
        let config = Map::from_iter([("sample_size".to_owned(), json!(8))]);
        let scheduler = Scheduler::from_json(&directory, Map::new()).unwrap();
        let export = |further: &[(&str, &[u8])]| {
            export_pipeline(&directory, &config, &weights, &scheduler, further)
        };
        let unusable = [NamedTensor {
            shape: vec![3],
            ..weights[0].clone()
        }];
        let refused = export_pipeline(&directory, &config, &unusable, &scheduler, &[]);
        assert!(matches!(refused, Err(StoreError::Tensor { .. })));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

        export(&[("README.md", b"a card")]).unwrap();
        assert_eq!(fs::read(directory.join("README.md")).unwrap(), b"a card");
        let read = DiffusersModel::read(&directory).unwrap();
        assert_eq!(read.tensors.tensors, weights);
        assert_eq!(read.config["sample_size"], 8);
        let plain = root.path().join("plain");
        write_pipeline(&plain, &config, &weights, &scheduler).unwrap();
        for file in ["model_index.json", "unet/config.json", WEIGHTS] {
            let both = [&directory, &plain].map(|place| fs::read(place.join(file)).unwrap());
            assert_eq!(both[0], both[1], "{file}");
        }

        fs::write(directory.join("README.md"), "mine by now").unwrap();
        let refused = export(&[("README.md", b"a card")]).unwrap_err();
        assert!(matches!(refused, StoreError::Occupied { .. }), "{refused}");
        assert_eq!(
            fs::read(directory.join("README.md")).unwrap(),
            b"mine by now"
        );
    }
}
