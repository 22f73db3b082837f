//! Checkpoints: a training state that is on disk in whole, or is not there.
//!
//! The protocol: every file is written into `checkpoints/.tmp-step-N-PID/` and fsynced, then
//! `manifest.json` with their lengths and digests, then the directory is fsynced, renamed to `step-N`,
//! and its parent is fsynced. Which checkpoint is the latest is computed, never stored.
//!
//! ```text
//! step-1200/manifest.json  state.json  optimiser.safetensors
//! step-1200/unet/config.json  unet/diffusion_pytorch_model.safetensors
//! step-1200/ema/config.json   ema/diffusion_pytorch_model.safetensors     (where there is an EMA)
//! step-1200/model_index.json  scheduler/scheduler_config.json             (where diffusers has such a scheduler)
//! ```
//! so that a checkpoint is also a model directory that diffusers reads.

mod manifest;
mod retention;

#[cfg(test)]
#[cfg(feature = "faults")]
mod power;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use self::retention::{Retention, prune, remove_damaged, remove_superseded, supersede};
pub(crate) use self::retention::{move_aside, move_away, sweep};

use self::manifest::Manifest;
use crate::atomic::DirCommit;
use crate::diffusers;
use crate::error::{Instead, Result, StoreError};
use crate::io as disk;
use crate::json;
use crate::run_dir::{RunDir, RunWriter};
use crate::tensors::{self, NamedTensor, TensorFile};

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const OPTIMISER: &str = "optimiser.safetensors";
const WEIGHTS: [&str; 2] = [
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
];
/// What makes a pipeline of `unet/`.
const PIPELINE: [&str; 2] = ["scheduler/scheduler_config.json", "model_index.json"];
const EMA: [&str; 2] = ["ema/config.json", "ema/diffusion_pytorch_model.safetensors"];

/// A training state.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Optimiser updates done.
    pub step: u64,
    /// Images trained on.
    pub images_seen: u64,
    /// Digest of the configuration that decides what a run is, for whoever resumes to compare.
    pub config_hash: String,
    /// Length of the metric log at this step.
    pub metrics_bytes: u64,
    /// The network's parameters.
    pub weights: Vec<NamedTensor>,
    /// Their moving average; empty without one.
    pub ema: Vec<NamedTensor>,
    /// The optimiser's moments, named e.g. `exp_avg/conv_in.weight`, and further averages; may be empty.
    pub optimiser: Vec<NamedTensor>,
    /// Whatever small state the trainer keeps besides.
    pub state: Value,
    /// The network's `config.json`.
    pub config: Value,
    /// diffusers' `scheduler_config.json` for this run, where there is one.
    pub scheduler: Option<Value>,
}

/// A directory `step-N` of a run.
#[derive(Debug)]
pub struct CheckpointInfo {
    /// The step of its name.
    pub step: u64,
    /// The directory.
    pub path: PathBuf,
    /// What is wrong with its manifest or the lengths of its files. `None` does not prove the contents:
    /// [`verify`] does.
    pub problem: Option<StoreError>,
}

/// What a manifest says of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// Optimiser updates done.
    pub step: u64,
    /// Images trained on.
    pub images_seen: u64,
    /// Digest of the configuration.
    pub config_hash: String,
    /// Length of the metric log.
    pub metrics_bytes: u64,
    /// Whether there are EMA weights.
    pub has_ema: bool,
    /// Bytes of all files together, without the manifest.
    pub bytes: u64,
}

/// Commits a checkpoint to `RUN/checkpoints/step-N` and returns that path.
///
/// An equal one that is already there is kept; another one of that step (torn, or of an earlier try) is
/// replaced.
///
/// # Errors   [`StoreError::Tensor`] for tensors that cannot be stored, [`StoreError::Io`]; the earlier
/// checkpoints are untouched then
pub fn save(run: &RunWriter, checkpoint: &Checkpoint) -> Result<PathBuf> {
    let name = format!("step-{}", checkpoint.step);
    let mut commit = DirCommit::begin(&run.checkpoints(), &name)?;
    let target = commit.target().to_owned();
    let manifest = write_all(&mut commit, checkpoint)?;
    let aside = match verified(&target) {
        Ok(old) if old == manifest => return Ok(target),
        _ if target.exists() => Some(move_aside(&target)?),
        _ => None,
    };
    let path = commit.commit()?;
    if let Some(aside) = aside {
        disk::remove_dir_all(&aside)?;
    }
    Ok(path)
}

