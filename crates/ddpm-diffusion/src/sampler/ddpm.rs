//! Ancestral sampling.

use burn::tensor::Tensor;
use ddpm_schedule::{RespacedStep, VarianceKind, solver::ancestral_step};

use crate::DiffusionError;

use super::combine;

/// One ancestral step (Ho et al. 2020, eq. 7 and algorithm 2, over any spacing).
///
/// x' = √ᾱ'·β/(1-ᾱ)·x̂0 + √α·(1-ᾱ')/(1-ᾱ)·x_t + σ·z, without noise at the last step
///
/// # Shapes   `xt`, `x0`, `draw()`: `[batch, channels, height, width]`; returns the same
/// # Errors   those of `draw`, which is called only if σ > 0
pub fn step(
    xt: Tensor<4>,
    x0: Tensor<4>,
    step: &RespacedStep,
    variance: VarianceKind,
    draw: &mut dyn FnMut() -> Result<Tensor<4>, DiffusionError>,
) -> Result<Tensor<4>, DiffusionError> {
    let coefs = ancestral_step(step.alpha_bar, step.alpha_bar_prev, variance);
    let mean = combine(coefs.x0, &x0, coefs.xt, &xt);
    Ok(match coefs.sigma > 0.0 {
        true => mean + draw()? * coefs.sigma,
        false => mean,
    })
}
