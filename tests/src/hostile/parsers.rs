//! What is done with the bytes of each format.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};
use ddpm_data::{DataConfig, DataKind, Dataset, OnBad};
use ddpm_model::OpenedModel;
use ddpm_store::checkpoint::Weights;
use ddpm_store::diffusers::Scheduler;
use ddpm_store::tensors::{list_tensors, read_sharded};
use ddpm_store::torch::TorchFile;
use ddpm_store::{
    Checkpoint, MetricsLog, NamedTensor, RunDir, TensorFile, checkpoint, last_metrics, read_metrics,
};
use serde_json::json;

use super::{Parsed, Refusal, refused};
use crate::repository;

fn write(scratch: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = scratch.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn tensor(name: &str, count: usize) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        shape: vec![count],
        data: vec![0.5; count],
    }
}

pub(super) fn safetensors(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    let path = write(scratch, "x.safetensors", bytes)?;
    let listed = list_tensors(&path);
    let read = TensorFile::read(&path);
    ensure!(
        listed.is_ok() || read.is_err(),
        "read what cannot be listed"
    );
    Ok(read.map(drop).map_err(refused))
}

pub(super) fn sharded_index(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    for (file, names) in [
        ("one.safetensors", ["w0", "w1"]),
        ("two.safetensors", ["w2", "w3"]),
    ] {
        let path = scratch.join("shards").join(file);
        if !path.is_file() {
            let tensors = names.map(|name| tensor(name, 4)).to_vec();
            TensorFile::new(tensors).write(&path)?;
        }
    }
    let path = write(scratch, "shards/x.safetensors.index.json", bytes)?;
    Ok(read_sharded(&path).map(drop).map_err(|error| {
        // The error may be about a shard, which lies beside the index.
        refused(error)
    }))
}

/// The checkpoint whose manifest is `fuzz/corpus/manifest/whole`.
pub(super) fn manifest(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    let run = scratch.join("run");
    let place = run.join("checkpoints/step-6");
    if !place.is_dir() {
        let writer = RunDir::create(&run)?;
        let checkpoint = Checkpoint {
            step: 6,
            images_seen: 24,
            config_hash: "0".repeat(64),
            metrics_bytes: 0,
            weights: vec![tensor("w", 3)],
            ema: vec![tensor("w", 3)],
            optimiser: vec![tensor("exp_avg/w", 3)],
            state: json!({ "small": true }),
            config: json!({ "_class_name": "UNet2DModel" }),
            scheduler: None,
        };
        checkpoint::save(&writer, &checkpoint)?;
        fs::write(writer.config_toml(), "seed = 0\n")?;
    }
    write(&place, "manifest.json", bytes)?;
    let opened = RunDir::open(&run)?;
    let listed = checkpoint::list(&opened)?;
    ensure!(listed.len() == 1, "{} checkpoints are listed", listed.len());
    let verified = checkpoint::verify(&place);
    let loaded = checkpoint::load(&place);
    ensure!(
        loaded.is_err() || verified.is_ok(),
        "loaded what does not verify"
    );
    Ok(loaded.map(drop).map_err(refused))
}

pub(super) fn network(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
    let folder = scratch.join("model");
    if !folder.join(WEIGHTS).is_file() {
        fs::create_dir_all(&folder)?;
        let fixture = repository().join("tests/fixtures/tiny-unet");
        fs::copy(fixture.join(WEIGHTS), folder.join(WEIGHTS))
            .with_context(|| fixture.display().to_string())?;
    }
    write(&folder, "config.json", bytes)?;
    let device = Device::flex();
    let opened = match OpenedModel::open(&folder, Some(Weights::Ema), &device) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(refused(error))),
    };
    let x = Tensor::zeros([1, opened.channels, 8, 8], &device);
    let t = Tensor::zeros([1], &device);
    let y = opened.model.forward(x, t, Default::default(), None);
    Ok(y.map(|y| drop(y.into_data())).map_err(|error| Refusal {
        message: error.to_string(),
        names_file: false,
    }))
}

