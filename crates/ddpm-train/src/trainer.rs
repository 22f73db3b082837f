//! The training loop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use ddpm_data::{Batch, Dataset, Loader, LoaderConfig};
use ddpm_diffusion::{DiffusionError, ImageBatch as Drawing, Learned, Plan, sample};
use ddpm_store::checkpoint::{self, Retention};
use ddpm_store::{GridOptions, ImageBatch, MetricsLog, RunWriter, averages};
use ddpm_unet::ModelShape;

use crate::config::{Config, Validated};
use crate::denoise::SamplingNetwork;
use crate::error::TrainError;
use crate::events::Event;
use crate::flight::Flights;
use crate::guard::{Cause, Guard, SpikePolicy, Verdict};
use crate::loss_scale::LossScale;
use crate::parallel::Ranks;
use crate::recovery::Trouble;
use crate::scheduler;
use crate::snapshot::{self, Progress, SavedState};
use crate::speed::Speed;
use crate::state::{Recipe, StepReport, TrainState};
use crate::stop::Stop;
use crate::tuned::{self, Tuned};
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
    /// Where the network computes; if there are several, each takes its share of every batch, and the first one
    /// draws the samples.
    pub devices: Vec<Device>,
    /// How the run is asked to end early.
    pub stop: Stop,
    /// Where it starts.
    pub start: Start,
}

/// Where a run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first step.
    Fresh,
    /// After its newest checkpoint that verifies, or with the first step if it has none.
    Latest,
    /// After the checkpoint of this step; later ones are moved away.
    From(u64),
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
        learned_variance: config.objective.variance.is_learned(),
        self_condition: config.objective.self_condition > 0.0,
        steps: config.network_steps(),
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

pub(crate) struct Trainer {
    pub(crate) config: Config,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) run: RunWriter,
    pub(crate) device: Device,
    stop: Stop,
    pub(crate) recipe: Recipe,
    plan: Plan,
    pub(crate) ranks: Ranks,
    pub(crate) saved: SavedState,
    pub(crate) metrics: MetricsLog,
    pub(crate) skips: MetricsLog,
    pub(crate) guard: Guard,
    pub(crate) window: Window,
    pub(crate) last_checkpoint: Option<PathBuf>,
    /// The step of the state that is in the last checkpoint.
    pub(crate) saved_step: Option<u64>,
    /// The checkpoint that the run went back to and has not come beyond yet.
    pub(crate) gone_back_to: Option<PathBuf>,
    last_grid: Option<PathBuf>,
    tuned: Tuned,
    pub(crate) flights: Flights,
    checkpoint_due: bool,
}

