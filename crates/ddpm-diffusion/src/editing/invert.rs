//! DDIM inversion: the noise that deterministic sampling turns into a given image (Song et al. 2021, section 5.4).

use burn::tensor::Tensor;
use ddpm_schedule::{Prediction, Stop};

use crate::denoiser::Denoiser;
use crate::rows::combine;
use crate::sample::Observer;
use crate::{Condition, DiffusionError, Plan, Progress, Walk};

/// Leads images up the levels of a plan, x' = signal'·x̂0 + noise'·ε̂, to where its sampling begins.
///
/// Sampling down a leg asks the network at its upper end; going up, that end is where the image is yet to come. So the
/// network is told the time of the end and shown the image as it is at the beginning, and both ways take nearly the same
/// ε̂: the more steps, the nearer, but for levels of next to no signal, where errors grow with σ. ε̂ is the network's,
/// whatever becomes of x̂0.
///
/// # Shapes   `images`: `[batch, channels, height, width]`, in [-1, 1]; returns the same
/// # Errors   those of the network, [`DiffusionError::Sampler`] for a way that goes up, [`DiffusionError::Stopped`]
pub fn invert(
    denoiser: &dyn Denoiser,
    plan: &Plan,
    images: Tensor<4>,
    condition: Condition,
    observer: Observer<'_>,
) -> Result<Tensor<4>, DiffusionError> {
    condition.check(images.dims()[0])?;
    let legs = plan.legs();
    let rises = |leg: &ddpm_schedule::Leg| leg.to.level.sigma() > leg.from.level.sigma();
    if legs.iter().any(rises) {
        return Err(DiffusionError::Sampler {
            sampler: "ddim",
            problem: "cannot be inverted over levels that rise on the way down; take a spacing without repeats".into(),
        });
    }
    let of = legs.len();
    // Inversion draws no noise.
    let zeros = images.zeros_like();
    let mut none = |_| zeros.clone();
    let mut walk = Walk::new(denoiser, plan, condition, &mut none);
    let mut x = images;
    for (step, leg) in legs.iter().rev().enumerate() {
        let up = leg.from;
        let mut here = leg.to.level;
        if here.is_clean() && plan.meaning().prediction == Prediction::X0 {
            // x̂0 says nothing of the noise in an image without any, so it is taken for the least noisy there is.
            here = plan.process().least_noisy();
        }
        walk.begin(plan.skipped() + of - 1 - step, up.level);
        if here != up.level {
            let at = Stop { level: here, ..up };
            let estimate = walk.denoise(&x, at)?;
            let eps = estimate.network_eps(&x, here);
            x = combine(up.level.signal, &estimate.x0, up.level.noise, &eps);
        }
        if step + 1 == of {
            walk.finish()?;
        }
        let progress = Progress {
            step: step + 1,
            of,
            t: up.time,
            level: up.level,
            xt: &x,
            x0: walk.x0.as_ref().unwrap_or(&x),
        };
        if observer(progress).is_break() {
            return Err(DiffusionError::Stopped { step: step + 1, of });
        }
    }
    Ok(x)
}