/// Commits a checkpoint to a path that is free, outside of any run: a model directory.
///
/// # Errors   [`StoreError::Occupied`], [`StoreError::Tensor`], [`StoreError::Io`]
pub fn export(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    if path.exists() {
        return Err(StoreError::Occupied {
            path: path.to_owned(),
            what: "something is already there",
        });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut commit = DirCommit::begin(crate::atomic::parent(path), &name)?;
    write_all(&mut commit, checkpoint)?;
    commit.commit()?;
    Ok(())
}

/// Writes all files of a checkpoint, its manifest last.
fn write_all(commit: &mut DirCommit, checkpoint: &Checkpoint) -> Result<Manifest> {
    let target = commit.target().to_owned();
    let mut files = BTreeMap::new();

    let config = json::to_bytes(&target, &checkpoint.config)?;
    let state = json::to_bytes(&target, &checkpoint.state)?;
    let pipeline = match &checkpoint.scheduler {
        None => None,
        Some(scheduler) => {
            let class = |json: &Value| json.get("_class_name").cloned().unwrap_or_default();
            let index = diffusers::pipeline_index(&class(scheduler), &class(&checkpoint.config));
            Some([
                json::to_bytes(&target, scheduler)?,
                json::to_bytes(&target, &index)?,
            ])
        }
    };
    let mut texts = vec![(STATE, &state), (WEIGHTS[0], &config)];
    texts.extend(PIPELINE.into_iter().zip(pipeline.iter().flatten()));
    let mut weights = vec![
        (WEIGHTS[1], &checkpoint.weights),
        (OPTIMISER, &checkpoint.optimiser),
    ];
    if !checkpoint.ema.is_empty() {
        texts.push((EMA[0], &config));
        weights.push((EMA[1], &checkpoint.ema));
    }
    for (name, bytes) in texts {
        files.insert(
            name.to_owned(),
            commit.write(name, |out| out.write_all(bytes))?,
        );
    }
    for (name, tensors) in weights {
        tensors::check(&target.join(name), tensors)?;
        let record = commit.write(name, |out| {
            tensors::write_to(out, tensors, &BTreeMap::new())
        })?;
        files.insert(name.to_owned(), record);
    }

    let manifest = Manifest::new(checkpoint, files);
    let bytes = manifest.to_bytes(&target)?;
    commit.write(MANIFEST, |out| out.write_all(&bytes))?;
    Ok(manifest)
}

/// The checkpoints of a run by rising step, each with a first look at its manifest and file lengths.
///
/// # Errors   [`StoreError::Io`] if the directory cannot be listed
pub fn list(run: &RunDir) -> Result<Vec<CheckpointInfo>> {
    list_in(&run.checkpoints())
}

fn list_in(directory: &Path) -> Result<Vec<CheckpointInfo>> {
    let mut found = Vec::new();
    for path in disk::read_dir_sorted(directory)? {
        if let Some(step) = step_of(&path).filter(|_| path.is_dir()) {
            let problem = Manifest::read(&path).and_then(|manifest| manifest.check_lengths(&path));
            found.push(CheckpointInfo {
                step,
                path,
                problem: problem.err(),
            });
        }
    }
    found.sort_by_key(|info| info.step);
    Ok(found)
}

/// The step of a directory named `step-N`, in the one spelling that [`save`] uses.
pub(crate) fn step_of(path: &Path) -> Option<u64> {
    let number = path.file_name()?.to_str()?.strip_prefix("step-")?;
    number
        .parse()
        .ok()
        .filter(|step: &u64| step.to_string() == number)
}

/// Checks a checkpoint's every byte.
///
/// # Errors   [`StoreError::Checkpoint`] naming the first file that differs from the manifest,
/// [`StoreError::Schema`], [`StoreError::Io`]
pub fn verify(path: &Path) -> Result<CheckpointSummary> {
    Ok(verified(path)?.summary())
}

/// What a checkpoint's manifest says, its files' lengths checked and their contents not.
///
/// # Errors   as [`verify`]
pub fn summary(path: &Path) -> Result<CheckpointSummary> {
    let manifest = Manifest::read(path)?;
    manifest.check_lengths(path)?;
    Ok(manifest.summary())
}

fn verified(path: &Path) -> Result<Manifest> {
    let manifest = Manifest::read(path)?;
    manifest.check_lengths(path)?;
    manifest.check_contents(path)?;
    Ok(manifest)
}

/// As [`verified`], and a failure says which checkpoint can be used instead.
fn verified_or_advice(path: &Path) -> Result<Manifest> {
    verified(path).map_err(|error| match error {
        StoreError::Checkpoint { path, problem, .. } => {
            let instead = sound_beside(&path);
            StoreError::Checkpoint {
                path,
                problem,
                instead,
            }
        }
        other => other,
    })
}

/// The newest sound checkpoint before a damaged one, or else the newest after it.
fn sound_beside(path: &Path) -> Instead {
    let siblings = step_of(path).zip(path.parent()).and_then(|(step, parent)| {
        let (earlier, later): (Vec<_>, Vec<_>) = list_in(parent)
            .ok()?
            .into_iter()
            .filter(|info| info.step != step)
            .partition(|info| info.step < step);
        Some(earlier.into_iter().rev().chain(later.into_iter().rev()))
    });
    let sound = siblings.and_then(|mut all| all.find(|info| verified(&info.path).is_ok()));
    sound.map_or(Instead::Nothing, |info| Instead::Step(info.step))
}

/// The checkpoint of one step, which must be there.
///
/// # Errors   [`StoreError::Missing`] naming the steps that there are
pub fn at_step(run: &RunDir, step: u64) -> Result<PathBuf> {
    let path = run.checkpoint(step);
    if path.is_dir() {
        return Ok(path);
    }
    let steps: Vec<String> = list(run)?
        .iter()
        .map(|info| info.step.to_string())
        .collect();
    Err(StoreError::Missing {
        path,
        what: "the checkpoint".to_owned(),
        hint: match steps.as_slice() {
            [] => "this run has none yet".to_owned(),
            steps => format!("this run has those of steps {}", steps.join(", ")),
        },
    })
}

/// Loads a checkpoint after verifying its every byte.
///
/// # Errors   [`StoreError::Checkpoint`] naming the file and the earlier step to resume from,
/// [`StoreError::Schema`], [`StoreError::Io`]
pub fn load(path: &Path) -> Result<Checkpoint> {
    let manifest = verified_or_advice(path)?;
    let summary = manifest.summary();
    let ema = match summary.has_ema {
        true => TensorFile::read(&path.join(EMA[1]))?.tensors,
        false => Vec::new(),
    };
    Ok(Checkpoint {
        step: summary.step,
        images_seen: summary.images_seen,
        config_hash: summary.config_hash,
        metrics_bytes: summary.metrics_bytes,
        weights: TensorFile::read(&path.join(WEIGHTS[1]))?.tensors,
        ema,
        optimiser: TensorFile::read(&path.join(OPTIMISER))?.tensors,
        state: json::read(&path.join(STATE))?,
        config: json::read(&path.join(WEIGHTS[0]))?,
        scheduler: match manifest.lists(PIPELINE[0]) {
            true => Some(json::read(&path.join(PIPELINE[0]))?),
            false => None,
        },
    })
}

/// Which of a checkpoint's weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Weights {
    /// The moving average, or the plain ones where there is none.
    #[default]
    Ema,
    /// Those that are trained.
    Raw,
}

