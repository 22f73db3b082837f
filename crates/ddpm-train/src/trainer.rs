//! A run: what it is made of, and how it begins.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use ddpm_data::{Dataset, Loader, LoaderConfig};
use ddpm_diffusion::{Learned, Plan};
use ddpm_kernels::{FoundInf, checks_finite};
use ddpm_store::RunWriter;
use ddpm_unet::Model;

use crate::collective::gpus::GpuSum;
use crate::collective::gradients::GradientSum;
use crate::collective::threads::Threads;
use crate::collective::{Collective, Solo, agree, on_first, state as ranks_state};
use crate::config::{Config, Validated};
use crate::error::TrainError;
use crate::evaluate::Evaluate;
use crate::events::Event;
use crate::guard::{Guard, SpikePolicy};
use crate::metric_averager::MetricAverager;
use crate::micro_batch::RankRows;
use crate::model_shape::model_shape;
use crate::numbers;
use crate::pipeline::{PIPELINE_DEPTH, Pipeline};
use crate::prefetch::{NoisePrefetch, helpers};
use crate::ranks::check_ranks;
use crate::run_output::RunOutput;
use crate::snapshot::{Progress, SavedState};
use crate::speed::Speed;
use crate::step::{StepConfig, TrainState};
use crate::stop::Stop;

/// A run to be started or gone on with.
#[derive(Debug)]
pub struct Job {
    /// The resolved configuration.
    pub validated: Validated,
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// Where the run is kept; rank 0's alone.
    pub run: Option<RunWriter>,
    /// Who computes.
    pub workers: Workers,
    /// How the run is asked to end early.
    pub stop: Stop,
    /// Where it starts.
    pub start: Start,
    /// What judges its samples, where `train.eval_every` asks for that; rank 0's alone.
    pub evaluator: Option<Box<dyn Evaluate>>,
}

/// Who computes a run.
#[derive(Debug)]
pub enum Workers {
    /// Devices of this process, a rank each; the first is rank 0 and draws the samples.
    Devices(Vec<Device>),
    /// One device, a rank among those of other processes.
    Rank(Device, Box<dyn Collective>),
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
    /// The last checkpoint; rank 0 knows it.
    pub checkpoint: Option<PathBuf>,
    /// The last sample grid, if one was drawn.
    pub grid: Option<PathBuf>,
}

/// Trains until the last step, a stop or an error.
///
/// # Errors   [`TrainError::Diverged`] with the earlier checkpoints intact, and whatever the data
/// set, the disk, the device or another rank reports
pub fn train(job: Job, observe: &mut dyn FnMut(Event)) -> Result<Outcome, TrainError> {
    train_to_state(job, observe).map(|(outcome, _)| outcome)
}

/// As [`train`], with the state at the end.
pub(crate) fn train_to_state(
    job: Job,
    observe: &mut dyn FnMut(Event),
) -> Result<(Outcome, TrainState), TrainError> {
    let Job {
        validated,
        dataset,
        run,
        workers,
        stop,
        start,
        mut evaluator,
    } = job;
    let fingerprint = dataset.fingerprint(&validated.config.condition.columns)?;
    let mut rank = |device, ranks, run| RankJob {
        validated: validated.clone(),
        dataset: dataset.clone(),
        fingerprint: fingerprint.clone(),
        run,
        device,
        ranks,
        stop: stop.clone(),
        start,
        evaluator: evaluator.take(),
    };
    match workers {
        Workers::Rank(device, ranks) => rank(device, ranks, run).train(observe),
        Workers::Devices(devices) => match &devices[..] {
            [device] => rank(device.clone(), Box::new(Solo), run).train(observe),
            _ => {
                check_ranks(&validated.config, devices.len())?;
                let ranks = Threads::of(&devices).into_iter().zip(devices);
                let mut run = run;
                let jobs = ranks.map(|(ranks, device)| rank(device, Box::new(ranks), run.take()));
                crate::ranks::train_in_threads(jobs.collect(), observe)
            }
        },
    }
}

