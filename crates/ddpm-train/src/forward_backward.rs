//! A step's passes forward and backward: first all that they read is brought to the device, then nothing more goes
//! there, so that a GPU can capture them as a graph.

use std::ops::Range;

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, FloatDType, Tensor};
use ddpm_diffusion::{Condition, Objective, Target};
use ddpm_kernels::{DropoutKey, GraphInputs};
use ddpm_schedule::Level;
use ddpm_schedule::noise::{Stream, uniform_fill};
use ddpm_unet::DropoutRng;

use crate::collective::gradients::LocalGradients;
use crate::collective::tree;
use crate::error::TrainError;
use crate::micro_batch::MicroBatch;
use crate::optim::ParamGrads;
use crate::step::StepConfig;
use crate::train_network::TrainNetwork;

/// The passes of one step over a rank's micro-batches.
pub(crate) struct Passes<'a, N> {
    model: &'a N,
    config: &'a StepConfig,
    key: DropoutKey,
    /// The first row of each micro-batch.
    first_rows: Vec<u64>,
    /// Images of each micro-batch.
    images: Vec<usize>,
    /// Which of the step's micro-batches these are, and how many it has.
    own: Range<usize>,
    of: usize,
    layout: Layout,
}

/// Which tensors a micro-batch has among the inputs of a graph.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Whether the network is told what it expects of these images.
    expects: bool,
    labelled: bool,
    /// Numbers that describe an image.
    vector: Option<usize>,
    pictured: bool,
}

/// What the passes over one micro-batch read, on the device.
struct PassInputs {
    /// What the network is shown, `[batch, channels, height, width]`.
    input: Tensor<4>,
    /// Times as the network takes them, `[batch]`.
    times: Tensor<1>,
    target: Target,
    expectation: Option<Expectation>,
    /// Classes as floats, `[batch]`.
    labels: Option<Tensor<1>>,
    /// Numbers that describe the images, `[batch · numbers]`.
    vector: Option<Tensor<1>>,
    /// `[batch, channels of the picture, height, width]`
    picture: Option<Tensor<4>>,
}

/// What x̂0 is made of: c_skip·x + c_out·output.
struct Expectation {
    /// `[batch, channels, height, width]`
    noisy: Tensor<4>,
    /// `[batch]`
    c_skip: Tensor<1>,
    /// `[batch]`
    c_out: Tensor<1>,
}

impl<'a, N: TrainNetwork> Passes<'a, N> {
    /// The passes of step `step`, whose loss is multiplied with `loss_scale`, and what they read.
    ///
    /// # Errors   [`TrainError::Diffusion`] if images, noise and times do not fit together
    pub(crate) fn new(
        model: &'a N,
        config: &'a StepConfig,
        step: u64,
        loss_scale: f64,
        micro_batches: Vec<MicroBatch>,
    ) -> Result<(Self, GraphInputs), TrainError> {
        let device = micro_batches.first().map(|batch| batch.x0.device().inner());
        let device = device.unwrap_or_default();
        let condition = micro_batches.first().map(|batch| batch.condition.clone());
        let condition = condition.unwrap_or_default();
        let layout = Layout {
            expects: config.objective.meaning().self_condition && told(config, step),
            labelled: condition.labels.is_some(),
            vector: condition.vector.map(|vector| vector.dims()[1]),
            pictured: condition.picture.is_some(),
        };
        let passes = Self {
            model,
            config,
            key: DropoutKey::new(config.seed, step, &device),
            first_rows: micro_batches.iter().map(|batch| batch.first_row).collect(),
            images: micro_batches
                .iter()
                .map(|batch| batch.times.len())
                .collect(),
            own: 0..micro_batches.len(),
            of: micro_batches.len(),
            layout,
        };
        let mut inputs = GraphInputs::default();
        for micro_batch in micro_batches {
            PassInputs::new(config, layout, micro_batch, &device)?.put(&mut inputs);
        }
        if config.precision.scales_loss() {
            inputs.rows.push(row([loss_scale], &device));
        }
        inputs.rows.extend(passes.key.on_gpu().cloned());
        Ok((passes, inputs))
    }

    /// The same as part of a step of `of` micro-batches, of which they are those from `first` on.
    #[must_use]
    pub(crate) fn within(self, first: usize, of: usize) -> Self {
        let own = first..first + self.first_rows.len();
        Self { own, of, ..self }
    }

    /// Images of each micro-batch.
    pub(crate) fn images(&self) -> &[usize] {
        &self.images
    }

    /// Whether they are a GPU's, and all that they read is in their inputs or stays where it is.
    pub(crate) fn can_be_captured(&self) -> bool {
        let same_each_step =
            !self.config.objective.meaning().self_condition && !self.model.moves_after_update();
        self.key.on_gpu().is_some() && same_each_step
    }