pub(super) fn scheduler(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    let path = write(scratch, "scheduler_config.json", bytes)?;
    let read = Scheduler::read(&path);
    match read.and_then(|scheduler| Ok((scheduler.choice(None)?, scheduler))) {
        // What was read is the same when it is written again.
        Ok((choice, scheduler)) => {
            let again = Scheduler::from_json(&path, scheduler.to_json())?;
            ensure!(
                again.choice(None)? == choice,
                "written, it is another scheduler"
            );
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(refused(error))),
    }
}

pub(super) fn configuration(bytes: &[u8]) -> Parsed {
    let by_key = |message: String| Refusal {
        message,
        names_file: false,
    };
    let text = String::from_utf8_lossy(bytes);
    let config = ddpm_cli::configuration("x.toml", &text, &[]);
    let config = config.map_err(|error| by_key(error.to_string()))?;
    config
        .validate()
        .map(drop)
        .map_err(|error| by_key(error.to_string()))
}

/// Loads a set and takes its first and its last image.
fn load(config: &DataConfig) -> Result<(), Refusal> {
    let set = Dataset::load(config, 0, &mut |_, _| {}).map_err(refused)?;
    for index in [0, set.len() - 1] {
        set.get(index, true).map_err(refused)?;
    }
    Ok(())
}

fn config(kind: DataKind, path: &Path) -> DataConfig {
    DataConfig {
        kind,
        path: Some(path.to_owned()),
        ..DataConfig::default()
    }
}

pub(super) fn data(bytes: &[u8], scratch: &Path, kind: DataKind, name: &str) -> Result<Parsed> {
    let path = write(scratch, name, bytes)?;
    Ok(load(&config(kind, &path)))
}

/// The bytes as images, and as the labels of five images.
pub(super) fn idx(bytes: &[u8], scratch: &Path, name: &str) -> Result<Parsed> {
    let path = write(scratch, name, bytes)?;
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1];
    images.extend([1, 2, 3, 4, 5]);
    let labelled = DataConfig {
        labels: Some(path.clone()),
        ..config(DataKind::Idx, &write(scratch, "five", &images)?)
    };
    Ok(load(&config(DataKind::Idx, &path)).or_else(|refusal| load(&labelled).map_err(|_| refusal)))
}

/// Once as it is, and once without the bad images.
pub(super) fn zip(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    let path = write(scratch, "a.zip", bytes)?;
    let strict = config(DataKind::Zip, &path);
    let lenient = DataConfig {
        on_bad: OnBad::Skip,
        ..strict.clone()
    };
    Ok(load(&strict).or_else(|_| load(&lenient)))
}

pub(super) fn image(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    let path = write(scratch, "images/a.png", bytes)?;
    let folder = path.parent().unwrap_or(scratch);
    Ok(load(&config(DataKind::Folder, folder)))
}

pub(super) fn metrics(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    let path = write(scratch, "metrics.jsonl", bytes)?;
    let (all, last) = (read_metrics(&path), last_metrics(&path));
    if let (Ok(all), Ok(Some(last))) = (&all, &last) {
        ensure!(all.contains(last), "the last line is not among all lines");
    }
    // Opened for appending, whatever stands there is kept up to the last whole line.
    let kept = MetricsLog::open(&path)?.position();
    ensure!(
        kept <= bytes.len() as u64,
        "{kept} of {} bytes kept",
        bytes.len()
    );
    Ok(all.map(drop).map_err(refused))
}

pub(super) fn torch(bytes: &[u8], scratch: &Path) -> Result<Parsed> {
    let path = write(scratch, "x.pt", bytes)?;
    let file = match TorchFile::open(&path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(refused(error))),
    };
    Ok(file.root().read_tensors().map(drop).map_err(refused))
}
