//! `ddpm train`.

mod minutes;
mod resume;
mod run_files;
mod watcher;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use burn::module::Module;
use ddpm_data::{DataConfig, DataKind, Dataset};
use ddpm_store::{GridOptions, ImageBatch, RunDir};
use ddpm_train::{
    Config, Event, Job, MemoryEstimate, Outcome, Start, Stop, TrainError, check_devices,
    model_shape,
};
use ddpm_unet::{Figures, ModelShape};
use serde_json::json;

use self::resume::{find_resumed, learning_rate_change, refuse_another_run};
use self::run_files::{create, record};
use self::watcher::Watcher;
use super::doctor::warn_of_pixels;
use super::{Report, shown};
use crate::args::{Common, TrainArgs};
use crate::exit::Exit;
use crate::placed::Placed;
use crate::terminal::{self, Picture, Progress, Update};
use crate::{machine, recipe, signals, words};

/// Trains, or goes on training.
///
/// # Errors   usage, data, format, device and divergence errors with their exit codes
pub fn train(args: &TrainArgs, common: Common) -> Result<Report> {
    let clock = Instant::now();
    let quiet = common.quiet > 0;
    if let Some(minutes) = args.minutes {
        minutes::check(minutes, &args.config.set)?;
    }
    let resumed = find_resumed(args)?;
    let placed = Placed::new(args.device, args.devices.as_ref())?;
    let mut recipe = match (&resumed, &args.config.config) {
        (Some(run), None) => {
            recipe::read(Some(&run.config_toml()), &args.config.set, args.config.seed)?
        }
        _ => recipe::of(&args.config, placed.first(), quiet)?,
    };
    keep_paths_absolute(&mut recipe.config.data);
    let was = match &resumed {
        Some(run) => Some(refuse_another_run(run, &mut recipe)?),
        None => None,
    };
    let config = recipe.config.clone().validate()?.config;
    check_devices(
        &config,
        args.devices.as_ref().map_or(1, |devices| devices.0.len()),
    )?;
    placed
        .choose(config.train.precision)
        .map_err(TrainError::Precision)?;
    let dataset = load(&config, quiet)?;
    warn_of_pixels(&dataset, config.data.kind == DataKind::Synthetic)?;
    recipe.fit_attention(model_shape(&config, &dataset));
    let mut validated = recipe.config.validate()?;
    let config = &validated.config;
    let shape = model_shape(config, &dataset);
    let copies = if placed.is_one() { placed.count() } else { 1 };
    machine::refuse_what_cannot_fit(&config.model, shape, placed.first(), copies)?;
    // Built once here so that nothing is written for a network that cannot be.
    let network = config
        .model
        .build(shape, config.seed, &placed.first().device)
        .map_err(TrainError::Model)?;
    let parameters = network.num_params();
    drop(network);
    let dataset = Arc::new(dataset);
    if let Some(minutes) = args.minutes {
        let devices = placed.devices();
        validated = minutes::fit(
            validated,
            &dataset,
            &devices,
            minutes,
            &args.config.set,
            clock,
            quiet,
        )?;
    }
    let config = &validated.config;
    let total = config.train.total_steps(dataset.len());
    if args.dry_run {
        let memory = peak_bytes(config, shape, &dataset, &placed)?;
        let text = format!(
            "would train for {} of {} on {}\n  data     {}\n  network  {} parameters\n  memory   about {} at most{}\n",
            words::some(total, "step"),
            words::some(config.train.batch as u64, "image"),
            placed.name(),
            dataset.describe(),
            words::count(parameters as u64),
            words::bytes(memory),
            if placed.is_one() { "" } else { " on each" },
        );
        let json = json!({
            "dry_run": true, "steps": total, "device": placed.name(), "images": dataset.len(),
            "parameters": parameters, "peak_bytes": u64::try_from(memory).ok(), "config": config,
        });
        return Ok(Report::done(text, json));
    }
    let stop = signals::listen().context("signals cannot be handled")?;
    let run = match &resumed {
        Some(run) => RunDir::resume(run.path())?,
        None => create(args, config)?,
    };
    let path = run.path().to_owned();
    let device = placed.name();
    record(&run, config, &device, resumed.is_some())?;
    let (now, images) = (config.clone(), dataset.len());
    let job = Job {
        validated,
        dataset,
        run,
        devices: placed.devices(),
        stop: Stop::watching(stop.flag()),
        start: match (&resumed, args.from) {
            (None, _) => Start::Fresh,
            (Some(_), None) => Start::Latest,
            (Some(_), Some(step)) => Start::From(step),
        },
    };
    let mut watcher = Watcher::new(quiet, &device);
    let outcome = ddpm_train::train(job, &mut |event| {
        if let (Event::Started { done, .. }, Some(was)) = (&event, &was)
            && let Some(change) = learning_rate_change(was, &now, images, *done)
        {
            tracing::warn!("{change}");
        }
        watcher.see(&event);
    });
    drop(watcher);
    Ok(report(&path, total, &outcome?))
}

