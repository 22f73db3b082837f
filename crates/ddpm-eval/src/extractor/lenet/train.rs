//! Training the classifier: cross-entropy, Adam, a cosine to zero.

use std::f64::consts::PI;
use std::ops::ControlFlow;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_kernels::{AdamState, AdamStep, adam_step};
use ddpm_schedule::noise::permute;

use super::{About, Lenet, input, read_back};
use crate::error::EvalError;
use crate::images::Images;

/// Images of an update.
const BATCH: usize = 64;
/// The learning rate at the start.
const LR: f64 = 2e-3;
const BETAS: [f64; 2] = [0.9, 0.99];
/// Every so many images one is held out, to say how good the classifier is.
const HELD_OUT: usize = 10;
/// Updates for small sets, and passes over large ones.
const STEPS: usize = 1000;
const EPOCHS: usize = 3;

/// What is trained on.
#[derive(Debug)]
pub struct Training<'a> {
    /// What the classifier is to be; its `steps` are those that are made.
    pub about: About,
    /// All images of the set.
    pub images: &'a Images,
    /// The class of each.
    pub labels: &'a [usize],
    /// Where.
    pub device: &'a Device,
}

/// How many updates suit a set of so many images.
#[must_use]
pub fn training_steps(images: usize) -> usize {
    STEPS.max(EPOCHS * images / BATCH)
}

/// Trains a classifier; `observe(step, steps, loss)` is called after some updates and can stop it. The same seed gives the
/// same bits on one device.
///
/// # Errors   [`EvalError::Few`] for less than two images, [`EvalError::Shape`] for labels that do not fit, [`EvalError::Stopped`],
/// [`EvalError::Device`]
pub fn train(
    training: &Training<'_>,
    observe: &mut dyn FnMut(usize, usize, f64) -> ControlFlow<()>,
) -> Result<Lenet, EvalError> {
    let (n, classes) = (training.images.count(), training.about.classes);
    if n < 2 {
        return Err(EvalError::Few {
            figure: "an extractor",
            needed: 2,
            got: n,
            of: "of the set",
        });
    }
    if training.labels.len() != n || training.labels.iter().any(|&label| label >= classes) {
        return Err(EvalError::Shape {
            what: "labels",
            expected: format!("{n} below {classes}"),
            got: format!("{}", training.labels.len()),
        });
    }
    let is_held_out = |i: &usize| n >= 2 * HELD_OUT && i.is_multiple_of(HELD_OUT);
    let (held_out, learned): (Vec<usize>, Vec<usize>) = (0..n).partition(is_held_out);
    let device = training.device.clone().autodiff();
    let mut net = Lenet::init(training.about.clone(), training.device);
    let steps = training.about.steps;
    let zeros = || {
        net.parameters
            .iter()
            .map(|tensor| tensor.zeros_like())
            .collect::<Vec<_>>()
    };
    let mut moments = [zeros(), zeros()];
    for step in 0..steps {
        let batch = batch(training, &learned, step);
        let tracked: Vec<Tensor<1>> = net
            .parameters
            .iter()
            .map(|tensor| Tensor::from_inner(tensor.clone()).require_grad())
            .collect();
        let x = input(&batch.images, &device);
        let seen = net.forward(x, &tracked);
        let loss = cross_entropy(seen.logits, &batch.labels, classes, &device);
        let grads = loss.backward();
        let update = adam(step, steps);
        for (at, place) in tracked.into_iter().enumerate() {
            let Some(grad) = place.grad(&grads) else {
                continue;
            };
            let weight = net.parameters[at].clone();
            let state = AdamState {
                ema: weight.clone(),
                weight,
                exp_avg: moments[0][at].clone(),
                exp_avg_sq: moments[1][at].clone(),
            };
            let state = adam_step(state, grad, update);
            net.parameters[at] = state.weight;
            moments[0][at] = state.exp_avg;
            moments[1][at] = state.exp_avg_sq;
        }
        if step % 20 == 19 || step + 1 == steps {
            let loss = read_back(loss.inner())?
                .first()
                .copied()
                .unwrap_or_default();
            if observe(step + 1, steps, f64::from(loss)).is_break() {
                return Err(EvalError::Stopped);
            }
        }
    }
    net.about.accuracy = match held_out.is_empty() {
        true => None,
        false => Some(accuracy(&net, training, &held_out)?),
    };
    Ok(net)
}

struct Batch {
    images: Images,
    labels: Vec<usize>,
}

/// The images of an update: every image once an epoch, in an order of its own.
fn batch(training: &Training<'_>, learned: &[usize], step: usize) -> Batch {
    let n = learned.len() as u64;
    let items = (step * BATCH) as u64..((step + 1) * BATCH) as u64;
    let chosen =
        items.map(|item| learned[permute(training.about.seed, item / n, n, item % n) as usize]);
    some(training, &chosen.collect::<Vec<_>>())
}

fn some(training: &Training<'_>, chosen: &[usize]) -> Batch {
    Batch {
        images: training.images.select(chosen),
        labels: chosen.iter().map(|&i| training.labels[i]).collect(),
    }
}

/// Adam (Kingma & Ba 2015) at a step, with the learning rate's cosine.
fn adam(step: usize, steps: usize) -> AdamStep {
    let t = (step + 1) as i32;
    let lr = LR * 0.5 * (1.0 + (PI * step as f64 / steps as f64).cos());
    AdamStep {
        grad_scale: 1.0,
        betas: BETAS,
        step_size: lr / (1.0 - BETAS[0].powi(t)),
        correction2: 1.0 - BETAS[1].powi(t),
        eps: 1e-8,
        decay_into_gradient: 0.0,
        shrink: 1.0,
        ema_decay: 0.0,
    }
}

/// The mean of -ln p(class).
fn cross_entropy(
    logits: Tensor<2>,
    labels: &[usize],
    classes: usize,
    device: &Device,
) -> Tensor<1> {
    let mut hot = vec![0.0f32; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        hot[row * classes + label] = 1.0;
    }
    let hot = Tensor::<2>::from_data(TensorData::new(hot, [labels.len(), classes]), device);
    -(log_softmax(logits, 1) * hot).sum() / labels.len() as f64
}

/// The share of images that are named rightly.
fn accuracy(net: &Lenet, training: &Training<'_>, images: &[usize]) -> Result<f64, EvalError> {
    let mut right = 0;
    for chunk in images.chunks(4 * BATCH) {
        let batch = some(training, chunk);
        let logits = read_back(net.see(&batch.images)?.logits)?;
        for (row, &label) in logits.chunks_exact(net.about.classes).zip(&batch.labels) {
            right += usize::from(crate::features::largest(row) == label);
        }
    }
    Ok(right as f64 / images.len() as f64)
}
