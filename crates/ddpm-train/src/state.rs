//! A network in training: one optimiser step after the other.

use std::cell::RefCell;

use burn::tensor::Tensor;
use ddpm_diffusion::{Learned, Objective};
use ddpm_kernels::{Clip, Halt, measure};
use ddpm_schedule::Process;
use ddpm_unet::{ClassLabels, Model, Precision};

use crate::ema::{self, EmaConfig, Moment, Tracked};
use crate::error::TrainError;
use crate::loss_scale::LossScale;
use crate::lr::learning_rate;
use crate::optim::{self, OptimConfig, ParamGrads, Slot, Update};
use crate::passes::Passes;
use crate::position::Position;
use crate::recorder::Recorder;
use crate::underway::{Losses, Share, Tally, Underway, Unseen};

/// Everything that one optimiser step depends on besides the images.
#[derive(Debug, Clone)]
pub struct Recipe {
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
    /// Whether a card may record its passes forward and backward and replay them. No other thread of the process may
    /// work on a card in the steps in which it does, which are the first ones.
    pub record: bool,
}

/// Some of the images of one optimiser step.
#[derive(Debug, Clone)]
pub struct Part {
    /// Images, `[batch, channels, height, width]`.
    pub x0: Tensor<4>,
    /// The noise that is added to them, of the same shape.
    pub eps: Tensor<4>,
    /// Noise that is added to what the network is shown alone, of the same shape.
    pub input_noise: Option<Tensor<4>>,
    /// The time of each image, in the process's own terms.
    pub t: Vec<f64>,
    /// What the loss of each image counts in the mean; unset: 1.
    pub counts: Option<Vec<f64>>,
    /// The logarithm of each image's uncertainty, where the objective learns it.
    pub uncertainty: Option<Vec<f64>>,
    /// The classes, for a class-conditional network.
    pub labels: Option<ClassLabels>,
    /// Which row of the step's whole batch the first image is.
    pub first_row: u64,
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
pub struct TrainState {
    /// The network, on a device with autodiff.
    pub model: Model,
    /// Moments and averages of its parameters.
    pub slots: Vec<Slot>,
    /// Further averages of its parameters.
    pub(crate) tracked: Vec<Tracked>,
    /// Optimiser steps done.
    pub step: u64,
    /// Images trained on.
    pub images_seen: u64,
    /// Updates made: `step` less the updates that were left out.
    pub updates: u64,
    /// What the loss is scaled by, where the precision asks for it.
    pub loss_scale: LossScale,
    /// What the objective has learned of noise levels.
    pub(crate) learned: Learned,
    /// What a card has recorded of its steps.
    pub(crate) recorder: RefCell<Recorder>,
}

/// A step's loss and gradient, before anything is done with them.
#[derive(Debug)]
pub struct Computed {
    /// Mean weighted loss over the batch.
    pub loss: f64,
    /// Global norm of the gradient.
    pub grad_norm: f64,
    pub(crate) grads: ParamGrads,
    pub(crate) per_image: Vec<(f64, f32)>,
    /// What the gradients are too large by.
    pub(crate) divisor: f64,
}

impl Computed {
    /// # Errors   [`TrainError::Diverged`] if the loss or the gradient after so many `steps` is not finite
    pub(crate) fn finite(self, steps: u64) -> Result<Self, TrainError> {
        for (quantity, value) in [("loss", self.loss), ("gradient norm", self.grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::Diverged {
                    quantity,
                    step: steps + 1,
                    value,
                    last_good: "nothing was saved yet".to_owned(),
                });
            }
        }
        Ok(self)
    }
}

