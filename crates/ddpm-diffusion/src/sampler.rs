//! The reverse process: images from noise.
//!
//! A sampler is one function from x_t, the predicted image and fresh noise to the next x_t,
//! in a file of its own. The loop here is the same for all of them: ask the denoiser,
//! convert its answer to x̂0 and ε̂, clip, step.

pub mod ddim;
pub mod ddpm;
mod finite;
mod plan;
mod progress;

use std::ops::ControlFlow;

use burn::tensor::{Device, Int, Tensor};
use ddpm_schedule::{Prediction, RespacedStep, noise::Stream, prediction};

use self::finite::FiniteCheck;
use crate::{Denoiser, DiffusionError, randn_images, rows::check_like};

pub use plan::{Plan, Sampler};
pub use progress::Progress;

/// Which images of a seed to draw, and where.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// Batch, channels, height, width.
    pub shape: [usize; 4],
    /// The seed that names the whole set of images.
    pub seed: u64,
    /// The number of the first image in that set; the others follow.
    pub first_index: u64,
    /// One class an image, `[batch]`, for a conditional network.
    pub labels: Option<Tensor<1, Int>>,
    /// Where to compute: the denoiser's device.
    pub device: Device,
}

/// Draws a batch of images.
///
/// All noise is addressed by (seed, step, number of the image), so that an image does not
/// depend on the batch that it is drawn in, up to the rounding of the denoiser's kernels.
/// `observer` is called after every step and may end the work.
///
/// # Shapes   returns `batch.shape`
/// # Units    pixels in [-1, 1] if the plan clips
/// # Errors   [`DiffusionError::Denoiser`] if the network fails, [`DiffusionError::NonFinite`] if it gives NaN or an
/// infinity (found within 32 steps), [`DiffusionError::Stopped`] if the observer says so, [`DiffusionError::Shape`] and [`DiffusionError::Batch`] for what does not fit
pub fn sample(
    denoiser: &(impl Denoiser + ?Sized),
    plan: &Plan,
    batch: ImageBatch,
    observer: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Tensor<4>, DiffusionError> {
    let ImageBatch {
        shape: [rows, channels, height, width],
        seed,
        first_index,
        labels,
        device,
    } = batch;
    let draw = |stream, step| {
        let indices = (0..rows as u64).map(|row| first_index.wrapping_add(row));
        randn_images(
            seed,
            stream,
            step,
            indices,
            [channels, height, width],
            &device,
        )
    };
    let start = draw(Stream::SampleInit, 0);
    let mut noise = |step: usize| draw(Stream::SampleStep, step as u64);
    sample_from(denoiser, plan, start, labels, &mut noise, observer)
}

/// Draws images from a given x_T, with given noise: `noise(k)` is asked for at the sampler's
/// k-th step, counted from 0, if that step adds any.
///
/// # Shapes   `start`, every `noise(k)` and the result: `[batch, channels, height, width]`; `labels`: `[batch]`
/// # Errors   as [`sample`]
pub fn sample_from(
    denoiser: &(impl Denoiser + ?Sized),
    plan: &Plan,
    start: Tensor<4>,
    labels: Option<Tensor<1, Int>>,
    noise: &mut dyn FnMut(usize) -> Tensor<4>,
    observer: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Tensor<4>, DiffusionError> {
    let shape = start.dims();
    check_labels(labels.as_ref(), shape[0])?;
    let of = plan.steps().len();
    let mut xt = start;
    let mut check = FiniteCheck::default();
    for (k, step) in plan.steps().iter().enumerate() {
        let output = predict(denoiser, step, &xt, labels.clone())?;
        // Before it is clipped: a clamp may turn NaN into black.
        check.see(&output, step.t, of)?;
        let estimate = estimate(plan, step, &xt, &output);
        let mut draw = || {
            let z = noise(k);
            check_like("the noise of a sampling step", &z, shape).map(|()| z)
        };
        let x0 = estimate.x0.clone();
        xt = match plan.sampler() {
            Sampler::Ddpm { variance } => ddpm::step(xt, estimate.x0, step, variance, &mut draw)?,
            Sampler::Ddim { eta } => ddim::step(estimate, step, eta, &mut draw)?,
        };
        let progress = Progress {
            step: k + 1,
            of,
            t: step.t,
            xt: &xt,
            x0: &x0,
        };
        if observer(progress).is_break() {
            return Err(DiffusionError::Stopped { step: k + 1, of });
        }
    }
    Ok(xt)
}

/// What the denoiser makes of x_t.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// x̂0, clipped if the plan says so: `[batch, channels, height, width]`.
    pub x0: Tensor<4>,
    /// The ε̂ that leads from this x̂0 to x_t, or the network's own if the plan keeps it: the same shape.
    pub eps: Tensor<4>,
}

fn predict(
    denoiser: &(impl Denoiser + ?Sized),
    step: &RespacedStep,
    xt: &Tensor<4>,
    labels: Option<Tensor<1, Int>>,
) -> Result<Tensor<4>, DiffusionError> {
    let times = vec![step.t as f32; xt.dims()[0]];
    let t = Tensor::<1>::from_floats(times.as_slice(), &xt.device());
    let output = denoiser
        .predict(xt.clone(), t, labels)
        .map_err(|source| DiffusionError::Denoiser { t: step.t, source })?;
    check_like("the network's output", &output, xt.dims())?;
    Ok(output)
}

fn estimate(plan: &Plan, step: &RespacedStep, xt: &Tensor<4>, output: &Tensor<4>) -> Estimate {
    let from = |(c_xt, c_out), output: &Tensor<4>| combine(c_xt, xt, c_out, output);
    let x0 = from(
        prediction::x0_coefs(plan.prediction(), step.alpha_bar),
        output,
    );
    let x0 = match plan.clip() {
        None => x0,
        Some(range) => x0.clamp(-range, range),
    };
    let eps = match plan.clip() {
        // A clipped x̂0 belongs to another ε̂; the old one would lead beside the data.
        Some(_) if !plan.keeps_eps() => {
            from(prediction::eps_coefs(Prediction::X0, step.alpha_bar), &x0)
        }
        _ => from(
            prediction::eps_coefs(plan.prediction(), step.alpha_bar),
            output,
        ),
    };
    Estimate { x0, eps }
}

/// `c_a·a + c_b·b`, leaving out what is multiplied by 0.
fn combine(c_a: f64, a: &Tensor<4>, c_b: f64, b: &Tensor<4>) -> Tensor<4> {
    match (c_a == 0.0, c_b == 0.0) {
        (true, _) if c_b == 1.0 => b.clone(),
        (true, _) => b.clone() * c_b,
        (_, true) => a.clone() * c_a,
        _ => a.clone() * c_a + b.clone() * c_b,
    }
}

fn check_labels(labels: Option<&Tensor<1, Int>>, batch: usize) -> Result<(), DiffusionError> {
    match labels.map(|labels| labels.dims()[0]) {
        Some(got) if got != batch => Err(DiffusionError::Batch {
            what: "class labels",
            expected: batch,
            got,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
