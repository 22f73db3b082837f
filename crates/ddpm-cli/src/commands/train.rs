//! `ddpm train`.

pub mod begun;
mod evaluator;
mod in_ranks;
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
use ddpm_store::{GridOptions, ImageBatch, RunDir, RunWriter};
use ddpm_train::{
    Config, Evaluate, Event, Job, MemoryEstimate, Outcome, Start, Stop, TrainError, Validated,
    Workers, check_ranks, model_shape,
};
use ddpm_unet::{Cost, ModelShape};
use serde_json::json;

use self::evaluator::Evaluator;
use self::resume::{find_resumed, learning_rate_change, refuse_another_run};
use self::run_files::{create, record};
use self::watcher::Watcher;
use super::doctor::warn_of_pixels;
use super::{Report, shown};
use crate::args::{Common, TrainArgs};
use crate::exit::Exit;
use crate::placed::Placed;
use crate::terminal::{self, Picture, Progress, Update};
use crate::{machine, ranks, recipe, signals, words};

/// Trains, or goes on training.
///
/// # Errors   usage, data, format, device and divergence errors with their exit codes
pub fn train(args: &TrainArgs, common: Common) -> Result<Report> {
    let quiet = common.quiet > 0;
    match ranks::launched() {
        Some(launched) => in_ranks::train(args, common, launched),
        None => {
            let placed = Placed::new(args.device, args.devices.as_ref())?;
            let prepared = prepare(args, quiet, &placed, placed.count())?;
            if args.dry_run {
                return dry_run(&prepared, &placed, placed.count());
            }
            let stop = signals::listen().context("signals cannot be handled")?;
            let run = prepared.run(args, &placed.name())?;
            let workers = Workers::Devices(placed.devices());
            carry_out(
                args,
                quiet,
                prepared,
                Some(run),
                &placed.name(),
                workers,
                &stop,
            )
        }
    }
}

/// What there is to train, checked, with nothing written yet.
struct Prepared {
    validated: Validated,
    dataset: Arc<Dataset>,
    /// The run that is gone on with, and its configuration so far.
    resumed: Option<(RunDir, Config)>,
    /// Of the network.
    parameters: usize,
}

/// Reads and checks configuration, images and network, for so many ranks.
///
/// # Errors   usage, data, format and device errors
fn prepare(args: &TrainArgs, quiet: bool, placed: &Placed, ranks: usize) -> Result<Prepared> {
    let clock = Instant::now();
    if let Some(minutes) = args.minutes {
        minutes::check(minutes, &args.config.set)?;
    }
    let resumed = find_resumed(args)?;
    let mut recipe = match (&resumed, &args.config.config) {
        (Some(run), None) => {
            recipe::read(Some(&run.config_toml()), &args.config.set, args.config.seed)?
        }
        _ => recipe::of(&args.config, placed.first(), quiet)?,
    };
    keep_paths_absolute(&mut recipe.config.data);
    // A run that goes on has its weights, wherever they came from.
    let begun = match (&resumed, &mut recipe.config.init) {
        (None, Some(init)) => Some(begun::open(init)?),
        _ => None,
    };
    let resumed = match resumed {
        Some(run) => {
            let was = refuse_another_run(&run, &mut recipe)?;
            Some((run, was))
        }
        None => None,
    };
    let config = recipe.config.clone().validate()?.config;
    check_ranks(&config, ranks)?;
    // The run says how many there are, so that it may go on with another number of ranks.
    recipe.config.train.accumulate = Some(config.train.micro_batches(ranks));
    placed
        .choose(config.train.precision)
        .map_err(TrainError::Precision)?;
    let dataset = load(&config, quiet)?;
    warn_of_pixels(&dataset, config.data.kind == DataKind::Synthetic)?;
    let shape = model_shape(&config, &dataset)?;
    if let Some(opened) = &begun {
        begun::fit(opened, &mut recipe, shape)?;
    }
    recipe.fit_attention(shape);
    let mut validated = recipe.config.validate()?;
    let config = &validated.config;
    let shape = model_shape(config, &dataset)?;
    let copies = if placed.is_one() { placed.count() } else { 1 };
    machine::refuse_what_cannot_fit(&config.model, shape, placed.first(), copies)?;
    // Built once here so that nothing is written for a network that cannot be.
    let network = config
        .model
        .build(shape, config.seed, &placed.first().device)
        .map_err(TrainError::Model)?;
    let parameters = network.num_params();
    if let (Some(init), Some(opened)) = (&config.init, &begun) {
        init.take(opened, network)?;
    } else {
        drop(network);
    }
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
    Ok(Prepared {
        validated,
        dataset,
        resumed,
        parameters,
    })
}