/// The estimate of the memory that the run takes, on each device.
fn peak_bytes(
    config: &Config,
    shape: ModelShape,
    dataset: &Dataset,
    placed: &Placed,
) -> Result<u128> {
    let figures = Figures::of(&config.model, shape).map_err(TrainError::Model)?;
    let image = [shape.channels, shape.height, shape.width]
        .iter()
        .fold(1u128, |product, &extent| {
            product.saturating_mul(extent as u128)
        });
    let (count, one) = (placed.count(), placed.is_one());
    let kept = dataset.memory_bytes() as u128;
    Ok(MemoryEstimate::on_several(&figures, config, image, kept, count, one).peak())
}

/// A run's own configuration works from any folder.
fn keep_paths_absolute(data: &mut DataConfig) {
    for path in [&mut data.path, &mut data.labels].into_iter().flatten() {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    }
}

/// The data set, with progress if that takes long and a warning for each image that was skipped.
///
/// # Errors   those of [`Dataset::load`]
pub fn load(config: &Config, quiet: bool) -> Result<Dataset> {
    let start = Instant::now();
    let mut progress: Option<Progress> = None;
    let dataset = Dataset::load(&config.data, config.seed, &mut |done, total| {
        // A set that is there at once needs no progress line.
        if start.elapsed() < Duration::from_secs(1) {
            return;
        }
        progress
            .get_or_insert_with(|| Progress::start(done as u64, total as u64, quiet))
            .update(Update {
                step: done as u64,
                ..Update::default()
            });
    })?;
    for skipped in dataset.skipped() {
        tracing::warn!("{}: skipped: {}", skipped.path.display(), skipped.reason);
    }
    Ok(dataset)
}

fn report(run: &Path, total: u64, outcome: &Outcome) -> Report {
    let mut text = if outcome.stopped {
        format!(
            "stopped after step {} of {total}; go on with\n  ddpm train --resume --run {}\n",
            outcome.step,
            run.display()
        )
    } else {
        format!("trained {}\n", words::some(outcome.step, "step"))
    };
    text += &format!("  run         {}\n", run.display());
    text += &format!("  checkpoint  {}\n", outcome.checkpoint.display());
    if let Some(grid) = &outcome.grid {
        text += &format!("  samples     {}\n", grid.display());
    }
    if !outcome.stopped {
        text += &format!("draw more with\n  ddpm sample --model {}\n", run.display());
    }
    let json = json!({
        "run": shown(run),
        "step": outcome.step,
        "steps": total,
        "stopped": outcome.stopped,
        "checkpoint": shown(&outcome.checkpoint),
        "samples": outcome.grid.as_deref().map(shown),
    });
    Report {
        text,
        json,
        exit: if outcome.stopped {
            Exit::Stopped
        } else {
            Exit::Done
        },
    }
}

/// Images as coloured half blocks, one character a pixel where they fit, if the terminal has colours.
pub fn show(images: &ImageBatch) {
    let small = GridOptions {
        min_tile: 1,
        padding: 1,
        ..GridOptions::default()
    };
    // A picture too large to draw is no reason to fail: the file is what counts.
    let Ok(grid) = images.grid(small) else { return };
    if let Some(picture) = Picture::new(&grid.pixels, grid.width, grid.height, grid.channels) {
        terminal::show(&picture.draw(terminal::colours(), terminal::columns()));
    }
}