impl Trainer {
    pub(crate) fn prepare(job: Job) -> Result<(Self, TrainState), TrainError> {
        let Validated {
            config,
            process,
            objective,
            plan,
        } = job.validated;
        let shape = model_shape(&config, &job.dataset);
        let saved = SavedState {
            config: config.clone(),
            channels: shape.channels,
            height: shape.height,
            width: shape.width,
            data: Some(job.dataset.fingerprint()?),
            progress: Progress::default(),
        };
        let recipe = Recipe {
            seed: config.seed,
            process,
            objective,
            optim: config.optim,
            ema: config.ema,
            total_steps: config.train.total_steps(job.dataset.len()),
            precision: config.train.precision,
            recompute: config.train.recompute,
            record: true,
        };
        let ranks = Ranks::new(&job.devices, &config, &recipe)?;
        let device = ranks.first().clone();
        for device in &job.devices {
            config.train.precision.choose(device)?;
        }
        tuned::recall(&job.run);
        scheduler::tell(&config);
        let model = config
            .model
            .build(shape, config.seed, &device.clone().autodiff())
            .map_err(TrainError::Model)?;
        let start = match job.start {
            Start::Fresh => None,
            Start::Latest => checkpoint::latest_valid(&job.run)?,
            Start::From(step) => Some(checkpoint::at_step(&job.run, step)?),
        };
        let metrics = MetricsLog::open(&job.run.metrics_jsonl())?;
        let skips = MetricsLog::open(&job.run.skips_jsonl())?;
        let mut trainer = Self {
            config,
            dataset: job.dataset,
            run: job.run,
            device,
            stop: job.stop,
            recipe,
            plan,
            ranks,
            saved,
            metrics,
            skips,
            guard: Guard::default(),
            window: Window::default(),
            last_checkpoint: None,
            saved_step: None,
            gone_back_to: None,
            last_grid: None,
            tuned: Tuned::default(),
            flights: Flights::default(),
            checkpoint_due: false,
        };
        let recipe = &trainer.recipe;
        let learned = Learned::new(recipe.objective.config(), &recipe.process, recipe.seed);
        // A bound that hangs on the steps before needs their numbers, and so does what is learned from losses.
        let waits = trainer.config.guard.spike != SpikePolicy::Off || !learned.is_nothing();
        if trainer.ranks.judge() && !waits {
            trainer.flights = Flights::ahead();
        }
        let state = match start {
            Some(path) => {
                let (state, skips_bytes) = trainer.restore(&path, model)?;
                trainer.skips.truncate_at(skips_bytes)?;
                if let Start::From(step) = job.start {
                    let moved = checkpoint::supersede(&trainer.run, step)?;
                    if moved > 0 {
                        tracing::info!(
                            "{moved} later checkpoints were moved to {}",
                            trainer.run.superseded().display()
                        );
                    }
                }
                state
            }
            None => {
                trainer.metrics.truncate_at(0)?;
                trainer.skips.truncate_at(0)?;
                averages::supersede(&trainer.run, 0)?;
                TrainState::new(model)
                    .tracking(&trainer.config.ema.power_function)
                    .learning(learned)
            }
        };
        trainer.ranks.mirror(&state, &trainer.saved)?;
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

    pub(crate) fn run(
        &mut self,
        mut state: TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let total = self.recipe.total_steps;
        let mut loader = self.loader(&state)?;
        let mut speed = Speed::default();
        if state.step > 0
            && self.picture_due(state.step)
            && !self.run.sample_png(state.step).exists()
        {
            // The process died between the checkpoint of this step and its picture.
            self.draw(&state, observe)?;
        }
        while !self.ends_at(state.step) || !self.flights.none() {
            let mut trouble;
            (state, trouble) = match self.flights.most {
                0 => self.step(state, &mut loader, &mut speed, observe)?,
                _ => self.step_ahead(state, &mut loader, &mut speed, observe)?,
            };
            if trouble.is_none() && !self.flights.none() {
                continue;
            }
            if trouble.is_none() {
                self.keep_averages(&state)?;
                self.checkpoint_due |= due(state.step, self.config.train.checkpoint_every);
                // Updates that are left out may mean that the state has gone bad: it must not push out good ones.
                let good = self.checkpoint_due && self.guard.consecutive() == 0;
                if good || self.ends_at(state.step) {
                    trouble = self.save(&state, observe)?;
                    self.checkpoint_due = false;
                }
            }
            if let Some(trouble) = trouble {
                state = self.go_back(state, trouble, observe)?;
                loader = self.loader(&state)?;
                self.flights.forget();
                // What was due lies ahead again; an early checkpoint would pass for progress.
                self.checkpoint_due = false;
            } else if self.picture_due(state.step) {
                self.draw(&state, observe)?;
            }
        }
        // A stop during a picture, or before the first step, leaves something to go on from too.
        if self.saved_step != Some(state.step)
            && let Some(trouble) = self.save(&state, observe)?
        {
            return Err(self.diverged(trouble));
        }
        Ok(Outcome {
            stopped: state.step < total,
            step: state.step,
            checkpoint: self.last_checkpoint.take().unwrap_or_default(),
            grid: self.last_grid.take(),
        })
    }

    /// One optimiser step, or one whose update is left out; the trouble is that there were too many of those.
    fn step(
        &mut self,
        state: TrainState,
        loader: &mut Loader,
        speed: &mut Speed,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(TrainState, Option<Trouble>), TrainError> {
        let clock = Instant::now();
        let (mut state, batch) = self.next(state, loader)?;
        let computed = self.ranks.compute(&state, &batch)?.wait()?;
        let (loss, grad_norm) = (computed.loss, computed.grad_norm);
        let step = state.step + 1;
        let (state, trouble) = if self.overflowed(&mut state.loss_scale, step, loss, grad_norm) {
            (self.ranks.skip(state, computed), None)
        } else {
            match self.guard.judge(&self.config.guard, loss, grad_norm) {
                Verdict::Update { max_norm } => {
                    let (state, report) = self.ranks.update(state, computed, max_norm);
                    self.updated(&report, clock.elapsed(), speed, observe);
                    (state, None)
                }
                Verdict::Skip(cause) => {
                    let state = self.ranks.skip(state, computed);
                    let numbers = (loss, grad_norm);
                    let trouble = self.left_out(cause, step, numbers, &batch.indices, observe)?;
                    (state, trouble)
                }
            }
        };
        if trouble.is_none() {
            self.log(state.step, state.images_seen)?;
        }
        Ok((state, trouble))
    }

    /// The next step's batch.
    ///
    /// # Errors   those of [`Loader::next`]
    pub(crate) fn next(
        &mut self,
        state: TrainState,
        loader: &mut Loader,
    ) -> Result<(TrainState, Arc<Batch>), TrainError> {
        let batch = self.flights.next_batch(loader)?;
        #[cfg(feature = "faults")]
        let (state, batch) = spoil(state, batch);
        Ok((state, batch))
    }

    /// Whether a step is one of those that the search for a loss scale is made of, and did not go wrong otherwise.
    pub(crate) fn overflowed(
        &mut self,
        scale: &mut LossScale,
        step: u64,
        loss: f64,
        grad_norm: f64,
    ) -> bool {
        let overflow = loss.is_finite() && !grad_norm.is_finite();
        if !(overflow && self.config.train.precision.scales_loss() && scale.overflowed()) {
            return false;
        }
        let value = scale.value();
        tracing::debug!("step {step}: the gradient overflowed; the loss scale is now {value}");
        self.window.add_skipped();
        true
    }

    /// Takes note of an update.
    pub(crate) fn updated(
        &mut self,
        report: &StepReport,
        time: Duration,
        speed: &mut Speed,
        observe: &mut dyn FnMut(Event),
    ) {
        self.window.add(report, &self.recipe.process, time);
        observe(Event::Step {
            report,
            images_per_s: speed.add(report.per_image.len(), time),
            total: self.recipe.total_steps,
        });
    }

    /// Takes note of an update that was left out, by the loss and the norm of the gradient; the trouble is that there
    /// were too many.
    ///
    /// # Errors   if the log of those cannot be written
    pub(crate) fn left_out(
        &mut self,
        cause: Cause,
        step: u64,
        (loss, grad_norm): (f64, f64),
        images: &[usize],
        observe: &mut dyn FnMut(Event),
    ) -> Result<Option<Trouble>, TrainError> {
        let value = match cause {
            Cause::Gradient => grad_norm,
            _ => loss,
        };
        let trouble = Trouble { cause, step, value };
        self.window.add_skipped();
        self.note_skip(trouble, images, observe)?;
        let too_many = self.guard.consecutive() > self.config.guard.max_consecutive_skips;
        Ok(too_many.then_some(trouble))
    }

    /// Whether the run ends with this step.
    pub(crate) fn ends_at(&self, step: u64) -> bool {
        step >= self.recipe.total_steps || self.stop.is_requested()
    }

    /// Whether something has to be done with the state as it is after this step.
    pub(crate) fn pauses_at(&self, step: u64) -> bool {
        self.ends_at(step)
            || self.checkpoint_due
            || due(step, self.config.train.checkpoint_every)
            || self.picture_due(step)
            || self.averages_due(step)
    }

    fn picture_due(&self, step: u64) -> bool {
        step == self.recipe.total_steps || due(step, self.config.train.sample_every)
    }

    pub(crate) fn loader(&self, state: &TrainState) -> Result<Loader, TrainError> {
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

    /// Writes a line if one is due after this step.
    ///
    /// # Errors   if it cannot be written
    pub(crate) fn log(&mut self, step: u64, images_seen: u64) -> Result<(), TrainError> {
        let last = step == self.recipe.total_steps;
        if !(last || due(step, self.config.train.log_every)) {
            return Ok(());
        }
        if let Some(line) = self.window.take(step, images_seen) {
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
        if let Some(warning) = config.ema.warning(state.updates) {
            tracing::warn!("these samples: {warning}");
        }
        let model = state.ema_model();
        let drawing = Drawing {
            shape,
            seed: config.seed,
            first_index: 0,
            labels: None,
            device: self.device.clone(),
        };
        let network = SamplingNetwork::new(&model, config.train.precision);
        let drawn = sample(&network, &self.plan, drawing, &mut |progress| {
            observe(Event::Sampling {
                done: progress.step,
                total: progress.of,
            });
            if self.stop.is_requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
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

    /// Commits a checkpoint, unless a number in it is none: that is the trouble then.
    fn save(
        &mut self,
        state: &TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Option<Trouble>, TrainError> {
        let progress = Progress {
            updates: Some(state.updates),
            skips_bytes: self.skips.position(),
            guard: self.guard.clone(),
            window: self.window.clone(),
            loss_scale: state.loss_scale,
            learned: state.learned.clone(),
        };
        let saved = SavedState {
            progress,
            ..self.saved.clone()
        };
        let snapshot = snapshot::save(state, &saved, self.metrics.position())?;
        if let Some(name) = snapshot::not_finite(&snapshot) {
            tracing::warn!(
                "step {}: `{name}` holds a number that is none; no checkpoint",
                state.step
            );
            return Ok(Some(Trouble {
                cause: Cause::State,
                step: state.step,
                value: f64::NAN,
            }));
        }
        self.ranks.agree(state, &self.saved)?;
        self.metrics.sync()?;
        self.skips.sync()?;
        self.tuned.keep(&self.run)?;
        let path = checkpoint::save(&self.run, &snapshot)?;
        let retention = Retention {
            keep: self.config.train.keep,
            keep_every: self.config.train.keep_every,
        };
        checkpoint::prune(&self.run, retention, state.step)?;
        observe(Event::Saved { path: &path });
        self.last_checkpoint = Some(path);
        self.saved_step = Some(state.step);
        self.gone_back_to = None;
        Ok(None)
    }
}

/// A step's batch and parameters with their faults in them.
#[cfg(feature = "faults")]
fn spoil(state: TrainState, mut batch: Arc<Batch>) -> (TrainState, Arc<Batch>) {
    use crate::faults::{Part as At, bad};
    let step = state.step + 1;
    if let Some(value) = bad(step, At::Batch)
        && let Some(pixel) = Arc::make_mut(&mut batch).pixels.first_mut()
    {
        *pixel = value;
    }
    match bad(step, At::Parameter) {
        Some(value) => (state.with_bad_parameter(value), batch),
        None => (state, batch),
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
        .try_into_vec()
        .map_err(|error| TrainError::Device {
            message: format!("{error:?}"),
        })?;
    Ok(ImageBatch::new(pixels, shape)?)
}

pub(crate) fn due(step: u64, every: u64) -> bool {
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