/// What sampling needs of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct ForSampling {
    /// Optimiser updates done.
    pub step: u64,
    /// The trainer's small state.
    pub state: Value,
    /// The network's `config.json`.
    pub config: Value,
    /// The weights that were asked for.
    pub weights: Vec<NamedTensor>,
    /// Whether they are the moving average.
    pub averaged: bool,
}

/// Loads what sampling needs, without the moments. Verified as by [`load`].
///
/// # Errors   as [`load`]; [`StoreError::Tensor`] for weights that are not finite
pub fn load_for_sampling(path: &Path, which: Weights) -> Result<ForSampling> {
    let manifest = verified_or_advice(path)?;
    let summary = manifest.summary();
    let averaged = which == Weights::Ema && summary.has_ema;
    let [config, weights] = if averaged { EMA } else { WEIGHTS };
    let weights = path.join(weights);
    let tensors = TensorFile::read(&weights)?.tensors;
    tensors::check_finite(&weights, &tensors)?;
    Ok(ForSampling {
        step: summary.step,
        state: json::read(&path.join(STATE))?,
        config: json::read(&path.join(config))?,
        weights: tensors,
        averaged,
    })
}

/// The checkpoint of the highest step that verifies, with a warning for every later one that does not.
///
/// # Errors   that of the newest one if there are checkpoints and none is valid
pub fn latest_valid(run: &RunDir) -> Result<Option<PathBuf>> {
    let mut damaged = Vec::new();
    for info in list(run)?.into_iter().rev() {
        match verified(&info.path) {
            Ok(_) => {
                for error in damaged {
                    tracing::warn!("{error}; falling back to step-{}", info.step);
                }
                return Ok(Some(info.path));
            }
            Err(error) => damaged.push(error),
        }
    }
    match damaged.into_iter().next() {
        None => Ok(None),
        // Nothing beside it is sound: that has just been looked at.
        Some(StoreError::Checkpoint { path, problem, .. }) => Err(StoreError::Checkpoint {
            path,
            problem,
            instead: Instead::Nothing,
        }),
        Some(other) => Err(other),
    }
}
