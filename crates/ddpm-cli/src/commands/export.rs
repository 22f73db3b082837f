//! `ddpm export`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ddpm_model::OpenedModel;
use ddpm_model::export::{Card, Pipeline, write_weights};
use ddpm_store::RunDir;
use ddpm_store::checkpoint::Weights;
use serde_json::json;

use super::inspect::host;
use super::{Report, sample, shown};
use crate::args::{ExportArgs, SamplingArgs, WeightsName};
use crate::exit::UsageError;
use crate::models;

/// What a PNG begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Of a card's picture: hubs show no larger ones.
const MOST_GRID_BYTES: u64 = 64 << 20;

/// Writes a model for elsewhere.
///
/// # Errors   usage and format errors with their exit codes
pub fn export(args: &ExportArgs) -> Result<Report> {
    let to = &args.to;
    if to.symlink_metadata().is_ok() {
        return usage(format!(
            "{}: something is there already; remove it, or name another place",
            to.display()
        ));
    }
    let weights = args.weights.map(Weights::from);
    let open = || -> Result<OpenedModel> {
        let opened = OpenedModel::open(&models::find(&args.model)?, weights, &host()?)?;
        if let Some(warning) = &opened.warning {
            tracing::warn!("{warning}");
        }
        Ok(opened)
    };
    let ending = to.extension().unwrap_or_default();
    if ending.eq_ignore_ascii_case("safetensors") {
        refuse_what_weights_have_not(args)?;
        let opened = open()?;
        write_weights(&opened, to)?;
        let text = format!(
            "{}: the weights of {}\n",
            to.display(),
            opened.path.display()
        );
        let json = json!({"model": shown(&opened.path), "to": shown(to), "step": opened.step});
        return Ok(Report::done(text, json));
    }
    if ending.eq_ignore_ascii_case("onnx") {
        return usage(format!(
            "{}: ONNX is not written; name a directory for Python's diffusers, whose networks its own tools turn into \
             ONNX, or a FILE.safetensors",
            to.display()
        ));
    }
    check_words(args)?;
    let given = args.grid.as_deref().map(read_png).transpose()?;
    let mut opened = open()?;
    let asked = &args.sampling;
    opened.prepare(asked.sampler.as_deref(), asked.steps)?;
    let own = asked == &SamplingArgs::default();
    // What a scheduler of diffusers says stays as it is, word by word, unless something else is asked for.
    let sample = match own {
        true => None,
        false => Some(sample::sampling(asked, None, &opened.sample)?),
    };
    let pipeline = Pipeline::of(&opened, sample.as_ref())?;
    if let Some(difference) = &pipeline.difference {
        tracing::warn!(
            "{difference}; the scheduler says the process alone, and draws in its own way"
        );
    }
    let grid = match (given, args.no_grid) {
        (Some(grid), _) => Some(grid),
        (None, true) => None,
        (None, false) => grid_of_run(&opened, own && args.weights != Some(WeightsName::Raw))?,
    };
    let name = args.name.clone().unwrap_or_else(|| name_of(to));
    let card = Card {
        name: &name,
        license: args.license.as_deref(),
        datasets: &args.dataset,
        grid: grid.is_some(),
    };
    let text = card.text(&opened, &pipeline);
    pipeline.write(to, &text, grid.as_deref())?;

    let class = pipeline.scheduler.class();
    let mut text = format!(
        "{}: a pipeline of diffusers with {class}, of {}\n",
        to.display(),
        opened.path.display()
    );
    if args.license.is_none() {
        text += "  the card says that its licence is unknown; say it with --license\n";
    }
    if grid.is_none() && !args.no_grid {
        text += "  without a picture: draw one with `ddpm sample --grid FILE.png`, and give it with --grid\n";
    }
    let json = json!({
        "model": shown(&opened.path), "to": shown(to), "step": opened.step, "scheduler": class,
        "difference": pipeline.difference, "grid": grid.is_some(), "name": name,
    });
    Ok(Report::done(text, json))
}

fn usage<T>(problem: String) -> Result<T> {
    Err(UsageError(problem).into())
}

/// The weights alone have no card, no scheduler and no picture.
///
/// # Errors   [`UsageError`] naming the option that would say nothing
fn refuse_what_weights_have_not(args: &ExportArgs) -> Result<()> {
    let asked = &args.sampling;
    let options = [
        ("--name", args.name.is_some()),
        ("--license", args.license.is_some()),
        ("--dataset", !args.dataset.is_empty()),
        ("--grid", args.grid.is_some()),
        ("--no-grid", args.no_grid),
        ("--sampler", asked.sampler.is_some()),
        ("--steps", asked.steps.is_some()),
        ("--spacing", asked.spacing.is_some()),
        ("--eta", asked.eta.is_some()),
        ("--set", !asked.set.is_empty()),
    ];
    match options.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => usage(format!(
            "{option}: {} gets the weights alone; leave it out, or name a directory",
            args.to.display()
        )),
    }
}

/// What goes into the front matter is a word of a hub, and a name is one line.
///
/// # Errors   [`UsageError`] naming the option
fn check_words(args: &ExportArgs) -> Result<()> {
    let is_word = |text: &str, also: &str| {
        let mut letters = text.chars();
        let first = letters
            .next()
            .is_some_and(|one| one.is_ascii_alphanumeric());
        first && letters.all(|one| one.is_ascii_alphanumeric() || also.contains(one))
    };
    if let Some(license) = &args.license
        && !(is_word(license, "-.") && license.to_lowercase() == *license)
    {
        return usage(format!(
            "--license {license}: give a hub's identifier, such as mit, apache-2.0 or cc-by-4.0"
        ));
    }
    if let Some(dataset) = args.dataset.iter().find(|name| !is_word(name, "-._/")) {
        return usage(format!(
            "--dataset {dataset}: give a hub's name, such as uoft-cs/cifar10"
        ));
    }
    match &args.name {
        Some(name) if name.trim().is_empty() || name.contains(char::is_control) => {
            usage(format!("--name {name:?}: give one line of text"))
        }
        _ => Ok(()),
    }
}

/// # Errors   [`UsageError`] for what is not a PNG, or too large
fn read_png(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::metadata(path).map(|metadata| metadata.len());
    if bytes.is_ok_and(|bytes| bytes > MOST_GRID_BYTES) {
        return usage(format!(
            "--grid {}: larger than 64 MiB; draw fewer images",
            path.display()
        ));
    }
    let grid = std::fs::read(path).with_context(|| format!("--grid {}", path.display()));
    let grid = grid.map_err(|error| UsageError(format!("{error:#}")))?;
    match grid.starts_with(PNG) {
        true => Ok(grid),
        false => usage(format!(
            "--grid {}: is not a PNG; write one with `ddpm sample --grid FILE.png`",
            path.display()
        )),
    }
}

/// The grid that the run of a checkpoint drew after the same step, if the model draws as the run did.
fn grid_of_run(opened: &OpenedModel, as_the_run: bool) -> Result<Option<Vec<u8>>> {
    let run = opened.path.parent().and_then(Path::parent);
    let (Some(run), Some(step), true) = (run, opened.step, as_the_run) else {
        return Ok(None);
    };
    if !run.join("config.toml").is_file() {
        return Ok(None);
    }
    let grid: PathBuf = RunDir::open(run)?.sample_png(step);
    grid.is_file().then(|| read_png(&grid)).transpose()
}

/// The last name of a path.
fn name_of(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    let name = absolute
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| "model".to_owned())
}
