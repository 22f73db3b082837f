//! A step's passes forward and backward: first all that they read is brought to the device, then nothing more goes
//! there, so that a card can record them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};
use ddpm_kernels::{Bundle, DropoutKey};
use ddpm_schedule::Level;
use ddpm_schedule::noise::{Stream, uniform_fill};
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
    /// Whether the network is told what it expects of these images.
    expects: bool,
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
        let expects = recipe.objective.meaning().self_condition && told(recipe, step);
        for part in parts {
            let (x0, eps) = (part.x0.clone().inner(), part.eps.clone().inner());
            let process = &recipe.process;
            let levels: Vec<Level> = part.t.iter().map(|&t| process.level(t)).collect();
            // The noise that is only shown is no part of what is to be said.
            let shown = match part.input_noise {
                Some(noise) => eps.clone() + noise.inner(),
                None => eps.clone(),
            };
            let input = recipe.objective.input(x0.clone(), shown, &levels)?;
            let mut target = recipe.objective.towards(process, x0, eps, &part.t)?;
            let config = recipe.objective.config();
            let row = |values: Option<Vec<f64>>, usual: f32| {
                let values = values.map(|values| values.into_iter().map(|x| x as f32).collect());
                let values: Vec<f32> = values.unwrap_or_else(|| vec![usual; part.t.len()]);
                Tensor::from_floats(values.as_slice(), &device)
            };
            target.counts = config.importance.map(|_| row(part.counts, 1.0));
            target.uncertainty = config.uncertainty.map(|_| row(part.uncertainty, 0.0));
            let times = part.t.iter().map(|&t| process.network_time(t) as f32);
            let times: Vec<f32> = times.collect();
            inputs.images.push(input.cast(recipe.precision.dtype()));
            inputs
                .rows
                .push(Tensor::from_floats(times.as_slice(), &device));
            let (images, rows) = target.into_parts();
            inputs.images.extend(images);
            inputs.rows.extend(rows);
            if expects {
                let noisy = ddpm_diffusion::q_sample(part.x0.inner(), part.eps.inner(), &levels)?;
                let [c_skip, c_out] = recipe.objective.x0_rows(&levels);
                inputs.images.push(noisy);
                for row in [c_skip, c_out] {
                    inputs
                        .rows
                        .push(Tensor::from_floats(row.as_slice(), &device));
                }
            }
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
            expects,
        };
        Ok((passes, inputs))
    }

    /// Whether they are a card's, and all that they read is in their inputs.
    pub(crate) fn can_be_recorded(&self) -> bool {
        let same_each_step = !self.recipe.objective.meaning().self_condition;
        let unlabelled = self.parts.iter().all(|(_, labels)| labels.is_none());
        self.key.on_card().is_some() && same_each_step && unlabelled
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
        let objective = &self.recipe.objective;
        let (of_images, of_rows) = objective.target_parts();
        for _ in &self.parts {
            let (xt, t) = (images.next(), rows.next());
            let target = objective.target_of(
                images.by_ref().take(of_images).collect(),
                rows.by_ref().take(of_rows).collect(),
            );
            let (Some(xt), Some(t), Some(target)) = (xt, t, target) else {
                unreachable!("as many tensors a part as were put in")
            };
            let expected = match self.expects {
                true => images.next().zip(rows.next().zip(rows.next())),
                false => None,
            };
            tensors.push((xt, t, target, expected));
        }
        let scale = match self.recipe.precision.scales_loss() {
            true => rows.next(),
            false => None,
        };
        let card = self.key.on_card().and(rows.next());
        let key = self.key.clone().with(card.map(Tensor::inner));
        for ((xt, t, target, expected), (first_row, labels)) in tensors.into_iter().zip(&self.parts)
        {
            let rng = DropoutRng::new(key.clone(), *first_row);
            let mut found = None;
            let loss = |output: Tensor<4>| -> Result<Tensor<1>, TrainError> {
                let loss = objective.loss(output.cast(FloatDType::F32), target)?;
                let scaled = match &scale {
                    None => loss.loss.clone(),
                    Some(scale) => loss.loss.clone() * scale.clone(),
                };
                found = Some([loss.loss.inner(), loss.per_image.inner()]);
                Ok(scaled)
            };
            let labels = labels.clone();
            let xt = match objective.meaning().self_condition {
                false => xt,
                true => {
                    let x0 = match expected {
                        None => xt.zeros_like(),
                        Some(expected) => self.expected(&xt, &t, &labels, &rng, expected)?,
                    };
                    // [batch, channels, height, width] twice -> [batch, 2·channels, height, width]
                    Tensor::cat(vec![x0, xt], 1)
                }
            };
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

    /// The x̂0 of an evaluation that knows nothing of it yet, without a gradient (Chen et al. 2023, algorithm 1).
    fn expected(
        &self,
        input: &Tensor<4>,
        t: &Tensor<1>,
        labels: &Option<ClassLabels>,
        rng: &DropoutRng,
        (noisy, (c_skip, c_out)): (Tensor<4>, (Tensor<1>, Tensor<1>)),
    ) -> Result<Tensor<4>, TrainError> {
        let nothing = Tensor::cat(vec![input.zeros_like(), input.clone()], 1);
        let output = self
            .model
            .forward(nothing, t.clone(), labels.clone(), Some(rng))
            .map_err(TrainError::Model)?
            .detach();
        let [batch, channels, ..] = input.dims();
        let output = output.cast(FloatDType::F32).narrow(1, 0, channels);
        let row = |row: Tensor<1>| row.reshape([batch, 1, 1, 1]);
        let x0 = noisy * row(c_skip) + output * row(c_out);
        Ok(x0.cast(self.recipe.precision.dtype()))
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

/// Whether a step tells the network what it expects: the same on all ranks.
fn told(recipe: &Recipe, step: u64) -> bool {
    let mut u = [0.0];
    uniform_fill(recipe.seed, Stream::SelfCondition, step, 0, &mut u);
    u[0] < recipe.objective.config().self_condition
}