/// A run as one rank has it.
#[derive(Debug)]
pub(crate) struct RankJob {
    pub(crate) validated: Validated,
    pub(crate) dataset: Arc<Dataset>,
    /// Of the data set.
    pub(crate) fingerprint: String,
    pub(crate) run: Option<RunWriter>,
    pub(crate) device: Device,
    pub(crate) ranks: Box<dyn Collective>,
    pub(crate) stop: Stop,
    pub(crate) start: Start,
    pub(crate) evaluator: Option<Box<dyn Evaluate>>,
}

impl RankJob {
    pub(crate) fn train(
        self,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(Outcome, TrainState), TrainError> {
        let (mut trainer, state) = Trainer::prepare(self)?;
        trainer.announce(&state, observe);
        trainer.run(state, observe)
    }
}

/// A run under way, as one rank has it: all but the training state.
pub(crate) struct Trainer {
    pub(crate) config: Config,
    pub(crate) step_config: StepConfig,
    /// How samples are drawn.
    pub(crate) plan: Plan,
    pub(crate) dataset: Arc<Dataset>,
    /// The numbers of each of its images, as the network is told them; empty if there are none.
    pub(crate) numbers: Vec<Vec<f32>>,
    pub(crate) device: Device,
    pub(crate) ranks: Box<dyn Collective>,
    /// This rank's rows of a batch.
    pub(crate) rank_rows: RankRows,
    pub(crate) sum: GradientSum,
    pub(crate) noise: NoisePrefetch,
    pub(crate) pipeline: Pipeline,
    /// Whether the device finds out by itself that a step went wrong.
    pub(crate) checks_finite: bool,
    pub(crate) guard: Guard,
    pub(crate) averager: MetricAverager,
    pub(crate) speed: Speed,
    pub(crate) saved: SavedState,
    /// The step of the state that is in the last checkpoint.
    pub(crate) saved_step: Option<u64>,
    /// A checkpoint that was due while updates were skipped.
    pub(crate) checkpoint_due: bool,
    /// What rank 0 writes.
    pub(crate) output: Option<RunOutput>,
    /// What judges samples, on rank 0.
    pub(crate) evaluator: Option<Box<dyn Evaluate>>,
    pub(crate) stop: Stop,
    /// Whether some rank was asked to stop, as all know since the last step.
    pub(crate) stopping: bool,
    /// Whether some rank may capture its passes in the next step.
    pub(crate) capturing: bool,
}

impl Trainer {
    pub(crate) fn prepare(job: RankJob) -> Result<(Self, TrainState), TrainError> {
        let RankJob {
            validated,
            dataset,
            fingerprint,
            run,
            device,
            mut ranks,
            stop,
            start,
            evaluator,
        } = job;
        let step_config = StepConfig {
            total_steps: validated.config.train.total_steps(dataset.len()),
            ..StepConfig::from(&validated)
        };
        let Validated { config, plan, .. } = validated;
        let shape = model_shape(&config, &dataset)?;
        let (columns, numbers) = numbers::told(&config.condition, &dataset)?;
        let first = on_first(ranks.as_mut(), || Ok(fingerprint.clone()))?;
        let own = || {
            if first != fingerprint {
                return Err(TrainError::OtherImages {
                    rank: ranks.rank(),
                    data: dataset.describe(),
                });
            }
            config.train.precision.choose(&device)?;
            let output = run.map(RunOutput::open).transpose()?;
            let model = config
                .model
                .build(shape, config.seed, &device.clone().autodiff())
                .map_err(TrainError::Model)?;
            Ok((output, model))
        };
        let own = own();
        let (output, model) = agree(ranks.as_mut(), own)?;
        if output.is_some() {
            crate::scheduler::tell(&config);
        }
        let learned = Learned::new(
            step_config.objective.config(),
            &step_config.process,
            config.seed,
        );
        let checks_finite = checks_finite(&device);
        // A bound that hangs on the steps before needs their numbers, and so does what is learned from losses. The sum
        // over several ranks waits for them anyway.
        let waits = config.guard.spike != SpikePolicy::Off || !learned.is_nothing();
        let depth = match checks_finite && !waits && ranks.size() == 1 {
            true => PIPELINE_DEPTH,
            false => 0,
        };
        let micro_batches = config.train.micro_batches(ranks.size());
        let rank_rows = RankRows::new(
            ranks.rank(),
            ranks.size(),
            micro_batches,
            config.train.batch,
        );
        let parameters = ddpm_unet::params::shapes(&model).into_iter();
        let reduction = config.train.reduction;
        let gpus = GpuSum::of(ranks.as_mut(), &device.clone().inner(), reduction)?;
        let mut trainer = Self {
            sum: GradientSum {
                reduction,
                micro_batches,
                images: rank_rows.images,
                parameters: parameters
                    .map(|(_, shape)| shape.iter().product())
                    .collect(),
                device: device.clone().inner(),
                gpus,
            },
            rank_rows,
            plan,
            noise: NoisePrefetch::default(),
            pipeline: Pipeline::new(depth, FoundInf::new(&device.clone().inner())),
            guard: Guard::default(),
            averager: MetricAverager::default(),
            speed: Speed::default(),
            saved: SavedState {
                config: config.clone(),
                channels: shape.channels,
                height: shape.height,
                width: shape.width,
                data: Some(fingerprint),
                ema_warning: None,
                class_names: shape
                    .condition
                    .classes
                    .and_then(|_| Some(dataset.class_names()?.to_vec())),
                columns,
                progress: Progress::default(),
            },
            numbers,
            saved_step: None,
            checkpoint_due: false,
            output,
            evaluator,
            stop,
            stopping: false,
            capturing: checks_finite,
            checks_finite,
            config,
            step_config,
            dataset,
            device,
            ranks,
        };
        let state = trainer.first_state(start, model, learned);
        let (state, progress) = agree(trainer.ranks.as_mut(), state)?;
        let state = trainer.broadcast(state, progress)?;
        let output = &trainer.output;
        let saved = on_first(trainer.ranks.as_mut(), || {
            Ok(output
                .as_ref()
                .is_some_and(|output| output.last_checkpoint.is_some()))
        })?;
        trainer.saved_step = saved.then_some(state.step);
        Ok((trainer, state))
    }

