//! `ddpm train`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use burn::module::Module;
use ddpm_data::Dataset;
use ddpm_store::{GridOptions, ImageBatch, RunDir, RunWriter};
use ddpm_train::{
    Cause, Config, Event, Job, MemoryEstimate, Outcome, Start, Stop, TrainError, check_devices,
    differences, model_shape,
};
use ddpm_unet::{Figures, ModelShape};
use serde_json::json;

use super::{RUNS, Report, shown};
use crate::args::{Common, TrainArgs};
use crate::exit::{Exit, UsageError};
use crate::placed::Placed;
use crate::terminal::{self, Picture, Progress, Update};
use crate::{machine, recipe, signals, words};

/// Trains, or goes on training.
///
/// # Errors   usage, data, format, device and divergence errors with their exit codes
pub fn train(args: &TrainArgs, common: Common) -> Result<Report> {
    let resumed = find_resumed(args)?;
    let config = match (&resumed, &args.config) {
        (Some(run), None) => recipe::read(Some(&run.config_toml()), &args.set, args.seed)?,
        (_, path) => recipe::read(path.as_deref(), &args.set, args.seed)?,
    };
    let validated = config.validate()?;
    let config = &validated.config;
    if let Some(run) = &resumed {
        refuse_another_run(run, config)?;
    }
    check_devices(
        config,
        args.devices.as_ref().map_or(1, |devices| devices.0.len()),
    )?;
    let placed = Placed::new(args.device, args.devices.as_ref())?;
    placed
        .choose(config.train.precision)
        .map_err(TrainError::Precision)?;
    let quiet = common.quiet > 0;
    let dataset = load(config, quiet)?;
    let shape = model_shape(config, &dataset);
    let copies = if placed.is_one() { placed.count() } else { 1 };
    machine::refuse_what_cannot_fit(&config.model, shape, placed.first(), copies)?;
    // Built once here so that nothing is written for a network that cannot be.
    let network = config
        .model
        .build(shape, config.seed, &placed.first().device)
        .map_err(TrainError::Model)?;
    let total = config.train.total_steps(dataset.len());
    if args.dry_run {
        let memory = peak_bytes(config, shape, &dataset, &placed)?;
        let text = format!(
            "would train for {total} steps of {} images on {}\n  data     {}\n  network  {} parameters\n  memory   \
             about {} at most{}\n",
            config.train.batch,
            placed.name(),
            dataset.describe(),
            network.num_params(),
            words::bytes(memory),
            if placed.is_one() { "" } else { " on each" },
        );
        let json = json!({
            "dry_run": true, "steps": total, "device": placed.name(), "images": dataset.len(),
            "parameters": network.num_params(), "peak_bytes": u64::try_from(memory).ok(), "config": config,
        });
        return Ok(Report::done(text, json));
    }
    drop(network);
    let stop = signals::listen().context("signals cannot be handled")?;
    let run = match &resumed {
        Some(run) => RunDir::resume(run.path())?,
        None => create(args, config)?,
    };
    let path = run.path().to_owned();
    let device = placed.name();
    record(&run, config, &device, resumed.is_some())?;
    let job = Job {
        validated,
        dataset: Arc::new(dataset),
        run,
        devices: placed.into_devices(),
        stop: Stop::watching(stop.flag()),
        start: match (&resumed, args.from) {
            (None, _) => Start::Fresh,
            (Some(_), None) => Start::Latest,
            (Some(_), Some(step)) => Start::From(step),
        },
    };
    let mut watcher = Watcher::new(quiet, &device);
    let outcome = ddpm_train::train(job, &mut |event| watcher.see(&event));
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

/// The run that `--resume` means.
fn find_resumed(args: &TrainArgs) -> Result<Option<RunDir>> {
    if !args.resume {
        return Ok(None);
    }
    match &args.run {
        Some(path) => Ok(Some(RunDir::open(path)?)),
        None => {
            let latest = if Path::new(RUNS).is_dir() {
                RunDir::latest(RUNS)?
            } else {
                None
            };
            match latest {
                Some(run) => Ok(Some(run)),
                None => Err(UsageError(format!(
                    "--resume: there is no run below {RUNS}/; name one with --run, or train without --resume"
                ))
                .into()),
            }
        }
    }
}

/// A run goes on only as what it was: architecture, data, seed and objective. Whatever else changed is said.
fn refuse_another_run(run: &RunDir, config: &Config) -> Result<()> {
    let was = recipe::read(Some(&run.config_toml()), &[], None)?;
    let (identity, rest): (Vec<_>, Vec<_>) = differences(&was, config)
        .into_iter()
        .partition(|change| change.identity);
    if !identity.is_empty() {
        let changes: Vec<String> = identity.iter().map(ToString::to_string).collect();
        return Err(TrainError::Identity {
            path: run.path().to_owned(),
            changes: changes.join(", "),
        }
        .into());
    }
    for change in rest {
        tracing::warn!("resuming with a change: {change}");
    }
    Ok(())
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

fn create(args: &TrainArgs, config: &Config) -> Result<RunWriter> {
    Ok(match &args.run {
        Some(path) => RunDir::create(path)?,
        None => {
            let name = match &args.config {
                Some(path) => path.file_stem().map_or_else(
                    || config.data.kind.name().to_owned(),
                    |stem| stem.to_string_lossy().into_owned(),
                ),
                None => config.data.kind.name().to_owned(),
            };
            RunDir::create_in(RUNS, &name)?
        }
    })
}

/// Writes what is needed to know later what this run was.
fn record(run: &RunWriter, config: &Config, device: &str, resumed: bool) -> Result<()> {
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

fn report(run: &Path, total: u64, outcome: &Outcome) -> Report {
    let mut text = if outcome.stopped {
        format!(
            "stopped after step {} of {total}; go on with\n  ddpm train --resume --run {}\n",
            outcome.step,
            run.display()
        )
    } else {
        format!("trained {} steps\n", outcome.step)
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

/// Shows a run's events on stderr.
struct Watcher<'a> {
    quiet: bool,
    device: &'a str,
    total: u64,
    steps: Option<Progress>,
    last: Update,
    sampling: Option<Progress>,
}

impl<'a> Watcher<'a> {
    fn new(quiet: bool, device: &'a str) -> Self {
        Self {
            quiet,
            device,
            total: 0,
            steps: None,
            last: Update::default(),
            sampling: None,
        }
    }

    fn see(&mut self, event: &Event) {
        match event {
            Event::Started {
                data,
                model,
                run,
                done,
                total,
            } => {
                if !self.quiet {
                    terminal::show(&format!(
                        "data     {data}\nnetwork  {model}\ndevice   {}\nrun      {}\n",
                        self.device,
                        run.display()
                    ));
                    if *done > 0 {
                        terminal::show(&format!("resumed at step {done} of {total}\n"));
                    }
                }
                self.total = *total;
                self.steps = Some(Progress::start(*done, *total, self.quiet));
            }
            Event::Step {
                report,
                images_per_s,
                ..
            } => {
                self.last = Update {
                    step: report.step,
                    loss: Some(report.loss),
                    images_per_s: Some(*images_per_s),
                };
                if let Some(progress) = &mut self.steps {
                    progress.update(self.last);
                }
            }
            Event::Skipped {
                step,
                cause,
                value,
                consecutive,
            } => {
                let why = match cause {
                    Cause::Spike => format!("the loss jumped to {value:.4}"),
                    cause => format!("the {} is {value}", cause.quantity()),
                };
                tracing::warn!(
                    "step {step}: {why}; its update is left out ({consecutive} in a row)"
                );
            }
            Event::RolledBack { from, to } => {
                tracing::warn!(
                    "too many updates left out: from step {from} back to the checkpoint of step {to}"
                );
                self.steps = Some(Progress::start(*to, self.total, self.quiet));
            }
            Event::Sampling { done, total } => {
                let (quiet, total) = (self.quiet, *total as u64);
                let progress = self
                    .sampling
                    .get_or_insert_with(|| Progress::start(0, total, quiet));
                progress.update(Update {
                    step: *done as u64,
                    ..Update::default()
                });
            }
            Event::Sampled { images, path } => {
                self.sampling = None;
                if !self.quiet {
                    show(images);
                    terminal::show(&format!("samples  {}\n", path.display()));
                }
            }
            Event::Saved { path } => {
                tracing::info!("checkpoint {}", path.display());
            }
        }
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
