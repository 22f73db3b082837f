//! One optimiser step: a state and its micro-batches become the next state and a report. No files, no data set, no clock.

use std::cell::RefCell;

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use ddpm_diffusion::{Learned, Objective};
use ddpm_kernels::{Clip, FoundInf, measure};
use ddpm_schedule::Process;
use ddpm_unet::{Model, Precision};

use crate::collective::gradients::LocalGradients;
use crate::config::Validated;
use crate::ema::{self, EmaConfig, Moment, Tracked};
use crate::error::TrainError;
use crate::faults;
use crate::forward_backward::Passes;
use crate::graph::StepGraph;
use crate::loss_scale::LossScale;
use crate::lr::learning_rate;
use crate::micro_batch::MicroBatch;
use crate::optim::{self, OptimConfig, ParamGrads, ParamState, Update};
use crate::pending::{MeasuredGradients, PendingStep};
use crate::position::Position;
use crate::train_network::TrainNetwork;

/// Everything that one optimiser step depends on besides the state and the images.
#[derive(Debug, Clone)]
pub struct StepConfig {
    /// Seed of the dropout masks.
    pub seed: u64,
    /// The diffusion process.
    pub process: Process,
    /// What is predicted, and the weights of its error.
    pub objective: Objective,
    /// The optimiser.
    pub optim: OptimConfig,
    /// The moving average.
    pub ema: EmaConfig,
    /// Steps of the whole run, which the learning rate decays over.
    pub total_steps: u64,
    /// What the network computes in.
    pub precision: Precision,
    /// Whether blocks of the network are computed twice instead of being kept for the backward pass.
    pub recompute: bool,
    /// Whether a GPU may capture its passes forward and backward as a graph and replay it. No other thread of the
    /// process may work on a GPU in the steps in which it does, which are the first ones.
    pub capture: bool,
}

impl From<&Validated> for StepConfig {
    /// The step of a validated configuration, for a run that says its length in steps.
    fn from(validated: &Validated) -> Self {
        let config = &validated.config;
        Self {
            seed: config.seed,
            process: validated.process.clone(),
            objective: validated.objective.clone(),
            optim: config.optim,
            ema: config.ema,
            total_steps: config.train.total_steps(0),
            precision: config.train.precision,
            recompute: config.train.recompute,
            capture: true,
        }
    }
}

/// What one optimiser step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The step, counted from 1.
    pub step: u64,
    /// Mean weighted loss over the batch.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the EMA after this step.
    pub ema_decay: f64,
    /// Time and weighted loss of each image.
    pub per_image: Vec<(f64, f32)>,
}

/// A network, its optimiser state and its position in the run.
#[derive(Debug)]
pub struct TrainState<N = Model> {
    /// The network, on a device with autodiff.
    pub model: N,
    /// Moments and EMA weights of its parameters.
    pub params: Vec<ParamState>,
    /// Power-function averages of its parameters.
    pub(crate) tracked: Vec<Tracked>,
    /// Optimiser steps done.
    pub step: u64,
    /// Images trained on.
    pub images_seen: u64,
    /// Updates made: `step` less the skipped ones.
    pub updates: u64,
    /// What the loss is scaled by, where the precision asks for it.
    pub loss_scale: LossScale,
    /// What the objective has learned of noise levels.
    pub(crate) learned: Learned,
    /// What a GPU has captured of its steps.
    pub(crate) graph: RefCell<StepGraph>,
}

impl<N: TrainNetwork> TrainState<N> {
    /// A state before the first step.
    pub fn new(model: N) -> Self {
        let params = optim::new_params(&model);
        Self {
            model,
            params,
            tracked: Vec::new(),
            step: 0,
            images_seen: 0,
            updates: 0,
            loss_scale: LossScale::default(),
            learned: Learned::default(),
            graph: RefCell::default(),
        }
    }

    /// With power-function averages of these σ_rel besides, which begin with the weights as they are.
    #[must_use]
    pub fn tracking(self, sigma_rels: &[f64]) -> Self {
        Self {
            tracked: ema::track(&self.model, sigma_rels),
            ..self
        }
    }

    /// With what the objective learns of noise levels.
    #[must_use]
    pub(crate) fn learning(self, learned: Learned) -> Self {
        Self { learned, ..self }
    }

