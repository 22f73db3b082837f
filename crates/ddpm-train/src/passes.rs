//! A step's passes forward and backward: first all that they read is brought to the device, then nothing more goes
//! there, so that a card can record them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, FloatDType, Tensor};
use ddpm_diffusion::Goal;
use ddpm_kernels::{Bundle, DropoutKey};
use ddpm_unet::{ClassLabels, DropoutRng, Model};

use crate::error::TrainError;
use crate::optim::ParamGrads;
use crate::state::{Part, Recipe};

/// The passes of one step over some of its images.
pub(crate) struct Passes<'a> {
    model: &'a Model,
    recipe: &'a Recipe,
    key: DropoutKey,
    /// Each part's first row, and its classes.
    parts: Vec<(u64, Option<ClassLabels>)>,
}

impl<'a> Passes<'a> {
    /// The passes of step `step`, whose loss is multiplied with `loss_scale`, and what they read.
    ///
    /// # Errors   [`TrainError::Diffusion`] if images, noise and times do not fit together
    pub(crate) fn new(
        model: &'a Model,
        recipe: &'a Recipe,
        step: u64,
        loss_scale: f64,
        parts: Vec<Part>,
    ) -> Result<(Self, Bundle), TrainError> {
        let mut inputs = Bundle::default();
        let mut kept = Vec::new();
        let device = parts.first().map(|part| part.x0.device().inner());
        let device = device.unwrap_or_default();
        for part in parts {
            let (x0, eps) = (part.x0.inner(), part.eps.inner());
            let schedule = &recipe.schedule;
            let xt = ddpm_diffusion::q_sample(x0.clone(), eps.clone(), &part.t, schedule)?;
            let goal = recipe.objective.goal(x0, eps, &part.t, schedule)?;
            inputs.images.push(xt.cast(recipe.precision.dtype()));
            inputs.images.push(goal.target);
            inputs.rows.push(time_tensor(&part.t, &device));
            inputs.rows.push(goal.weights);
            kept.push((part.first_row, part.labels));
        }
        let key = DropoutKey::new(recipe.seed, step, &device);
        if recipe.precision.scales_loss() {
            inputs
                .rows
                .push(Tensor::from_floats([loss_scale as f32], &device));
        }
        inputs.rows.extend(key.on_card().cloned());
        let passes = Self {
            model,
            recipe,
            key,
            parts: kept,
        };
        Ok((passes, inputs))
    }

    /// Whether they are a card's, and all that they read is in their inputs.
    pub(crate) fn can_be_recorded(&self) -> bool {
        self.key.on_card().is_some() && self.parts.iter().all(|(_, labels)| labels.is_none())
    }

    /// The gradients and, for each part, its loss and those of its images.
    ///
    /// # Errors   those of the network
    pub(crate) fn run(&self, inputs: Bundle) -> Result<(ParamGrads, Tensor<1>), TrainError> {
        let mut grads = ParamGrads::default();
        let mut losses = Vec::new();
        let mut images = inputs.images.into_iter().map(Tensor::from_inner);
        let mut rows = inputs.rows.into_iter().map(Tensor::from_inner);
        let mut tensors = Vec::new();
        for _ in &self.parts {
            let pair = (images.next(), images.next(), rows.next(), rows.next());
            let (Some(xt), Some(target), Some(t), Some(weights)) = pair else {
                unreachable!("four tensors a part")
            };
            tensors.push((xt, t, Goal { target, weights }));
        }
        let scale = match self.recipe.precision.scales_loss() {
            true => rows.next(),
            false => None,
        };
        let card = self.key.on_card().and(rows.next());
        let key = self.key.clone().with(card.map(Tensor::inner));
        for ((xt, t, goal), (first_row, labels)) in tensors.into_iter().zip(&self.parts) {
            let rng = DropoutRng::new(key.clone(), *first_row);
            let mut found = None;
            let loss = |output: Tensor<4>| -> Result<Tensor<1>, TrainError> {
                let loss = goal.loss(output.cast(FloatDType::F32))?;
                let scaled = match &scale {
                    None => loss.loss.clone(),
                    Some(scale) => loss.loss.clone() * scale.clone(),
                };
                found = Some([loss.loss.inner(), loss.per_image.inner()]);
                Ok(scaled)
            };
            let labels = labels.clone();
            let mut backward = match self.model {
                Model::Unet(unet) if self.recipe.recompute => {
                    unet.recomputed(xt, t, labels, Some(&rng), loss)?
                }
                model => {
                    let output = model
                        .forward(xt, t, labels, Some(&rng))
                        .map_err(TrainError::Model)?;
                    vec![loss(output)?.backward()]
                }
            };
            grads.add(self.model, &mut backward);
            let Some(found) = found else {
                unreachable!("the loss was asked for")
            };
            losses.extend(found);
        }
        Ok((grads, Tensor::cat(losses, 0)))
    }

    /// The network's first parameter, `[values]`: the others move when it does.
    pub(crate) fn first_parameter(&self) -> Option<Tensor<1>> {
        struct First(Option<Tensor<1>>);
        impl ModuleVisitor for First {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if self.0.is_none() {
                    let value = param.val().without_autodiff();
                    let count = value.shape().num_elements();
                    self.0 = Some(value.reshape([count]));
                }
            }
        }
        let mut first = First(None);
        self.model.visit(&mut first);
        first.0
    }
}

/// Time steps as the network reads them, `[batch]`.
fn time_tensor(t: &[usize], device: &Device) -> Tensor<1> {
    let t: Vec<f32> = t.iter().map(|&t| t as f32).collect();
    Tensor::from_floats(t.as_slice(), device)
}