impl Prepared {
    /// The directory of the run, with what is needed to know later what it was.
    fn run(&self, args: &TrainArgs, device: &str) -> Result<RunWriter> {
        let config = &self.validated.config;
        let run = match &self.resumed {
            Some((run, _)) => RunDir::resume(run.path())?,
            None => create(args, config)?,
        };
        record(&run, config, device, self.resumed.is_some())?;
        Ok(run)
    }
}

/// What would be trained.
fn dry_run(prepared: &Prepared, placed: &Placed, ranks: usize) -> Result<Report> {
    let parameters = prepared.parameters;
    let (config, dataset) = (&prepared.validated.config, &prepared.dataset);
    let shape = model_shape(config, dataset)?;
    let total = config.train.total_steps(dataset.len());
    // Ranks of one device of this process share its memory.
    let one = placed.is_one() && ranks == placed.count();
    let memory = peak_bytes(config, shape, dataset, ranks, one)?;
    let text = format!(
        "would train for {} of {} on {}\n  data     {}\n  network  {} parameters\n  memory   about {} at most{}\n",
        words::some(total, "step"),
        words::some(config.train.batch as u64, "image"),
        placed.name(),
        dataset.describe(),
        words::count(parameters as u64),
        words::bytes(memory),
        if one { "" } else { " on each" },
    );
    let json = json!({
        "dry_run": true, "steps": total, "device": placed.name(), "images": dataset.len(),
        "parameters": parameters, "peak_bytes": u64::try_from(memory).ok(), "config": config,
    });
    Ok(Report::done(text, json))
}

/// Trains, as one rank or as all.
fn carry_out(
    args: &TrainArgs,
    quiet: bool,
    prepared: Prepared,
    run: Option<RunWriter>,
    device: &str,
    workers: Workers,
    stop: &signals::Stop,
) -> Result<Report> {
    let Prepared {
        validated,
        dataset,
        resumed,
        ..
    } = prepared;
    let path = run.as_ref().map(|run| run.path().to_owned());
    let (now, images) = (validated.config.clone(), dataset.len());
    let total = now.train.total_steps(images);
    let job = Job {
        evaluator: evaluator(
            &validated.config,
            &dataset,
            run.is_some(),
            &workers,
            stop,
            quiet,
        )?,
        validated,
        dataset,
        run,
        workers,
        stop: Stop::watching(stop.flag()),
        start: match (&resumed, args.from) {
            (None, _) => Start::Fresh,
            (Some(_), None) => Start::Latest,
            (Some(_), Some(step)) => Start::From(step),
        },
    };
    let mut watcher = Watcher::new(quiet, device);
    let outcome = ddpm_train::train(job, &mut |event| {
        if let (Event::Started { done, .. }, Some((_, was))) = (&event, &resumed)
            && let Some(change) = learning_rate_change(was, &now, images, *done)
        {
            tracing::warn!("{change}");
        }
        watcher.see(&event);
    });
    drop(watcher);
    Ok(report(path.as_deref(), total, &outcome?))
}

/// What judges the samples of rank 0, if that is asked for.
fn evaluator(
    config: &Config,
    dataset: &Dataset,
    first: bool,
    workers: &Workers,
    stop: &signals::Stop,
    quiet: bool,
) -> Result<Option<Box<dyn Evaluate>>> {
    let device = match workers {
        Workers::Devices(devices) => devices.first(),
        Workers::Rank(device, _) => Some(device),
    };
    let (Some(device), true, true) = (device, first, config.train.eval_every > 0) else {
        return Ok(None);
    };
    let stop = Stop::watching(stop.flag());
    let evaluator = Evaluator::new(&config.train.eval_extractor, dataset, device, &stop, quiet)?;
    Ok(Some(Box::new(evaluator)))
}

/// The estimate of the memory that the run takes, on each device.
fn peak_bytes(
    config: &Config,
    shape: ModelShape,
    dataset: &Dataset,
    ranks: usize,
    one: bool,
) -> Result<u128> {
    let figures = Cost::of(&config.model, shape).map_err(TrainError::Model)?;
    let image = [shape.channels, shape.height, shape.width]
        .iter()
        .fold(1u128, |product, &extent| {
            product.saturating_mul(extent as u128)
        });
    let kept = dataset.memory_bytes() as u128;
    Ok(MemoryEstimate::on_several(&figures, config, image, kept, ranks, one).peak())
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

fn report(run: Option<&Path>, total: u64, outcome: &Outcome) -> Report {
    let exit = match outcome.stopped {
        true => Exit::Stopped,
        false => Exit::Done,
    };
    // Rank 0 alone has one, and says how it went.
    let Some(run) = run else {
        return Report::silent(exit);
    };
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
    if let Some(checkpoint) = &outcome.checkpoint {
        text += &format!("  checkpoint  {}\n", checkpoint.display());
    }
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
        "checkpoint": outcome.checkpoint.as_deref().map(shown),
        "samples": outcome.grid.as_deref().map(shown),
    });
    Report { text, json, exit }
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