impl TrainState {
    /// A state before the first step.
    pub fn new(model: Model) -> Self {
        let slots = optim::new_slots(&model);
        Self {
            model,
            slots,
            tracked: Vec::new(),
            step: 0,
            images_seen: 0,
            updates: 0,
            loss_scale: LossScale::default(),
            learned: Learned::default(),
            recorder: RefCell::default(),
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

    /// Whether a card replays the steps that it recorded; why not, if that is known.
    ///
    /// # Errors   the reason, as the card's driver or the comparison of the recording says it
    pub fn replays(&self) -> Result<(), Option<String>> {
        let recorder = self.recorder.borrow();
        recorder.replays().map_err(|why| why.map(str::to_owned))
    }

    /// The network with the averaged weights, for sampling.
    pub fn ema_model(&self) -> Model {
        optim::ema_network(&self.model, &self.slots)
    }

    /// One optimiser step over the images of all parts, with nothing to guard it.
    ///
    /// # Errors   [`TrainError::Diverged`] if the loss or the gradient is not finite; those of
    /// [`TrainState::compute`]
    pub fn step(self, parts: Vec<Part>, recipe: &Recipe) -> Result<(Self, StepReport), TrainError> {
        let computed = self.compute(parts, recipe)?.finite(self.step)?;
        Ok(self.update(computed, recipe, f64::INFINITY))
    }

    /// As [`TrainState::step`], given to the device without waiting for it: the device makes the update unless the
    /// loss or the gradient is not finite, and none after that. The counters are those of an update.
    ///
    /// # Errors   those of [`TrainState::compute`]
    pub fn step_ahead(
        self,
        parts: Vec<Part>,
        recipe: &Recipe,
        halt: &mut Halt,
    ) -> Result<(Self, Unseen), TrainError> {
        let share = self.share(parts, recipe, true)?;
        let underway = self.measured(share, Vec::new())?;
        Ok(self.update_unseen(underway, recipe, halt))
    }

    /// Loss and gradient of the images of all parts; each part is one forward and backward pass.
    ///
    /// The loss is the mean over all images, so the parts must be of one size.
    ///
    /// # Errors   [`TrainError::Model`] if the images do not fit the network, [`TrainError::Device`]
    pub fn compute(&self, parts: Vec<Part>, recipe: &Recipe) -> Result<Computed, TrainError> {
        let share = self.share(parts, recipe, true)?;
        self.measured(share, Vec::new())?.wait()
    }

    /// The sums that [`TrainState::compute`] divides by the number of parts. Passes are recorded only if it is said that
    /// this thread is `alone` at work on cards: others would spoil the recording.
    ///
    /// # Errors   those of [`TrainState::compute`]
    pub(crate) fn share(
        &self,
        parts: Vec<Part>,
        recipe: &Recipe,
        alone: bool,
    ) -> Result<Share, TrainError> {
        let loss_scale = match recipe.precision.scales_loss() {
            true => self.loss_scale.value(),
            false => 1.0,
        };
        let times: Vec<_> = parts.iter().map(|part| part.t.clone()).collect();
        let (passes, inputs) = Passes::new(&self.model, recipe, self.step, loss_scale, parts)?;
        let (grads, losses) = match recipe.record {
            true => self.recorder.borrow_mut().run(&passes, inputs, alone)?,
            false => passes.run(inputs)?,
        };
        #[cfg(feature = "faults")]
        let losses = self.spoil_losses(losses, &times);
        Ok(Share {
            grads,
            losses,
            tally: Tally {
                times,
                others: Vec::new(),
                loss_scale,
            },
        })
    }

    /// Measures the gradient of all parts of a step, to which `others` belong; nothing is waited for.
    ///
    /// # Errors   [`TrainError::Device`] if the device's work failed
    pub(crate) fn measured(&self, all: Share, others: Vec<Losses>) -> Result<Underway, TrainError> {
        #[cfg(feature = "faults")]
        let all = self.spoil_gradient(all);
        let measured = measure(all.losses, all.grads.flat()).map_err(device_failed)?;
        Ok(Underway {
            grads: all.grads,
            measured,
            tally: Tally {
                others,
                ..all.tally
            },
        })
    }

    /// Moves every parameter and its slot once, with a gradient of a norm of at most `max_norm` and of what the
    /// configuration clips to.
    pub fn update(self, computed: Computed, recipe: &Recipe, max_norm: f64) -> (Self, StepReport) {
        let clip = Clip {
            divisor: computed.divisor,
            max_norm: clip_norm(recipe).min(max_norm),
        };
        let update = self.scalars(recipe, clip.scale(computed.grad_norm));
        let report = StepReport {
            loss: computed.loss,
            grad_norm: computed.grad_norm,
            per_image: computed.per_image,
            ..self.report(update)
        };
        let rows = report.per_image.len() as u64;
        let position = self.position().updated(recipe, rows);
        let moment = Moment::of(position, rows);
        let (model, slots) = optim::update(
            self.model,
            self.slots,
            computed.grads,
            &recipe.optim,
            update,
        );
        let tracked = ema::keep_all(self.tracked, &model, moment, None);
        let mut learned = self.learned;
        learned.note(&recipe.process, &report.per_image);
        let state = Self::of(model, slots, tracked, position, self.recorder).learning(learned);
        (state, report)
    }

    /// As [`TrainState::update`] by what the configuration clips to, before the numbers are there: the device judges
    /// whether there is an update, and the counters are those of one.
    pub(crate) fn update_unseen(
        self,
        underway: Underway,
        recipe: &Recipe,
        halt: &mut Halt,
    ) -> (Self, Unseen) {
        let clip = Clip {
            divisor: underway.tally.divisor(),
            max_norm: clip_norm(recipe),
        };
        let update = self.scalars(recipe, f64::NAN);
        let report = self.report(update);
        let rows = underway.tally.rows();
        let position = self.position().updated(recipe, rows);
        let moment = Moment::of(position, rows);
        let (model, slots, coming) = optim::update_unseen(
            self.model,
            self.slots,
            underway.grads,
            optim::adam_scalars(&recipe.optim, update),
            clip,
            underway.measured,
            halt,
        );
        let unseen = Unseen {
            coming,
            tally: underway.tally,
            report,
        };
        let tracked = ema::keep_all(self.tracked, &model, moment, Some(halt));
        let state = Self::of(model, slots, tracked, position, self.recorder);
        (state, unseen)
    }

    fn of(
        model: Model,
        slots: Vec<Slot>,
        tracked: Vec<Tracked>,
        position: Position,
        recorder: RefCell<Recorder>,
    ) -> Self {
        Self {
            model,
            slots,
            tracked,
            step: position.step,
            images_seen: position.images_seen,
            updates: position.updates,
            loss_scale: position.loss_scale,
            learned: Learned::default(),
            recorder,
        }
    }

    fn scalars(&self, recipe: &Recipe, grad_scale: f64) -> Update {
        let optim = &recipe.optim;
        Update {
            lr: learning_rate(
                optim.lr,
                optim.warmup_steps,
                optim.decay,
                self.step,
                recipe.total_steps,
            ),
            step: self.updates,
            grad_scale,
            ema_decay: recipe.ema.decay_at(self.updates),
        }
    }

    /// The report of the next step, but for its numbers.
    fn report(&self, update: Update) -> StepReport {
        StepReport {
            step: self.step + 1,
            loss: f64::NAN,
            grad_norm: f64::NAN,
            lr: update.lr,
            ema_decay: update.ema_decay,
            per_image: Vec::new(),
        }
    }

    /// Goes on to the next step and leaves every parameter, moment and average as it is, bit for bit.
    #[must_use]
    pub fn skip(self, computed: Computed) -> Self {
        let position = self.position().skipped(computed.per_image.len() as u64);
        self.at(position)
    }

    /// The losses with the faults of this step in them, in the place of each part's own loss.
    #[cfg(feature = "faults")]
    fn spoil_losses(&self, losses: Tensor<1>, times: &[Vec<f64>]) -> Tensor<1> {
        use crate::faults::{Part, bad};
        let Some(value) = bad(self.step + 1, Part::Loss) else {
            return losses;
        };
        let mut start = 0;
        let mut spoilt = Vec::new();
        for t in times {
            spoilt.push(losses.clone().narrow(0, start, 1).full_like(value));
            spoilt.push(losses.clone().narrow(0, start + 1, t.len()));
            start += 1 + t.len();
        }
        Tensor::cat(spoilt, 0)
    }

    /// The gradient with the faults of this step in it.
    #[cfg(feature = "faults")]
    fn spoil_gradient(&self, mut all: Share) -> Share {
        use crate::faults::{Part, bad, wait};
        let step = self.step + 1;
        wait(step);
        if let Some(value) = bad(step, Part::Gradient) {
            all.grads.spoil(value);
        }
        all
    }

    /// With one number of one parameter replaced.
    #[cfg(feature = "faults")]
    #[must_use]
    pub(crate) fn with_bad_parameter(self, value: f32) -> Self {
        Self {
            model: optim::spoil(self.model, value),
            ..self
        }
    }
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
fn clip_norm(recipe: &Recipe) -> f64 {
    match recipe.optim.clip_norm {
        0.0 => f64::INFINITY,
        clip => clip,
    }
}
