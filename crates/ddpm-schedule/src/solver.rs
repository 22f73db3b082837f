//! The scalar coefficients of one sampling step; a sampler multiplies tensors by them.

use crate::{Posterior, ScheduleError, VarianceKind};

/// One DDIM step: x' = `x0`·x̂0 + `eps`·ε̂ + `sigma`·z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DdimStep {
    /// √ᾱ_prev.
    pub x0: f64,
    /// √(1 - ᾱ_prev - σ²).
    pub eps: f64,
    /// σ, the scale of fresh noise.
    pub sigma: f64,
}

/// The DDIM step from ᾱ to ᾱ_prev (Song et al. 2021, eq. 12 and 16).
///
/// x' = √ᾱ'·x̂0 + √(1-ᾱ'-σ²)·ε̂ + σ·z,  σ = η·√((1-ᾱ')/(1-ᾱ))·√(1-ᾱ/ᾱ')
///
/// # Units   `eta` has none: 0 = deterministic, 1 = as noisy as DDPM with the small variance
/// # Errors  [`ScheduleError::Coefficient`] unless 0 ≤ η ≤ 1
pub fn ddim_step(alpha_bar: f64, alpha_bar_prev: f64, eta: f64) -> Result<DdimStep, ScheduleError> {
    if !(0.0..=1.0).contains(&eta) {
        return Err(ScheduleError::Coefficient {
            name: "eta",
            value: eta,
            expected: "from 0 (deterministic) to 1 (as noisy as DDPM)",
        });
    }
    let variance = eta * eta * Posterior::new(alpha_bar, alpha_bar_prev).variance_small;
    Ok(DdimStep {
        x0: alpha_bar_prev.sqrt(),
        // Rounding may leave a hair below zero where σ² takes all that is left.
        eps: (1.0 - alpha_bar_prev - variance).max(0.0).sqrt(),
        sigma: variance.sqrt(),
    })
}

/// One ancestral step: x' = `x0`·x̂0 + `xt`·x_t + `sigma`·z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AncestralStep {
    /// The coefficient of x̂0 in the posterior mean.
    pub x0: f64,
    /// The coefficient of x_t in the posterior mean.
    pub xt: f64,
    /// The scale of fresh noise; 0 at the last step (ᾱ_prev = 1), whatever the variance.
    pub sigma: f64,
}

/// The ancestral DDPM step from ᾱ to ᾱ_prev (Ho et al. 2020, eq. 7 and algorithm 2).
#[must_use]
pub fn ancestral_step(
    alpha_bar: f64,
    alpha_bar_prev: f64,
    variance: VarianceKind,
) -> AncestralStep {
    let posterior = Posterior::new(alpha_bar, alpha_bar_prev);
    let last = alpha_bar_prev == 1.0;
    AncestralStep {
        x0: posterior.x0_coef,
        xt: posterior.xt_coef,
        sigma: match last {
            true => 0.0,
            false => posterior.variance(variance).sqrt(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever η, the step leads from the marginal of ᾱ to the marginal of ᾱ_prev.
        #[test]
        fn ddim_keeps_the_marginals(a in 1e-5f64..0.99, share in 0.01f64..0.99, eta in 0.0f64..=1.0) {
            let prev = a + (1.0 - a) * share;
            let step = ddim_step(a, prev, eta).unwrap();
            prop_assert!((step.eps.powi(2) + step.sigma.powi(2) - (1.0 - prev)).abs() < 1e-12);
            prop_assert_eq!(step.x0, prev.sqrt());
            let sigma = eta * ((1.0 - prev) / (1.0 - a)).sqrt() * (1.0 - a / prev).sqrt();
            prop_assert!((step.sigma - sigma).abs() < 1e-12);
        }

        /// DDIM at η = 1 is DDPM with the small variance, with ε̂ = (x_t - √ᾱ·x̂0)/√(1-ᾱ) put in.
        #[test]
        fn eta_one_is_ancestral(a in 1e-5f64..0.99, share in 0.01f64..0.99) {
            let prev = a + (1.0 - a) * share;
            let ddim = ddim_step(a, prev, 1.0).unwrap();
            let ddpm = ancestral_step(a, prev, VarianceKind::Small);
            prop_assert!((ddim.sigma - ddpm.sigma).abs() < 1e-12);
            prop_assert!((ddim.eps / (1.0 - a).sqrt() - ddpm.xt).abs() < 1e-10);
            prop_assert!((ddim.x0 - ddim.eps * a.sqrt() / (1.0 - a).sqrt() - ddpm.x0).abs() < 1e-10);
        }
    }

    #[test]
    fn the_last_step_is_x0() {
        for eta in [0.0, 1.0] {
            let step = ddim_step(0.99, 1.0, eta).unwrap();
            assert_eq!((step.x0, step.eps, step.sigma), (1.0, 0.0, 0.0));
        }
        for variance in [VarianceKind::Small, VarianceKind::Large] {
            let step = ancestral_step(0.99, 1.0, variance);
            assert!((step.x0 - 1.0).abs() < 1e-12);
            assert_eq!((step.xt, step.sigma), (0.0, 0.0));
        }
    }

    #[test]
    fn from_no_signal_at_all() {
        let step = ancestral_step(0.0, 0.3, VarianceKind::Large);
        assert_eq!((step.xt, step.sigma), (0.0, 1.0));
        assert!(ddim_step(0.0, 0.3, 0.0).unwrap().eps > 0.0);
    }

    #[test]
    fn eta_outside_its_range_is_refused() {
        for eta in [-0.1, 1.1, f64::NAN] {
            let message = ddim_step(0.1, 0.5, eta).unwrap_err().to_string();
            assert!(message.starts_with("eta is"), "{message}");
        }
    }
}