    /// Whether a GPU replays the steps that it captured; why not, if that is known.
    ///
    /// # Errors   the reason, as the GPU's driver or the comparison of the graph says it
    pub fn replays(&self) -> Result<(), Option<String>> {
        let graph = self.graph.borrow();
        graph.replays().map_err(|why| why.map(str::to_owned))
    }

    /// The network with the EMA weights, for sampling.
    pub fn ema_model(&self) -> N {
        optim::ema_network(&self.model, &self.params)
    }

    /// The network alone.
    pub(crate) fn into_model(self) -> N {
        self.model
    }

    /// Where the network is, with autodiff.
    pub(crate) fn device(&self) -> Device {
        struct First(Option<Device>);
        impl ModuleVisitor for First {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.get_or_insert_with(|| param.val().device());
            }
        }
        let mut first = First(None);
        self.model.visit(&mut first);
        first.0.unwrap_or_default()
    }

    /// One optimiser step over all micro-batches, with nothing to guard it.
    ///
    /// The loss is the mean over all images, so the micro-batches must be of one size.
    ///
    /// # Errors   [`TrainError::Diverged`] if the loss or the gradient is not finite, [`TrainError::Model`] if the
    /// images do not fit the network, [`TrainError::Device`]
    pub fn step(
        self,
        micro_batches: Vec<MicroBatch>,
        config: &StepConfig,
    ) -> Result<(Self, StepReport), TrainError> {
        let (grads, pending) = self.whole_batch(micro_batches, config)?.deferred();
        let report = pending.wait()?.finite()?;
        Ok((self.update(grads, &report, config, f64::INFINITY), report))
    }

    /// As [`TrainState::step`], given to the device without waiting for it: the device makes the update unless the
    /// loss or the gradient is not finite, and none after that. The counters are those of an update.
    ///
    /// # Errors   those of [`TrainState::step`]
    pub fn step_if_finite(
        self,
        micro_batches: Vec<MicroBatch>,
        config: &StepConfig,
        found_inf: &mut FoundInf,
    ) -> Result<(Self, PendingStep), TrainError> {
        let measured = self.whole_batch(micro_batches, config)?;
        Ok(self.update_if_finite(measured, config, found_inf))
    }

    fn whole_batch(
        &self,
        micro_batches: Vec<MicroBatch>,
        config: &StepConfig,
    ) -> Result<MeasuredGradients, TrainError> {
        let count = micro_batches.len();
        let times = micro_batches
            .iter()
            .map(|batch| batch.times.clone())
            .collect();
        let mut local = self.local_gradients(micro_batches, 0, count, config, true)?;
        let Some(grads) = local.sums.pop() else {
            unreachable!("all micro-batches are one tree")
        };
        self.measure(grads, local.losses, times, config)
    }

    /// The gradients of this rank's micro-batches, the first of which is number `first` of `of`. Passes are captured
    /// only if this thread is `alone` at work on GPUs: others would spoil the graph.
    ///
    /// # Errors   those of [`TrainState::step`]
    pub(crate) fn local_gradients(
        &self,
        micro_batches: Vec<MicroBatch>,
        first: usize,
        of: usize,
        config: &StepConfig,
        alone: bool,
    ) -> Result<LocalGradients, TrainError> {
        let loss_scale = self.scale(config);
        let step = self.step;
        let (passes, inputs) = Passes::new(&self.model, config, step, loss_scale, micro_batches)?;
        let passes = passes.within(first, of);
        let local = match config.capture {
            true => self.graph.borrow_mut().run(&passes, inputs, alone)?,
            false => passes.run(inputs)?,
        };
        Ok(LocalGradients {
            losses: faults::in_losses(step + 1, local.losses, passes.images()),
            ..local
        })
    }

    /// Measures the gradient of a whole step, whose micro-batches have these times; nothing is waited for.
    ///
    /// # Errors   [`TrainError::Device`] if the device's work failed
    pub(crate) fn measure(
        &self,
        grads: ParamGrads,
        losses: Tensor<1>,
        times: Vec<Vec<f64>>,
        config: &StepConfig,
    ) -> Result<MeasuredGradients, TrainError> {
        let grads = faults::in_gradient(self.step + 1, grads);
        let stats = measure(losses, grads.flat()).map_err(device_failed)?;
        let update = self.scalars(config);
        Ok(MeasuredGradients {
            grads,
            stats,
            divisor: times.len() as f64 * self.scale(config),
            step: self.step + 1,
            lr: update.lr,
            ema_decay: update.ema_decay,
            times,
        })
    }

    /// Moves every parameter once, with a gradient of a norm of at most `max_norm` and of what the configuration clips
    /// to; `report` says the norm.
    pub(crate) fn update(
        self,
        grads: ScaledGradients,
        report: &StepReport,
        config: &StepConfig,
        max_norm: f64,
    ) -> Self {
        let clip = Clip {
            divisor: grads.divisor,
            max_norm: clip_norm(config).min(max_norm),
        };
        let update = Update {
            grad_scale: clip.scale(report.grad_norm),
            ..self.scalars(config)
        };
        let rows = report.per_image.len() as u64;
        let position = self.position().updated(config, rows);
        let moment = Moment::of(position, rows);
        let grads = grads.grads;
        let (model, params) = optim::update(self.model, self.params, grads, &config.optim, update);
        let tracked = ema::keep_all(self.tracked, &model, moment, None);
        let model = model.after_update();
        let mut learned = self.learned;
        learned.note(&config.process, &report.per_image);
        Self::of(model, params, tracked, position, self.graph).learning(learned)
    }

    /// As [`TrainState::update`] by what the configuration clips to, before the numbers are there: the device decides
    /// whether there is an update, and the counters are those of one.
    pub(crate) fn update_if_finite(
        self,
        measured: MeasuredGradients,
        config: &StepConfig,
        found_inf: &mut FoundInf,
    ) -> (Self, PendingStep) {
        let clip = Clip {
            divisor: measured.divisor,
            max_norm: clip_norm(config),
        };
        let scalars = optim::adam_scalars(&config.optim, self.scalars(config));
        let rows = measured.images();
        let position = self.position().updated(config, rows);
        let moment = Moment::of(position, rows);
        let (grads, stats, report) = measured.split();
        let (model, params, stats) = optim::update_if_finite(
            self.model,
            self.params,
            grads,
            scalars,
            clip,
            stats,
            found_inf,
        );
        let tracked = ema::keep_all(self.tracked, &model, moment, Some(found_inf));
        let model = model.after_update();
        let state = Self::of(model, params, tracked, position, self.graph);
        (state, report(stats))
    }

    fn of(
        model: N,
        params: Vec<ParamState>,
        tracked: Vec<Tracked>,
        position: Position,
        graph: RefCell<StepGraph>,
    ) -> Self {
        Self {
            model,
            params,
            tracked,
            step: position.step,
            images_seen: position.images_seen,
            updates: position.updates,
            loss_scale: position.loss_scale,
            learned: Learned::default(),
            graph,
        }
    }

    /// The next update, with the gradient as it is.
    fn scalars(&self, config: &StepConfig) -> Update {
        let optim = &config.optim;
        Update {
            lr: learning_rate(
                optim.lr,
                optim.warmup_steps,
                optim.decay,
                self.step,
                config.total_steps,
            ),
            step: self.updates,
            grad_scale: f64::NAN,
            ema_decay: config.ema.decay_at(self.updates),
        }
    }

    fn scale(&self, config: &StepConfig) -> f64 {
        match config.precision.scales_loss() {
            true => self.loss_scale.value(),
            false => 1.0,
        }
    }
}

/// Gradients as sums over micro-batches of a scaled loss, and what they are too large by.
#[derive(Debug)]
pub(crate) struct ScaledGradients {
    pub(crate) grads: ParamGrads,
    pub(crate) divisor: f64,
}

/// Numbers in the host's memory.
///
/// # Errors   [`TrainError::Device`] if they cannot be read back
pub(crate) fn read(x: Tensor<1>) -> Result<Vec<f32>, TrainError> {
    x.try_into_data()
        .map_err(|error| device_failed(error.to_string()))?
        .try_to_vec()
        .map_err(|error| device_failed(format!("{error:?}")))
}

pub(crate) fn device_failed(message: String) -> TrainError {
    TrainError::Device { message }
}

/// The norm that gradients are scaled down to.
fn clip_norm(config: &StepConfig) -> f64 {
    match config.optim.clip_norm {
        0.0 => f64::INFINITY,
        clip => clip,
    }
}
