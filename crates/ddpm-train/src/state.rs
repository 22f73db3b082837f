//! A network in training: one optimiser step after the other.

use burn::tensor::{Device, FloatDType, Tensor};
use ddpm_diffusion::Objective;
use ddpm_schedule::Schedule;
use ddpm_unet::{ClassLabels, DropoutRng, Model, Precision};

use crate::ema::EmaConfig;
use crate::error::TrainError;
use crate::loss_scale::LossScale;
use crate::lr::learning_rate;
use crate::optim::{self, OptimConfig, ParamGrads, Slot, Update};

/// Everything that one optimiser step depends on besides the images.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Seed of the dropout masks.
    pub seed: u64,
    /// The noise schedule.
    pub schedule: Schedule,
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
}

/// Some of the images of one optimiser step.
#[derive(Debug, Clone)]
pub struct Part {
    /// Images, `[batch, channels, height, width]`.
    pub x0: Tensor<4>,
    /// The noise that is added to them, of the same shape.
    pub eps: Tensor<4>,
    /// The time step of each image.
    pub t: Vec<usize>,
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
    /// Time step and weighted loss of each image.
    pub per_image: Vec<(usize, f32)>,
}

/// A network, its optimiser state and its position in the run.
#[derive(Debug)]
pub struct TrainState {
    /// The network, on a device with autodiff.
    pub model: Model,
    /// Moments and averages of its parameters.
    pub slots: Vec<Slot>,
    /// Optimiser steps done.
    pub step: u64,
    /// Images trained on.
    pub images_seen: u64,
    /// Updates made: `step` less the updates that were left out.
    pub updates: u64,
    /// What the loss is scaled by, where the precision asks for it.
    pub loss_scale: LossScale,
}

/// A step's loss and gradient, before anything is done with them.
#[derive(Debug)]
pub struct Computed {
    /// Mean weighted loss over the batch.
    pub loss: f64,
    /// Global norm of the gradient.
    pub grad_norm: f64,
    pub(crate) grads: ParamGrads,
    pub(crate) per_image: Vec<(usize, f32)>,
    pub(crate) parts: f64,
    /// What the gradients are too large by.
    pub(crate) loss_scale: f64,
}

/// The sums over some of a step's parts: on several devices, those of one device.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) grads: ParamGrads,
    pub(crate) loss_sum: f64,
    pub(crate) per_image: Vec<(usize, f32)>,
    pub(crate) parts: f64,
    /// What the gradients are too large by.
    pub(crate) loss_scale: f64,
}

impl TrainState {
    /// A state before the first step.
    pub fn new(model: Model) -> Self {
        let slots = optim::new_slots(&model);
        Self {
            model,
            slots,
            step: 0,
            images_seen: 0,
            updates: 0,
            loss_scale: LossScale::default(),
        }
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
        let computed = self.compute(parts, recipe)?;
        for (quantity, value) in [
            ("loss", computed.loss),
            ("gradient norm", computed.grad_norm),
        ] {
            if !value.is_finite() {
                return Err(TrainError::Diverged {
                    quantity,
                    step: self.step + 1,
                    value,
                    last_good: "nothing was saved yet".to_owned(),
                });
            }
        }
        Ok(self.update(computed, recipe, f64::INFINITY))
    }

    /// Loss and gradient of the images of all parts; each part is one forward and backward pass.
    ///
    /// The loss is the mean over all images, so the parts must be of one size.
    ///
    /// # Errors   [`TrainError::Model`] if the images do not fit the network, [`TrainError::Device`]
    pub fn compute(&self, parts: Vec<Part>, recipe: &Recipe) -> Result<Computed, TrainError> {
        self.judged(self.share(parts, recipe)?)
    }

    /// The sums that [`TrainState::compute`] divides by the number of parts.
    ///
    /// # Errors   those of [`TrainState::compute`]
    pub(crate) fn share(&self, parts: Vec<Part>, recipe: &Recipe) -> Result<Share, TrainError> {
        let parts_count = parts.len().max(1) as f64;
        let loss_scale = match recipe.precision.scales_loss() {
            true => self.loss_scale.value(),
            false => 1.0,
        };
        let mut grads = ParamGrads::default();
        let mut loss_sum = 0.0;
        let mut per_image = Vec::new();
        let mut waiting = Vec::new();
        for part in parts {
            let rng = DropoutRng::new(recipe.seed, self.step, part.first_row);
            let device = part.x0.device();
            let xt = ddpm_diffusion::q_sample(
                part.x0.clone(),
                part.eps.clone(),
                &part.t,
                &recipe.schedule,
            )?;
            let t = time_tensor(&part.t, &device);
            let xt = xt.cast(recipe.precision.dtype());
            let mut losses = None;
            let mut loss = |output: Tensor<4>| -> Result<Tensor<1>, TrainError> {
                let output = output.cast(FloatDType::F32);
                let schedule = &recipe.schedule;
                let (x0, eps) = (part.x0.clone(), part.eps.clone());
                let found = recipe.objective.loss(output, x0, eps, &part.t, schedule)?;
                let scaled = match loss_scale == 1.0 {
                    true => found.loss.clone(),
                    false => found.loss.clone() * loss_scale,
                };
                losses = Some((found.loss.inner(), found.per_image.inner()));
                Ok(scaled)
            };
            let mut backward = match &self.model {
                Model::Unet(unet) if recipe.recompute => {
                    unet.recomputed(xt, t, part.labels, Some(&rng), loss)?
                }
                model => {
                    let output = model
                        .forward(xt, t, part.labels, Some(&rng))
                        .map_err(TrainError::Model)?;
                    vec![loss(output)?.backward()]
                }
            };
            grads.add(&self.model, &mut backward);
            let Some((loss, of_images)) = losses else {
                unreachable!("the loss was asked for")
            };
            waiting.push((loss, of_images, part.t));
        }
        // Read back once everything is on its way, in one transfer a part.
        for (loss, of_images, t) in waiting {
            let mut numbers = read(Tensor::cat(vec![loss, of_images], 0))?.into_iter();
            loss_sum += numbers.next().map_or(0.0, f64::from);
            per_image.extend(t.into_iter().zip(numbers));
        }
        Ok(Share {
            grads,
            loss_sum,
            per_image,
            parts: parts_count,
            loss_scale,
        })
    }

