//! Denoising diffusion implicit models.

use burn::tensor::Tensor;
use ddpm_schedule::{RespacedStep, solver::ddim_step};

use crate::DiffusionError;

use super::{Estimate, combine};

/// One DDIM step (Song et al. 2021, eq. 12).
///
/// x' = √ᾱ'·x̂0 + √(1-ᾱ'-σ²)·ε̂ + σ·z,  σ = η·√((1-ᾱ')/(1-ᾱ))·√(1-ᾱ/ᾱ')
///
/// # Shapes   `estimate`, `draw()`: `[batch, channels, height, width]`; returns the same
/// # Units    `eta` has none, 0 = deterministic
/// # Errors   [`DiffusionError::Schedule`] unless 0 ≤ η ≤ 1; those of `draw`, which is called only if σ > 0
pub fn step(
    estimate: Estimate,
    step: &RespacedStep,
    eta: f64,
    draw: &mut dyn FnMut() -> Result<Tensor<4>, DiffusionError>,
) -> Result<Tensor<4>, DiffusionError> {
    let coefs = ddim_step(step.alpha_bar, step.alpha_bar_prev, eta)?;
    let mean = combine(coefs.x0, &estimate.x0, coefs.eps, &estimate.eps);
    Ok(match coefs.sigma > 0.0 {
        true => mean + draw()? * coefs.sigma,
        false => mean,
    })
}
