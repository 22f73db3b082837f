//! The training loop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::{Batch, Dataset, Loader, LoaderConfig};
use ddpm_diffusion::{DiffusionError, ImageBatch as Drawing, Plan, randn_images, sample};
use ddpm_schedule::noise::{Stream, below};
use ddpm_store::{GridOptions, ImageBatch, MetricsLog, RunWriter, checkpoint};
use ddpm_unet::ModelShape;

use crate::config::{Config, Validated};
use crate::denoise::ModelDenoiser;
use crate::error::TrainError;
use crate::events::Event;
use crate::snapshot::{self, SavedState};
use crate::state::{Part, Recipe, StepReport, TrainState};
use crate::stop::Stop;
use crate::window::Window;

/// A run to be started or gone on with.
#[derive(Debug)]
pub struct Job {
    /// The resolved configuration.
    pub validated: Validated,
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Where the run is kept.
    pub run: RunWriter,
    /// Where the network computes.
    pub device: Device,
    /// How the run is asked to end early.
    pub stop: Stop,
    /// Whether to go on from the newest valid checkpoint of `run`.
    pub resume: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was asked to end before its last step.
    pub stopped: bool,
    /// Optimiser steps done.
    pub step: u64,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The last sample grid, if one was drawn.
    pub grid: Option<PathBuf>,
}

/// What a network is trained on, from the data set and the schedule.
pub fn model_shape(config: &Config, dataset: &Dataset) -> ModelShape {
    ModelShape {
        channels: dataset.channels(),
        height: dataset.height(),
        width: dataset.width(),
        steps: config.schedule.steps,
    }
}

/// Trains until the last step, a stop or an error.
///
/// # Errors   [`TrainError::Diverged`] with the earlier checkpoints intact, and whatever the data
/// set, the disk or the device reports
pub fn train(job: Job, observe: &mut dyn FnMut(Event)) -> Result<Outcome, TrainError> {
    let (mut trainer, state) = Trainer::prepare(job)?;
    trainer.announce(&state, observe);
    trainer.run(state, observe)
}

struct Trainer {
    config: Config,
    dataset: Arc<Dataset>,
    run: RunWriter,
    device: Device,
    stop: Stop,
    recipe: Recipe,
    plan: Plan,
    saved: SavedState,
    metrics: MetricsLog,
    last_checkpoint: Option<PathBuf>,
    last_grid: Option<PathBuf>,
}

impl Trainer {
    fn prepare(job: Job) -> Result<(Self, TrainState), TrainError> {
        let Validated {
            config,
            schedule,
            objective,
            plan,
        } = job.validated;
        let shape = model_shape(&config, &job.dataset);
        let saved = SavedState {
            config: config.clone(),
            channels: shape.channels,
            height: shape.height,
            width: shape.width,
        };
        let recipe = Recipe {
            seed: config.seed,
            schedule,
            objective,
            optim: config.optim,
            ema: config.ema,
            total_steps: config.train.total_steps(job.dataset.len()),
        };
        let device = job.device.clone().autodiff();
        let model = config
            .model
            .build(shape, config.seed, &device)
            .map_err(TrainError::Model)?;
        let mut metrics = MetricsLog::open(&job.run.metrics_jsonl())?;
        let newest = if job.resume {
            checkpoint::latest_valid(&job.run)?
        } else {
            None
        };
        let state = match &newest {
            Some(path) => {
                let checkpoint = checkpoint::load(path)?;
                metrics.truncate_at(checkpoint.metrics_bytes)?;
                snapshot::restore(path, checkpoint, model, &device)?
            }
            None => {
                metrics.truncate_at(0)?;
                TrainState::new(model)
            }
        };
        let trainer = Self {
            config,
            dataset: job.dataset,
            run: job.run,
            device: job.device,
            stop: job.stop,
            recipe,
            plan,
            saved,
            metrics,
            last_checkpoint: newest,
            last_grid: None,
        };
        Ok((trainer, state))
    }

    fn announce(&self, state: &TrainState, observe: &mut dyn FnMut(Event)) {
        observe(Event::Started {
            data: &self.dataset.describe(),
            model: &describe(&state.model),
            run: self.run.path(),
            done: state.step,
            total: self.recipe.total_steps,
        });
    }

    fn run(
        &mut self,
        mut state: TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let total = self.recipe.total_steps;
        let rhythm = self.config.train.clone();
        let mut loader = self.loader(&state)?;
        let mut window = Window::default();
        let mut speed = Speed::default();
        while state.step < total && !self.stop.is_requested() {
            let clock = Instant::now();
            let parts = self.parts(loader.next()?, state.step)?;
            let (next, report) = state
                .step(parts, &self.recipe)
                .map_err(|error| self.name_last_good(error))?;
            state = next;
            let time = clock.elapsed();
            window.add(&report, self.recipe.schedule.len(), time);
            observe(Event::Step {
                report: &report,
                images_per_s: speed.add(report.per_image.len(), time),
                total,
            });
            let last = state.step == total;
            if last || due(state.step, rhythm.log_every) {
                self.log(&mut window, &report, state.images_seen)?;
            }
            if last || due(state.step, rhythm.sample_every) {
                self.draw(&state, observe)?;
            }
            if last || due(state.step, rhythm.checkpoint_every) || self.stop.is_requested() {
                self.log(&mut window, &report, state.images_seen)?;
                self.save(&state, observe)?;
            }
        }
        // A stop that came before the first step of a fresh run leaves something to go on from too.
        let checkpoint = match self.last_checkpoint.take() {
            Some(path) => path,
            None => self.save(&state, observe)?,
        };
        Ok(Outcome {
            stopped: state.step < total,
            step: state.step,
            checkpoint,
            grid: self.last_grid.take(),
        })
    }

