//! A new run's directory, its name, and what it says of how it was made.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use ddpm_store::{RunDir, RunWriter};
use ddpm_train::Config;
use serde_json::json;

use super::super::RUNS;
use crate::args::TrainArgs;

/// Makes the directory of a new run.
///
/// # Errors   [`ddpm_store::StoreError`] if it cannot be made
pub fn create(args: &TrainArgs, config: &Config) -> Result<RunWriter> {
    Ok(match &args.run {
        Some(path) => RunDir::create(path)?,
        None => {
            let named_after = args.config.config.as_ref().or(args.config.data.as_ref());
            let name = named_after
                .and_then(|path| name_of_run(path))
                .unwrap_or_else(|| config.data.kind.name().to_owned());
            RunDir::create_in(RUNS, &name)?
        }
    })
}

/// The name of a run after its configuration or its images; a run's own `config.toml` gives the name of that run, less
/// its number.
fn name_of_run(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    if path.file_name().is_none_or(|name| name != "config.toml") {
        return Some(stem);
    }
    let run = path.parent()?.file_name()?.to_string_lossy().into_owned();
    let numbered = run.rsplit_once('-').filter(|(_, number)| {
        number.len() >= 3 && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    Some(match numbered {
        Some((name, _)) => name.to_owned(),
        None => run,
    })
}

/// Writes what is needed to know later what this run was.
///
/// # Errors   [`ddpm_store::StoreError`] if it cannot be written
pub fn record(run: &RunWriter, config: &Config, device: &str, resumed: bool) -> Result<()> {
    run.write_config(
        &toml::to_string_pretty(config).context("the configuration has no TOML form")?,
    )?;
    let command: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    run.write_run_json(&json!({
        "ddpm": env!("CARGO_PKG_VERSION"),
        "burn": "0.22.1",
        "command": command,
        "device": device,
        "seed": config.seed,
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "started_unix_s": started,
        "resumed": resumed,
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_after_what_they_learn() {
        for (path, name) in [
            ("configs/sprites.toml", "sprites"),
            ("photos", "photos"),
            ("a/photos.zip", "photos"),
            ("runs/photos-001/config.toml", "photos"),
            ("mine/config.toml", "mine"),
            ("a-b/config.toml", "a-b"),
        ] {
            assert_eq!(
                name_of_run(Path::new(path)).as_deref(),
                Some(name),
                "{path}"
            );
        }
    }
}
