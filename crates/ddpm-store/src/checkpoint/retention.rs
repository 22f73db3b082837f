//! Which checkpoints go, and what a crash in the middle of that leaves.

use std::path::{Path, PathBuf};

use super::{list, verified, verified_or_advice};
use crate::atomic::{self, TEMPORARY_PREFIX};
use crate::error::Result;
use crate::io as disk;
use crate::run_dir::RunWriter;

const REPLACED_PREFIX: &str = ".replaced-";

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many, at least one.
    pub keep: usize,
    /// Besides those, every one whose step is a multiple of this; 0 keeps none besides.
    pub keep_every: u64,
    /// And the one of this step, whose samples were best.
    pub best: Option<u64>,
}

impl Retention {
    fn keeps(self, step: u64, sound_newer: usize) -> bool {
        sound_newer < self.keep.max(1)
            || (self.keep_every > 0 && step.is_multiple_of(self.keep_every))
            || self.best == Some(step)
    }
}

/// Removes what `retention` does not keep among the checkpoints up to step `newest`, and returns the removed paths.
///
/// Damaged ones do not count towards `keep`, and go with their elders. Later ones are not looked at: they are there
/// only where training went on from an earlier checkpoint because they are damaged, and it will replace them.
///
/// # Errors   [`crate::StoreError::Checkpoint`] if `newest` does not verify: then nothing is removed;
/// [`crate::StoreError::Io`]
pub fn prune(run: &RunWriter, retention: Retention, newest: u64) -> Result<Vec<PathBuf>> {
    verified_or_advice(&run.checkpoint(newest))?;
    let mut sound = 0;
    let mut removed = Vec::new();
    let infos = list(run)?;
    for info in infos.iter().rev().filter(|info| info.step <= newest) {
        if !retention.keeps(info.step, sound) {
            remove(&info.path)?;
            removed.push(info.path.clone());
        }
        if info.problem.is_none() {
            sound += 1;
        }
    }
    Ok(removed)
}

/// Moves the checkpoints after step `last` out of the way, to `checkpoints/superseded/`, because the run goes on
/// from `last` on purpose. Returns how many there were.
///
/// The highest goes first: interrupted, the rest are still the run's, in order.
///
/// # Errors   [`crate::StoreError::Io`]
pub fn supersede(run: &RunWriter, last: u64) -> Result<usize> {
    let later: Vec<_> = list(run)?
        .into_iter()
        .filter(|info| info.step > last)
        .collect();
    let paths: Vec<PathBuf> = later.into_iter().map(|info| info.path).collect();
    move_away(&paths, &run.superseded())?;
    Ok(paths.len())
}

/// Moves directories from beside `place` into it, the last one first; what is there under their names goes.
pub(crate) fn move_away(paths: &[PathBuf], place: &Path) -> Result<()> {
    for path in paths.iter().rev() {
        disk::create_dir_all(place)?;
        let aside = place.join(path.file_name().unwrap_or_default());
        if aside.exists() {
            disk::remove_dir_all(&aside)?;
        }
        disk::rename(path, &aside)?;
    }
    if !paths.is_empty() {
        disk::sync_dir(place)?;
        disk::sync_dir(atomic::parent(place))?;
    }
    Ok(())
}

/// Removes what [`supersede`] moved away, and returns the removed paths.
///
/// # Errors   [`crate::StoreError::Io`]
pub fn remove_superseded(run: &RunWriter) -> Result<Vec<PathBuf>> {
    let place = run.superseded();
    let removed = disk::read_dir_sorted(&place)?;
    if place.is_dir() {
        remove(&place)?;
    }
    Ok(removed)
}

/// Removes checkpoints that do not verify, wherever they stand, and returns the removed paths. Where none is
/// sound, nothing is removed: a damaged one is then all there is.
///
/// # Errors   [`crate::StoreError::Io`]
pub fn remove_damaged(run: &RunWriter) -> Result<Vec<PathBuf>> {
    let (sound, damaged): (Vec<_>, Vec<_>) = list(run)?
        .into_iter()
        .partition(|info| verified(&info.path).is_ok());
    if sound.is_empty() {
        return Ok(Vec::new());
    }
    let mut removed = Vec::new();
    for info in damaged {
        remove(&info.path)?;
        removed.push(info.path);
    }
    Ok(removed)
}

/// First a rename, so that an interrupted removal never leaves a part of a checkpoint under its name.
fn remove(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let doomed = path.with_file_name(format!("{TEMPORARY_PREFIX}{name}-removed"));
    if doomed.exists() {
        disk::remove_dir_all(&doomed)?;
    }
    disk::rename(path, &doomed)?;
    disk::remove_dir_all(&doomed)
}

/// Frees the name of a checkpoint that is about to be replaced.
pub(crate) fn move_aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{REPLACED_PREFIX}{name}"));
    if aside.exists() {
        disk::remove_dir_all(&aside)?;
    }
    disk::rename(path, &aside)?;
    Ok(aside)
}

/// Tidies a checkpoint directory at the start: puts back what was moved aside for a successor that never
/// came, and removes unfinished and half-removed ones.
pub(crate) fn sweep(directory: &Path) -> Result<()> {
    for path in disk::read_dir_sorted(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(original) = name.strip_prefix(REPLACED_PREFIX) else {
            continue;
        };
        let original = path.with_file_name(original);
        if original.exists() {
            disk::remove_dir_all(&path)?;
        } else {
            disk::rename(&path, &original)?;
        }
    }
    atomic::sweep_temporaries(directory)
}