    /// The state that a run starts with, on rank 0; the others have one of the same shapes.
    fn first_state(
        &mut self,
        start: Start,
        model: Model,
        learned: Learned,
    ) -> Result<(TrainState, Progress), TrainError> {
        let fresh = |model| {
            let state = TrainState::new(model).tracking(&self.config.ema.power_function);
            let progress = Progress {
                updates: Some(0),
                learned,
                ..Progress::default()
            };
            (state, progress)
        };
        let found = match &self.output {
            Some(output) => output.checkpoint_of(start)?,
            None => None,
        };
        let (Some(path), Some(output)) = (found, &mut self.output) else {
            if let Some(output) = &mut self.output {
                output.begin()?;
            }
            // The others get the weights from it.
            let model = match &self.config.init {
                Some(init) if self.ranks.is_first() => init.begin(model, &self.device)?,
                _ => model,
            };
            return Ok(fresh(model));
        };
        let context = (&self.saved, self.dataset.as_ref());
        let (state, progress) = output.restore(&path, model, context, &self.device)?;
        output.skips.truncate_at(progress.skips_bytes)?;
        if let Start::From(step) = start {
            output.supersede_after(step)?;
        }
        Ok((state, progress))
    }

    /// Gives all ranks the state of rank 0, and takes over what the run remembers besides.
    pub(crate) fn broadcast(
        &mut self,
        state: TrainState,
        progress: Progress,
    ) -> Result<TrainState, TrainError> {
        let ranks = self.ranks.as_mut();
        let (mut state, progress) = ranks_state::broadcast(ranks, state, &self.saved, progress)?;
        state.loss_scale = progress.loss_scale;
        state.learned = progress.learned;
        self.guard = progress.guard;
        self.averager = progress.window;
        Ok(state)
    }

