//! Snapshots of tracked averages of the weights, of which others are made after training.
//!
//! ```text
//! RUN/ema/step-1200/sigma_rel-0.05.safetensors  sigma_rel-0.1.safetensors
//! ```
//! A directory is there in whole or not at all. Each file's metadata say its `sigma_rel`, `step` and `images_seen`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::atomic::DirCommit;
use crate::checkpoint::{move_aside, move_away, step_of};
use crate::error::{Result, StoreError};
use crate::io as disk;
use crate::run_dir::{RunDir, RunWriter};
use crate::tensors::{self, NamedTensor, list_tensors};

const SIGMA_REL: &str = "sigma_rel";
const STEP: &str = "step";
const IMAGES_SEEN: &str = "images_seen";

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct AverageFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The relative length of the average.
    pub sigma_rel: f64,
    /// Optimiser steps done.
    pub step: u64,
    /// Images trained on.
    pub images_seen: u64,
}

/// Commits a snapshot to `RUN/ema/step-N` and returns that path; one that is there is replaced.
///
/// # Errors   [`StoreError::Tensor`] for tensors that cannot be stored, [`StoreError::Io`]
pub fn save(
    run: &RunWriter,
    step: u64,
    images_seen: u64,
    averages: &[(f64, Vec<NamedTensor>)],
) -> Result<PathBuf> {
    let mut commit = DirCommit::begin(&run.ema(), &format!("step-{step}"))?;
    let target = commit.target().to_owned();
    for (sigma_rel, average) in averages {
        let name = format!("{SIGMA_REL}-{sigma_rel}.safetensors");
        tensors::check(&target.join(&name), average)?;
        let said: [(&str, &dyn Display); 3] = [
            (SIGMA_REL, sigma_rel),
            (STEP, &step),
            (IMAGES_SEEN, &images_seen),
        ];
        let metadata = said.map(|(key, value)| (key.to_owned(), value.to_string()));
        let metadata = BTreeMap::from(metadata);
        commit.write(&name, |out| tensors::write_to(out, average, &metadata))?;
    }
    let aside = match target.exists() {
        true => Some(move_aside(&target)?),
        false => None,
    };
    let path = commit.commit()?;
    if let Some(aside) = aside {
        disk::remove_dir_all(&aside)?;
    }
    Ok(path)
}

/// The files of all snapshots of a run, by rising step and name.
///
/// # Errors   [`StoreError::Format`] for a file that is not one of a snapshot, [`StoreError::Io`]
pub fn list(run: &RunDir) -> Result<Vec<AverageFile>> {
    let mut found = Vec::new();
    for (step, directory) in snapshots(run)? {
        for path in disk::read_dir_sorted(&directory)? {
            found.push(described(path, step)?);
        }
    }
    Ok(found)
}

/// Moves the snapshots after step `last` out of the way, to `ema/superseded/`: the run goes on from `last`, and what it
/// makes anew must not be mixed with them.
///
/// # Errors   [`StoreError::Io`]
pub fn supersede(run: &RunWriter, last: u64) -> Result<()> {
    let later: Vec<PathBuf> = snapshots(run)?
        .into_iter()
        .filter_map(|(step, path)| (step > last).then_some(path))
        .collect();
    move_away(&later, &run.ema().join("superseded"))
}

/// Their steps and directories, by rising step.
fn snapshots(run: &RunDir) -> Result<Vec<(u64, PathBuf)>> {
    let paths = disk::read_dir_sorted(&run.ema())?.into_iter();
    let steps = paths.filter(|path| path.is_dir());
    let mut found: Vec<_> = steps
        .filter_map(|path| Some((step_of(&path)?, path)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

fn described(path: PathBuf, step: u64) -> Result<AverageFile> {
    let metadata = list_tensors(&path)?.metadata;
    let images_seen = said(&path, &metadata, IMAGES_SEEN)?;
    let sigma_rel = said(&path, &metadata, SIGMA_REL)?;
    match said::<u64>(&path, &metadata, STEP)? == step {
        true => Ok(AverageFile {
            path,
            sigma_rel,
            step,
            images_seen,
        }),
        false => {
            let problem = "it is of another step than its directory";
            Err(StoreError::format(&path, FORMAT, problem))
        }
    }
}

const FORMAT: &str = "snapshot of an average";

fn said<T: FromStr>(path: &Path, metadata: &BTreeMap<String, String>, key: &str) -> Result<T> {
    let value = metadata.get(key).and_then(|text| text.parse().ok());
    value.ok_or_else(|| {
        let problem = format!("its metadata do not say `{key}`; remove its directory");
        StoreError::format(path, FORMAT, problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::TensorFile;

    fn average(value: f32) -> Vec<NamedTensor> {
        vec![NamedTensor {
            name: "w".to_owned(),
            shape: vec![2],
            data: vec![value, 1.0],
        }]
    }

    #[test]
    fn snapshots_are_listed_replaced_and_moved_away() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path().join("run")).unwrap();
        assert_eq!(list(&run).unwrap(), []);
        supersede(&run, 0).unwrap();
        assert!(!run.ema().exists());
        for (step, value) in [(10, 1.0), (9, 0.5), (20, 2.0), (10, 3.0)] {
            let averages = [(0.05, average(value)), (0.1, average(-value))];
            save(&run, step, 4 * step, &averages).unwrap();
        }
        let found = list(&run).unwrap();
        let short = found.iter().map(|f| (f.step, f.images_seen, f.sigma_rel));
        assert_eq!(
            short.collect::<Vec<_>>(),
            [
                (9, 36, 0.05),
                (9, 36, 0.1),
                (10, 40, 0.05),
                (10, 40, 0.1),
                (20, 80, 0.05),
                (20, 80, 0.1)
            ]
        );
        let read = TensorFile::read(&found[2].path).unwrap();
        assert_eq!(read.tensors, average(3.0));

        supersede(&run, 10).unwrap();
        assert_eq!(list(&run).unwrap(), found[..4]);
        assert!(run.ema().join("superseded/step-20").is_dir());
        // Again, with one that was moved before.
        save(&run, 20, 80, &[(0.05, average(2.0))]).unwrap();
        supersede(&run, 0).unwrap();
        assert_eq!(list(&run).unwrap(), []);
    }

    #[test]
    fn a_file_of_something_else_is_named() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path().join("run")).unwrap();
        let path = save(&run, 3, 12, &[(0.05, average(1.0))]).unwrap();
        TensorFile::new(average(1.0))
            .write(&path.join("other.safetensors"))
            .unwrap();
        let error = list(&run).unwrap_err().to_string();
        assert!(
            error.contains("other.safetensors") && error.contains("`images_seen`"),
            "{error}"
        );
        std::fs::remove_file(path.join("other.safetensors")).unwrap();
        std::fs::rename(&path, run.ema().join("step-4")).unwrap();
        let error = list(&run).unwrap_err().to_string();
        assert!(error.contains("another step"), "{error}");
    }
}
