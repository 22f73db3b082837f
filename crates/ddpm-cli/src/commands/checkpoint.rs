//! `ddpm checkpoint`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_store::checkpoint::{self, Retention};
use ddpm_store::{CheckpointSummary, RunDir, StoreError, trend};
use serde_json::{Value, json};

use super::{Report, shown};
use crate::args::{CheckpointAction, CheckpointArgs};
use crate::exit::{Exit, UsageError};
use crate::recipe;

/// Verifies, lists or prunes checkpoints.
///
/// # Errors   usage and format errors with their exit codes
pub fn checkpoint(args: &CheckpointArgs) -> Result<Report> {
    match &args.action {
        CheckpointAction::Verify { path } => verify(path),
        CheckpointAction::List { run } => list(run),
        CheckpointAction::Prune {
            run,
            keep,
            keep_every,
            all,
        } => prune(run, *keep, *keep_every, *all),
    }
}

/// Every byte of every checkpoint of a run, or of one checkpoint.
fn verify(path: &Path) -> Result<Report> {
    let (run, paths) = if path.join("manifest.json").is_file() || path.join("state.json").is_file()
    {
        (None, vec![path.to_owned()])
    } else {
        let run = RunDir::open(path)?;
        let paths = checkpoint::list(&run)?.into_iter().map(|info| info.path);
        (Some(run), paths.collect::<Vec<_>>())
    };
    let mut text = String::new();
    let mut listed = Vec::new();
    let mut sound = None;
    let mut damaged = 0;
    for path in &paths {
        let checked = checkpoint::verify(path);
        let (line, value) = described(path, &checked, "sound");
        text += &line;
        listed.push(value);
        match checked {
            Ok(summary) => sound = Some(summary.step),
            Err(_) => damaged += 1,
        }
    }
    if run.is_some() {
        text += &match (paths.len(), sound) {
            (0, _) => "no checkpoint yet\n".to_owned(),
            (_, Some(step)) => format!("--resume goes on from step {step}\n"),
            (_, None) => "none is sound: start the run anew\n".to_owned(),
        };
    }
    let json = json!({
        "path": shown(path), "checkpoints": listed, "damaged": damaged, "resumes_from": sound,
    });
    let exit = if damaged == 0 {
        Exit::Done
    } else {
        Exit::Format
    };
    Ok(Report { text, json, exit })
}

/// A line for people, where `good` says what is known of a checkpoint without a problem, and an object for programs.
fn described(
    path: &Path,
    checked: &Result<CheckpointSummary, StoreError>,
    good: &str,
) -> (String, Value) {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let name = name.to_string_lossy();
    match checked {
        Ok(summary) => {
            let text = format!(
                "{name:<16} {good:<7}  {:>12} images seen  {:>9.1} MB\n",
                summary.images_seen,
                summary.bytes as f64 / 1e6
            );
            let json = json!({
                "path": shown(path), "step": summary.step, "images_seen": summary.images_seen,
                "bytes": summary.bytes, "ema": summary.has_ema, "problem": null,
            });
            (text, json)
        }
        Err(error) => {
            let problem = match error {
                // Where to go on from is said of all of them together.
                StoreError::Checkpoint { problem, .. } => problem.clone(),
                error => error.to_string(),
            };
            let json = json!({ "path": shown(path), "problem": problem });
            (format!("{name:<16} DAMAGED  {problem}\n"), json)
        }
    }
}

/// What the manifests say; no file's contents are read.
fn list(path: &Path) -> Result<Report> {
    let run = RunDir::open(path)?;
    let mut text = String::new();
    let mut listed = Vec::new();
    for info in checkpoint::list(&run)? {
        let summary = match info.problem {
            None => checkpoint::summary(&info.path),
            Some(problem) => Err(problem),
        };
        // The contents are not read, so nothing is said of them.
        let (line, value) = described(&info.path, &summary, "");
        text += &line;
        listed.push(value);
    }
    if listed.is_empty() {
        text += "no checkpoint yet\n";
    }
    let json = json!({ "path": shown(path), "checkpoints": listed });
    Ok(Report::done(text, json))
}

/// Removes what is not to be kept.
fn prune(path: &Path, keep: Option<usize>, keep_every: Option<u64>, all: bool) -> Result<Report> {
    let open = RunDir::open(path)?;
    let config = recipe::read(Some(&open.config_toml()), &[], None)?.config;
    let retention = Retention {
        keep: keep.unwrap_or(config.train.keep),
        keep_every: keep_every.unwrap_or(config.train.keep_every),
        best: trend::best(&open)?.map(|best| best.step),
    };
    if retention.keep == 0 {
        return Err(UsageError(
            "--keep 0: the newest checkpoint always stays; give 1 or more".into(),
        )
        .into());
    }
    let run = RunDir::resume(path)?;
    let newest = checkpoint::latest_valid(&run)?;
    let mut removed: Vec<PathBuf> = Vec::new();
    if let Some(newest) = &newest {
        let step = checkpoint::verify(newest)?.step;
        removed.extend(checkpoint::prune(&run, retention, step)?);
        if all {
            removed.extend(checkpoint::remove_damaged(&run)?);
            removed.extend(checkpoint::remove_superseded(&run)?);
        }
    }
    let removed: Vec<String> = removed.iter().map(|path| shown(path)).collect();
    let mut text = String::new();
    for path in &removed {
        text += &format!("removed {path}\n");
    }
    let kept: Vec<u64> = checkpoint::list(&run)?
        .iter()
        .map(|info| info.step)
        .collect();
    text += &match kept.as_slice() {
        [] => "no checkpoint yet\n".to_owned(),
        kept => format!(
            "kept steps {}\n",
            kept.iter()
                .map(u64::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    Ok(Report::done(
        text,
        json!({ "path": shown(path), "removed": removed, "kept": kept }),
    ))
}