    /// The gradients, and for each micro-batch its loss and those of its images.
    ///
    /// # Errors   those of the network
    pub(crate) fn run(&self, inputs: GraphInputs) -> Result<LocalGradients, TrainError> {
        let objective = &self.config.objective;
        let mut images = inputs.images.into_iter().map(Tensor::from_inner);
        let mut rows = inputs.rows.into_iter().map(Tensor::from_inner);
        let mut all = Vec::new();
        for &first_row in &self.first_rows {
            let inputs = PassInputs::take(objective, self.layout, &mut images, &mut rows);
            let Some(inputs) = inputs else {
                unreachable!("as many tensors a micro-batch as were put in")
            };
            all.push((inputs, first_row));
        }
        let scale = match self.config.precision.scales_loss() {
            true => rows.next(),
            false => None,
        };
        let on_gpu = self.key.on_gpu().and(rows.next());
        let key = self.key.clone().with(on_gpu.map(Tensor::inner));
        let mut losses = Vec::new();
        let mut all = all.into_iter();
        let mut leaf = |node: &Range<usize>| {
            if node.len() > 1 {
                return Ok(None);
            }
            let Some((inputs, first_row)) = all.next() else {
                unreachable!("a leaf a micro-batch")
            };
            let rng = DropoutRng::new(key.clone(), first_row);
            let (grads, [loss, per_image]) = self.pass(inputs, &rng, scale.as_ref())?;
            losses.extend([loss, per_image]);
            Ok::<_, TrainError>(Some(grads))
        };
        let sums = tree::subtrees(&self.own, self.of)
            .into_iter()
            .map(|node| tree::fold(node, &mut leaf, &mut ParamGrads::plus));
        let sums = sums.collect::<Result<_, _>>()?;
        Ok(LocalGradients {
            sums,
            losses: Tensor::cat(losses, 0),
        })
    }

    /// Forward and backward over one micro-batch: the gradients, its loss and those of its images.
    fn pass(
        &self,
        inputs: PassInputs,
        rng: &DropoutRng,
        scale: Option<&Tensor<1>>,
    ) -> Result<(ParamGrads, [Tensor<1>; 2]), TrainError> {
        let objective = &self.config.objective;
        let PassInputs {
            input,
            times,
            target,
            expectation,
            labels,
            vector,
            picture,
        } = inputs;
        let numbers = self.layout.vector.unwrap_or(0);
        let condition = Condition {
            labels: labels.map(|labels: Tensor<1>| labels.int()),
            // [batch · numbers] -> [batch, numbers]
            vector: vector.map(|vector| {
                let batch = vector.dims()[0] / numbers.max(1);
                vector.reshape([batch, numbers])
            }),
            picture,
            x0: None,
        };
        let (mut found, mut target) = (None, Some(target));
        let mut loss = |output: Tensor<4>| -> Result<Tensor<1>, TrainError> {
            let Some(target) = target.take() else {
                unreachable!("one loss a pass")
            };
            let loss = objective.loss(output.cast(FloatDType::F32), target)?;
            let scaled = match scale {
                None => loss.loss.clone(),
                Some(scale) => loss.loss.clone() * scale.clone(),
            };
            found = Some([loss.loss.inner(), loss.per_image.inner()]);
            Ok(scaled)
        };
        let x0 = match (objective.meaning().self_condition, expectation) {
            (false, _) => None,
            (true, None) => Some(input.zeros_like()),
            (true, Some(known)) => Some(self.expected_x0(&input, &times, &condition, rng, known)?),
        };
        let input = Condition {
            x0,
            ..condition.clone()
        }
        .input(input);
        let recompute = self.config.recompute;
        let mut backward = self
            .model
            .gradients(input, times, &condition, rng, recompute, &mut loss)?;
        let Some(found) = found else {
            unreachable!("the loss was asked for")
        };
        Ok((ParamGrads::of_backward(self.model, &mut backward), found))
    }

