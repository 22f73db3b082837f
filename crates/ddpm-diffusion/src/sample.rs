//! The reverse process: images from noise. What all samplers share is here: the loop over legs, noise by seed, step
//! and image, the observer, and the noise that is added where a grid goes up again.

use std::ops::ControlFlow;

use burn::tensor::{Device, Int, Tensor};
use ddpm_schedule::noise::Stream;

use crate::denoiser::Denoiser;
use crate::finite::FiniteCheck;
use crate::network::Network;
use crate::progress::Progress;
use crate::sampler::{Method, Step};
use crate::walk::{NoiseAt, Walk};
use crate::{Condition, DiffusionError, Plan, randn_images};

/// Which images of a seed to sample, and where.
#[derive(Debug, Clone)]
pub struct SampleBatch {
    /// Batch, channels, height, width.
    pub shape: [usize; 4],
    /// The seed that names the whole set of images.
    pub seed: u64,
    /// The number of the first image in that set; the others follow.
    pub first_index: u64,
    /// One class an image, `[batch]`, for a conditional network.
    pub labels: Option<Tensor<1, Int>>,
    /// Where to compute: the network's device.
    pub device: Device,
}

/// Called after every step; it may end the work.
pub type Observer<'a> = &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>;

/// Samples a batch of images.
///
/// All noise is addressed by (seed, step, number of the image), so that an image does not
/// depend on the batch that it is sampled in, up to the rounding of the network's kernels.
///
/// # Shapes   returns `batch.shape`
/// # Units    pixels in [-1, 1] if the plan clips
/// # Errors   [`DiffusionError::Network`] if the network fails, [`DiffusionError::NonFinite`] if it gives NaN or an
/// infinity (found within 32 evaluations), [`DiffusionError::Stopped`] if the observer says so, [`DiffusionError::Shape`] and [`DiffusionError::Batch`] for what does not fit
pub fn sample(
    network: &dyn Network,
    plan: &Plan,
    batch: SampleBatch,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    sample_by(plan.sampler().method(), network, plan, batch, observer)
}

/// As [`sample`], by another method than the plan's, such as one of your own; the grid is the plan's.
///
/// # Errors   as [`sample`], and those of [`Method::check`]
pub fn sample_by(
    method: &dyn Method,
    network: &dyn Network,
    plan: &Plan,
    batch: SampleBatch,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    method.check(plan.process(), plan.grid())?;
    method.check_meaning(plan.meaning())?;
    let SampleBatch {
        shape: [rows, channels, height, width],
        seed,
        first_index,
        labels,
        device,
    } = batch;
    let condition = Condition::of_labels(labels);
    condition.check(rows)?;
    let image = [channels, height, width];
    let normal = |stream, step, from: usize, count: usize| {
        let first = first_index.wrapping_add(from as u64);
        let indices = (0..count as u64).map(|row| first.wrapping_add(row));
        randn_images(seed, stream, step, indices, image, &device)
    };
    let each = match method.one_by_one() {
        true => 1,
        false => rows.max(1),
    };
    let mut done: Vec<Tensor<4>> = Vec::new();
    for from in (0..rows).step_by(each) {
        let start = normal(Stream::SampleInit, 0, from, each) * plan.start_scale();
        let mut noise = |at: NoiseAt| {
            // The first draw of a step is what it always was.
            let step = at.step as u64 | ((at.draw as u64) << 32);
            normal(Stream::SampleStep, step, from, each)
        };
        let legs = plan.steps();
        let mut watch = |progress: Progress<'_>| match each == rows {
            true => observer(progress),
            false => {
                // The images that are not at work stand as they are.
                let whole = |own: &Tensor<4>| {
                    let rest = rows - from - each;
                    let rest = Tensor::zeros([rest, channels, height, width], &device);
                    let all = done.iter().cloned().chain([own.clone(), rest]);
                    Tensor::cat(all.collect(), 0)
                };
                observer(Progress {
                    step: from * legs + progress.step,
                    of: rows * legs,
                    xt: &whole(progress.xt),
                    x0: &whole(progress.x0),
                    ..progress
                })
            }
        };
        let condition = condition.rows(from..from + each);
        let denoiser = plan.denoiser(network);
        let sampler = method.start(plan.process(), plan.grid());
        done.push(follow(
            sampler, &*denoiser, plan, start, condition, &mut noise, &mut watch,
        )?);
    }
    Ok(match done.len() {
        1 => done.remove(0),
        0 => Tensor::zeros([rows, channels, height, width], &device),
        _ => Tensor::cat(done, 0),
    })
}

/// Samples from a given start, x at the first level of the plan, with given noise.
///
/// # Shapes   `start`, all noise and the result: `[batch, channels, height, width]`
/// # Errors   as [`sample`]
pub fn sample_from(
    network: &dyn Network,
    plan: &Plan,
    start: Tensor<4>,
    condition: Condition,
    noise: &mut dyn FnMut(NoiseAt) -> Tensor<4>,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    condition.check(start.dims()[0])?;
    walk(
        &*plan.denoiser(network),
        plan,
        start,
        condition,
        noise,
        observer,
    )
}

/// As [`sample_from`], of any denoiser; what the plan says of a network's output and of clipping is passed over.
///
/// # Errors   as [`sample`]
pub fn walk(
    denoiser: &dyn Denoiser,
    plan: &Plan,
    start: Tensor<4>,
    condition: Condition,
    noise: &mut dyn FnMut(NoiseAt) -> Tensor<4>,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    let sampler = plan.sampler().start(plan.process(), plan.grid());
    follow(sampler, denoiser, plan, start, condition, noise, observer)
}

/// The loop over the legs of the plan's grid.
fn follow(
    mut sampler: Box<dyn Step>,
    denoiser: &dyn Denoiser,
    plan: &Plan,
    start: Tensor<4>,
    condition: Condition,
    noise: &mut dyn FnMut(NoiseAt) -> Tensor<4>,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    let legs = plan.grid().legs();
    let of = legs.len();
    let mut walk = Walk {
        denoiser,
        process: plan.process(),
        condition,
        noise,
        at: NoiseAt { step: 0, draw: 0 },
        of,
        finite: FiniteCheck::default(),
        x0: None,
        evaluations: 0,
    };
    let mut x = start;
    for (step, &leg) in legs.iter().enumerate() {
        walk.at = NoiseAt { step, draw: 0 };
        let (from, to) = (leg.from.level, leg.to.level);
        x = if from == to {
            x
        } else if to.sigma() > from.sigma() {
            walk.renoise(x, from, to, 1.0)?
        } else {
            sampler.step(&mut walk, x, leg)?
        };
        if step + 1 == of {
            walk.finite.look(of)?;
        }
        let progress = Progress {
            step: step + 1,
            of,
            t: leg.from.time,
            level: to,
            xt: &x,
            x0: walk.x0.as_ref().unwrap_or(&x),
        };
        if observer(progress).is_break() {
            return Err(DiffusionError::Stopped { step: step + 1, of });
        }
    }
    Ok(x)
}