    fn loader(&self, state: &TrainState) -> Result<Loader, TrainError> {
        let config = &self.config;
        Ok(Loader::new(
            self.dataset.clone(),
            LoaderConfig {
                seed: config.seed,
                batch: config.train.batch,
                first_item: state.images_seen,
                flip: config.data.flip,
                ..LoaderConfig::default()
            },
        )?)
    }

    /// The images of one step with their noise and time steps, split as `accumulate` says.
    ///
    /// Row r of step s gets noise and time from (seed, s, r), however the batch is split.
    fn parts(&self, batch: Batch, step: u64) -> Result<Vec<Part>, TrainError> {
        let config = &self.config;
        let device = self.device.clone().autodiff();
        let [batch_rows, channels, height, width] = batch.shape;
        let steps_t = self.recipe.schedule.len() as u64;
        let part_rows = batch_rows / config.train.accumulate;
        let part_len = part_rows * channels * height * width;
        let mut parts = Vec::new();
        for (i, pixels) in batch.pixels.chunks_exact(part_len).enumerate() {
            let shape = [part_rows, channels, height, width];
            let first = (i * part_rows) as u64;
            let rows = first..first + part_rows as u64;
            let t = rows
                .clone()
                .map(|row| below(config.seed, Stream::TrainTime, step, row, steps_t) as usize)
                .collect();
            parts.push(Part {
                x0: Tensor::from_data(TensorData::new(pixels.to_vec(), shape), &device),
                eps: randn_images(
                    config.seed,
                    Stream::TrainNoise,
                    step,
                    rows.clone(),
                    [channels, height, width],
                    &device,
                ),
                t,
                labels: None,
            });
        }
        Ok(parts)
    }

    fn log(
        &mut self,
        window: &mut Window,
        last: &StepReport,
        images_seen: u64,
    ) -> Result<(), TrainError> {
        if let Some(line) = window.take(last, images_seen) {
            self.metrics.write(&line)?;
        }
        Ok(())
    }

    fn draw(
        &mut self,
        state: &TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        let config = &self.config;
        let shape = [
            config.sample.count,
            self.saved.channels,
            self.saved.height,
            self.saved.width,
        ];
        let model = state.ema_model();
        let drawing = Drawing {
            shape,
            seed: config.seed,
            first_index: 0,
            labels: None,
            device: self.device.clone(),
        };
        let drawn = sample(
            &ModelDenoiser(&model),
            &self.plan,
            drawing,
            &mut |progress| {
                observe(Event::Sampling {
                    done: progress.step,
                    total: progress.of,
                });
                if self.stop.is_requested() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        let images = match drawn {
            Ok(images) => images,
            // The run is to end: the state counts, not the picture.
            Err(DiffusionError::Stopped { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let images = image_batch(images)?;
        let path = self.run.sample_png(state.step);
        images.grid(GridOptions::default())?.save_png(&path)?;
        observe(Event::Sampled {
            images: &images,
            path: &path,
        });
        self.last_grid = Some(path);
        Ok(())
    }

    fn save(
        &mut self,
        state: &TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<PathBuf, TrainError> {
        self.metrics.sync()?;
        let snapshot = snapshot::save(state, &self.saved, self.metrics.position())?;
        let path = checkpoint::save(&self.run, &snapshot)?;
        checkpoint::prune(&self.run, self.config.train.keep)?;
        observe(Event::Saved { path: &path });
        self.last_checkpoint = Some(path.clone());
        Ok(path)
    }

    fn name_last_good(&self, error: TrainError) -> TrainError {
        match (error, &self.last_checkpoint) {
            (
                TrainError::Diverged {
                    quantity,
                    step,
                    value,
                    ..
                },
                Some(path),
            ) => TrainError::Diverged {
                quantity,
                step,
                value,
                last_good: format!("the last good checkpoint is {}", path.display()),
            },
            (error, _) => error,
        }
    }
}

/// Sampled images, ready to be written.
///
/// # Errors   [`TrainError::Device`] if they cannot be read back
pub fn image_batch(images: Tensor<4>) -> Result<ImageBatch, TrainError> {
    let shape = images.dims();
    let pixels = images
        .try_into_data()
        .map_err(|error| TrainError::Device {
            message: error.to_string(),
        })?
        .try_to_vec()
        .map_err(|error| TrainError::Device {
            message: format!("{error:?}"),
        })?;
    Ok(ImageBatch::new(pixels, shape)?)
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

fn describe(model: &ddpm_unet::Model) -> String {
    let kind = match model {
        ddpm_unet::Model::Unet(_) => "U-Net",
        ddpm_unet::Model::Plain(_) => "plain U-Net",
    };
    let parameters = burn::module::Module::num_params(model);
    format!("{kind}, {parameters} parameters")
}

/// Images per second over about the last ten seconds.
#[derive(Debug, Default)]
struct Speed {
    images: f64,
    seconds: f64,
}

impl Speed {
    fn add(&mut self, images: usize, time: Duration) -> f64 {
        let time = time.as_secs_f64();
        // Old steps fade with a time constant of 10 s, so that the figure neither flickers nor lags.
        let fade = (-time / 10.0).exp();
        self.images = self.images * fade + images as f64;
        self.seconds = self.seconds * fade + time;
        self.images / self.seconds.max(1e-9)
    }
}
