//! The reverse process: images from noise. What all samplers share is here: the loop over legs, noise by seed, step
//! and image, the observer, and the noise that is added where a grid goes up again.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};
use ddpm_schedule::noise::Stream;

use crate::denoiser::Denoiser;
use crate::guidance::Guide;
use crate::network::Network;
use crate::progress::Progress;
use crate::sampler::{Method, Step};
use crate::walk::{NoiseAt, Walk};
use crate::{Condition, DiffusionError, Plan, noise_of, randn_images};

/// Which images of a seed to sample, and where.
#[derive(Debug, Clone)]
pub struct SampleBatch<'a> {
    /// Batch, channels, height, width.
    pub shape: [usize; 4],
    /// The seed that names the whole set of images.
    pub seed: u64,
    /// The number of the first image in that set; the others follow.
    pub first_index: u64,
    /// What a conditional network is told of each image.
    pub condition: Condition,
    /// What guidance leads away from, where the plan has any.
    pub guide: Guide<'a>,
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
    batch: SampleBatch<'_>,
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
    batch: SampleBatch<'_>,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    method.check(plan.process(), plan.grid())?;
    method.check_meaning(plan.meaning())?;
    let SampleBatch {
        shape: [rows, channels, height, width],
        seed,
        first_index,
        condition,
        guide,
        device,
    } = batch;
    condition.check(rows)?;
    let image = [channels, height, width];
    let indices = |from: usize, count: usize| -> Vec<u64> {
        let first = first_index.wrapping_add(from as u64);
        (0..count as u64)
            .map(|row| first.wrapping_add(row))
            .collect()
    };
    let each = match method.one_by_one() {
        true => 1,
        false => rows.max(1),
    };
    let mut done: Vec<Tensor<4>> = Vec::new();
    for from in (0..rows).step_by(each) {
        let own = indices(from, each);
        let start = randn_images(seed, Stream::SampleInit, 0, own.clone(), image, &device);
        let start = start * plan.start_scale();
        let mut noise = noise_of(seed, Stream::SampleStep, own, image, &device);
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
        let denoiser = plan.denoiser(network, guide.rows(from..from + each))?;
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
    guide: Guide<'_>,
    noise: &mut dyn FnMut(NoiseAt) -> Tensor<4>,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    condition.check(start.dims()[0])?;
    walk(
        &*plan.denoiser(network, guide)?,
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
    let legs = plan.legs();
    let of = legs.len();
    let mut walk = Walk::new(denoiser, plan, condition, noise);
    let mut x = start;
    for (step, &leg) in legs.iter().enumerate() {
        let (from, to) = (leg.from.level, leg.to.level);
        // Of the whole way, of which the plan may have only the end.
        walk.begin(plan.skipped() + step, from);
        x = if from == to {
            x
        } else if to.sigma() > from.sigma() {
            walk.renoise(x, from, to, 1.0)?
        } else {
            sampler.step(&mut walk, x, leg)?
        };
        if step + 1 == of {
            walk.finish()?;
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