    /// The loss and the norm of the gradient of all parts of a step.
    ///
    /// # Errors   [`TrainError::Device`] if the norm cannot be read back
    pub(crate) fn judged(&self, all: Share) -> Result<Computed, TrainError> {
        let grad_norm = all.grads.global_norm();
        let grad_norm = grad_norm.map_err(|message| TrainError::Device { message })?;
        let computed = Computed {
            loss: all.loss_sum / all.parts,
            grad_norm: grad_norm / all.parts / all.loss_scale,
            grads: all.grads,
            per_image: all.per_image,
            parts: all.parts,
            loss_scale: all.loss_scale,
        };
        #[cfg(feature = "faults")]
        let computed = self.spoil(computed)?;
        Ok(computed)
    }

    /// Moves every parameter and its slot once, with a gradient of a norm of at most `max_norm` and of what the
    /// configuration clips to.
    pub fn update(self, computed: Computed, recipe: &Recipe, max_norm: f64) -> (Self, StepReport) {
        let optim = &recipe.optim;
        let max_norm = match optim.clip_norm {
            0.0 => max_norm,
            clip => clip.min(max_norm),
        };
        // The 1e-6 is PyTorch's (clip_grad_norm_).
        let clip = (max_norm / (computed.grad_norm + 1e-6)).min(1.0);
        let update = Update {
            lr: learning_rate(
                optim.lr,
                optim.warmup_steps,
                optim.decay,
                self.step,
                recipe.total_steps,
            ),
            step: self.updates,
            grad_scale: clip / computed.parts / computed.loss_scale,
            ema_decay: recipe.ema.decay_at(self.updates),
        };
        let (model, slots) = optim::update(self.model, self.slots, computed.grads, optim, update);
        let step = self.step + 1;
        let rows = computed.per_image.len() as u64;
        let report = StepReport {
            step,
            loss: computed.loss,
            grad_norm: computed.grad_norm,
            lr: update.lr,
            ema_decay: update.ema_decay,
            per_image: computed.per_image,
        };
        let mut loss_scale = self.loss_scale;
        if recipe.precision.scales_loss() {
            loss_scale.updated();
        }
        let state = Self {
            model,
            slots,
            step,
            images_seen: self.images_seen + rows,
            updates: self.updates + 1,
            loss_scale,
        };
        (state, report)
    }

    /// Goes on to the next step and leaves every parameter, moment and average as it is, bit for bit.
    #[must_use]
    pub fn skip(self, computed: Computed) -> Self {
        Self {
            step: self.step + 1,
            images_seen: self.images_seen + computed.per_image.len() as u64,
            ..self
        }
    }

    /// The loss and gradient with the faults of this step in them.
    #[cfg(feature = "faults")]
    fn spoil(&self, mut computed: Computed) -> Result<Computed, TrainError> {
        use crate::faults::{self, Part};
        let step = self.step + 1;
        faults::wait(step);
        if let Some(value) = faults::bad(step, Part::Loss) {
            computed.loss = f64::from(value);
        }
        if let Some(value) = faults::bad(step, Part::Gradient) {
            computed.grads.spoil(value);
            let grad_norm = computed.grads.global_norm();
            let grad_norm = grad_norm.map_err(|message| TrainError::Device { message })?;
            computed.grad_norm = grad_norm / computed.parts / computed.loss_scale;
        }
        Ok(computed)
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

/// Time steps as the network reads them, `[batch]`.
fn time_tensor(t: &[usize], device: &Device) -> Tensor<1> {
    let t: Vec<f32> = t.iter().map(|&t| t as f32).collect();
    Tensor::from_floats(t.as_slice(), device)
}

/// Numbers in the host's memory.
///
/// # Errors   [`TrainError::Device`] if they cannot be read back
pub(crate) fn read(x: Tensor<1>) -> Result<Vec<f32>, TrainError> {
    let device_failed = |message: String| TrainError::Device { message };
    x.try_into_data()
        .map_err(|error| device_failed(error.to_string()))?
        .try_to_vec()
        .map_err(|error| device_failed(format!("{error:?}")))
}