    /// The x̂0 of an evaluation that knows nothing of it yet, without a gradient (Chen et al. 2023, algorithm 1).
    fn expected_x0(
        &self,
        input: &Tensor<4>,
        times: &Tensor<1>,
        condition: &Condition,
        rng: &DropoutRng,
        known: Expectation,
    ) -> Result<Tensor<4>, TrainError> {
        let nothing = Condition {
            x0: Some(input.zeros_like()),
            ..condition.clone()
        };
        let output = self
            .model
            .output(
                nothing.input(input.clone()),
                times.clone(),
                condition,
                Some(rng),
            )
            .map_err(|error| TrainError::Network {
                message: error.to_string(),
            })?
            .detach();
        let [batch, channels, ..] = input.dims();
        let output = output.cast(FloatDType::F32).narrow(1, 0, channels);
        let column = |row: Tensor<1>| row.reshape([batch, 1, 1, 1]);
        let x0 = known.noisy * column(known.c_skip) + output * column(known.c_out);
        Ok(x0.cast(self.config.precision.dtype()))
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

impl PassInputs {
    fn new(
        config: &StepConfig,
        layout: Layout,
        micro_batch: MicroBatch,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let MicroBatch {
            times, condition, ..
        } = micro_batch;
        let (x0, noise) = (micro_batch.x0.inner(), micro_batch.noise.inner());
        let process = &config.process;
        let levels: Vec<Level> = times.iter().map(|&t| process.level(t)).collect();
        // The noise that is only shown is no part of what is to be predicted.
        let shown = match micro_batch.input_noise {
            Some(more) => noise.clone() + more.inner(),
            None => noise.clone(),
        };
        let expectation = match layout.expects {
            false => None,
            true => {
                let [c_skip, c_out] = config.objective.x0_rows(&levels);
                Some(Expectation {
                    noisy: ddpm_diffusion::q_sample(x0.clone(), noise.clone(), &levels)?,
                    c_skip: Tensor::from_floats(c_skip.as_slice(), device),
                    c_out: Tensor::from_floats(c_out.as_slice(), device),
                })
            }
        };
        let input = config.objective.input(x0.clone(), shown, &levels)?;
        let mut target = config.objective.towards(process, x0, noise, &times)?;
        let per_image = |values: Option<Vec<f64>>, usual: f64| {
            row(values.unwrap_or_else(|| vec![usual; times.len()]), device)
        };
        let objective = config.objective.config();
        target.counts = objective
            .importance
            .map(|_| per_image(micro_batch.counts, 1.0));
        target.uncertainty = objective
            .uncertainty
            .map(|_| per_image(micro_batch.uncertainty, 0.0));
        Ok(Self {
            input: input.cast(config.precision.dtype()),
            times: row(times.iter().map(|&t| process.network_time(t)), device),
            target,
            expectation,
            labels: condition.labels.map(|labels| labels.inner().float()),
            vector: condition.vector.map(|vector| {
                let values = vector.shape().num_elements();
                vector.inner().reshape([values])
            }),
            picture: condition
                .picture
                .map(|picture| picture.inner().cast(config.precision.dtype())),
        })
    }

    /// Adds these to the inputs of a graph; [`PassInputs::take`] takes them out in the same order.
    fn put(self, inputs: &mut GraphInputs) {
        inputs.images.push(self.input);
        inputs.rows.push(self.times);
        let (images, rows) = self.target.into_parts();
        inputs.images.extend(images);
        inputs.rows.extend(rows);
        if let Some(known) = self.expectation {
            inputs.images.push(known.noisy);
            inputs.rows.extend([known.c_skip, known.c_out]);
        }
        inputs.rows.extend(self.labels);
        inputs.rows.extend(self.vector);
        inputs.images.extend(self.picture);
    }

    fn take(
        objective: &Objective,
        layout: Layout,
        images: &mut impl Iterator<Item = Tensor<4>>,
        rows: &mut impl Iterator<Item = Tensor<1>>,
    ) -> Option<Self> {
        let (input, times) = (images.next()?, rows.next()?);
        let (of_images, of_rows) = objective.target_parts();
        let target = objective.target_of(
            images.by_ref().take(of_images).collect(),
            rows.by_ref().take(of_rows).collect(),
        )?;
        let expectation = match layout.expects {
            false => None,
            true => Some(Expectation {
                noisy: images.next()?,
                c_skip: rows.next()?,
                c_out: rows.next()?,
            }),
        };
        let labels = match layout.labelled {
            false => None,
            true => Some(rows.next()?),
        };
        let vector = match layout.vector {
            None => None,
            Some(_) => Some(rows.next()?),
        };
        let picture = match layout.pictured {
            false => None,
            true => Some(images.next()?),
        };
        Some(Self {
            input,
            times,
            target,
            expectation,
            labels,
            vector,
            picture,
        })
    }
}

/// Numbers on the device, `[values]`.
fn row(values: impl IntoIterator<Item = f64>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    Tensor::from_floats(values.as_slice(), device)
}

/// Whether a step tells the network what it expects: the same on all ranks.
fn told(config: &StepConfig, step: u64) -> bool {
    let mut u = [0.0];
    uniform_fill(config.seed, Stream::SelfCondition, step, 0, &mut u);
    u[0] < config.objective.config().self_condition
}