    pub(crate) fn announce(&self, state: &TrainState, observe: &mut dyn FnMut(Event)) {
        observe(Event::Started {
            data: &self.dataset.describe(),
            model: &describe(&state.model),
            run: self.output.as_ref().map(|output| output.run.path()),
            done: state.step,
            total: self.step_config.total_steps,
        });
    }

    pub(crate) fn loader(&self, state: &TrainState) -> Result<Loader, TrainError> {
        let config = &self.config;
        let usual = LoaderConfig::default();
        let threads = match config.augment.is_off() {
            true => usual.threads,
            false => helpers(),
        };
        Ok(Loader::new(
            self.dataset.clone(),
            LoaderConfig {
                seed: config.seed,
                batch: config.train.batch,
                rows: Some(self.rank_rows.rows()),
                first_item: state.images_seen,
                flip: config.data.flip,
                augment: config.augment,
                threads,
                prefetch: usual.prefetch.max(threads),
            },
        )?)
    }

    /// Whether the run ends with this step.
    pub(crate) fn ends_at(&self, step: u64) -> bool {
        // Ranks see signals at different times, and have to stop after the same step.
        let stopping = match self.ranks.size() {
            1 => self.stop.is_requested(),
            _ => self.stopping,
        };
        step >= self.step_config.total_steps || stopping
    }

    /// Whether something has to be done with the state as it is after this step.
    pub(crate) fn pauses_at(&self, step: u64) -> bool {
        self.ends_at(step)
            || self.checkpoint_due
            || due(step, self.config.train.checkpoint_every)
            || self.is_sample_due(step)
            || self.is_evaluation_due(step)
            || self.are_averages_due(step)
    }

    /// Whether a checkpoint is to be written after this step.
    pub(crate) fn is_checkpoint_due(&mut self, step: u64) -> bool {
        self.checkpoint_due |= due(step, self.config.train.checkpoint_every);
        // What is judged is kept.
        self.checkpoint_due |= self.is_evaluation_due(step);
        // Skipped updates may mean that the state has gone bad: it must not push out good ones.
        let good = self.checkpoint_due && self.guard.consecutive() == 0;
        good || self.ends_at(step)
    }

    pub(crate) fn is_sample_due(&self, step: u64) -> bool {
        step == self.step_config.total_steps || due(step, self.config.train.sample_every)
    }

    pub(crate) fn are_averages_due(&self, step: u64) -> bool {
        let config = &self.config;
        let every = config.ema.snapshot_every;
        let every = every.unwrap_or(config.train.checkpoint_every);
        !config.ema.power_function.is_empty()
            && (step == self.step_config.total_steps || due(step, every))
    }

    pub(crate) fn outcome(&mut self, step: u64) -> Outcome {
        let output = self.output.as_mut();
        let (checkpoint, grid) = output.map_or((None, None), RunOutput::last_files);
        Outcome {
            stopped: step < self.step_config.total_steps,
            step,
            checkpoint,
            grid,
        }
    }
}

pub(crate) fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

fn describe(model: &Model) -> String {
    let kind = match model {
        Model::Unet(_) => "U-Net",
        Model::Plain(_) => "plain U-Net",
        Model::Edm(_) => "U-Net of EDM",
        Model::Edm2(_) => "U-Net of EDM2",
        Model::Lucidrains(_) => "U-Net of denoising-diffusion-pytorch",
    };
    let parameters = burn::module::Module::num_params(model);
    format!("{kind}, {parameters} parameters")
}
