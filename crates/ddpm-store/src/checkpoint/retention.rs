//! Which checkpoints go, and what a crash in the middle of that leaves.

use std::path::{Path, PathBuf};

use super::{list, verified_or_advice};
use crate::atomic::{self, TEMPORARY_PREFIX};
use crate::error::Result;
use crate::io as disk;
use crate::run_dir::RunWriter;

const REPLACED_PREFIX: &str = ".replaced-";

/// Removes all but the newest `keep` checkpoints (at least one), and returns the removed paths.
///
/// Damaged ones do not count towards `keep`, and go with their elders.
///
/// # Errors   [`crate::StoreError::Checkpoint`] if the newest does not verify: then nothing is removed;
/// [`crate::StoreError::Io`]
pub fn prune(run: &RunWriter, keep: usize) -> Result<Vec<PathBuf>> {
    let infos = list(run)?;
    let Some(newest) = infos.last() else {
        return Ok(Vec::new());
    };
    verified_or_advice(&newest.path)?;
    let mut sound = 0;
    let mut removed = Vec::new();
    for info in infos.iter().rev() {
        if sound >= keep.max(1) {
            remove(&info.path)?;
            removed.push(info.path.clone());
        } else if info.problem.is_none() {
            sound += 1;
        }
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
pub(super) fn move_aside(path: &Path) -> Result<PathBuf> {
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
