//! `ddpm ema`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_store::RunDir;
use ddpm_train::Synthesis;
use serde_json::{Value, json};

use super::{RUNS, Report, shown};
use crate::args::EmaArgs;
use crate::exit::UsageError;
use crate::words;

/// Makes an average of the weights that was not tracked, as a model directory.
///
/// # Errors   usage and format errors with their exit codes
pub fn ema(args: &EmaArgs) -> Result<Report> {
    let run = run(args)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => beside(run.path(), args)?,
    };
    if out.exists() {
        return Err(UsageError(format!(
            "--out {}: something is there already; remove it, or name another directory",
            out.display()
        ))
        .into());
    }
    let found = Synthesis::plan(&run, args.sigma_rel, args.step)?;
    let warning = found.warning();
    if let Some(warning) = &warning {
        tracing::warn!("{warning}");
    }
    found.write(&out)?;

    let residual = found.mixture.residual;
    let snapshots = words::some(found.files.len() as u64, "snapshot");
    let text = format!(
        "{}: sigma_rel {} after step {}, of {snapshots} of {:?}; {} of its profile is missed\n",
        out.display(),
        found.sigma_rel,
        found.step,
        found.tracked(),
        words::percent(residual),
    );
    let parts = found.files.iter().zip(&found.mixture.coefficients);
    let parts: Vec<Value> = parts
        .map(|(file, coefficient)| {
            json!({
                "step": file.step, "sigma_rel": file.sigma_rel, "images_seen": file.images_seen,
                "path": shown(&file.path), "coefficient": coefficient,
            })
        })
        .collect();
    let json = json!({
        "run": shown(run.path()), "model": shown(&out), "sigma_rel": found.sigma_rel, "step": found.step,
        "images_seen": found.images_seen, "tracked": found.tracked(), "residual": residual, "warning": warning,
        "snapshots": parts,
    });
    Ok(Report::done(text, json))
}

/// The run that is named, or the latest one.
fn run(args: &EmaArgs) -> Result<RunDir> {
    let usage = |problem: String| Err(UsageError(problem).into());
    match &args.run {
        Some(path) if path.join("config.toml").is_file() => Ok(RunDir::open(path)?),
        Some(path) => usage(format!(
            "--run {}: there is no run (no config.toml); give the directory that `ddpm train` printed",
            path.display()
        )),
        None => match RunDir::latest(RUNS)? {
            Some(run) => Ok(run),
            None => usage(format!(
                "there is no run below {RUNS}/; name one with --run"
            )),
        },
    }
}

/// Without --out: the run's own name with what it is, beside the run.
fn beside(run: &Path, args: &EmaArgs) -> Result<PathBuf> {
    let mut name = std::path::absolute(run)?
        .file_name()
        .unwrap_or_default()
        .to_os_string();
    name.push(format!("-ema-{}", args.sigma_rel));
    if let Some(step) = args.step {
        name.push(format!("-step-{step}"));
    }
    Ok(match run.file_name() {
        Some(_) => run.with_file_name(name),
        None => run.join("..").join(name),
    })
}
