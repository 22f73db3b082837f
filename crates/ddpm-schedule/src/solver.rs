//! The scalar coefficients of the steps that have no history; a sampler multiplies tensors by them.

use crate::{Level, Posterior, ScheduleError};

/// One DDIM step: x' = `x0`·x̂0 + `eps`·ε̂ + `noise`·z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DdimStep {
    /// √ᾱ'.
    pub x0: f64,
    /// √(1 - ᾱ' - σ²).
    pub eps: f64,
    /// σ, the scale of fresh noise.
    pub noise: f64,
}

/// The DDIM step between two levels (Song et al. 2021, eq. 12 and 16; for any process).
///
/// x' = √ᾱ'·x̂0 + √(1-ᾱ'-σ²)·ε̂ + σ·z,  σ = η·√((1-ᾱ')/(1-ᾱ))·√(1-ᾱ/ᾱ')
///
/// At η = 0 it is Euler's step of the probability flow, at η = 1 the ancestral step of k-diffusion.
///
/// # Units   `eta` has none: 0 = deterministic, 1 = as noisy as DDPM with the small variance
/// # Errors  [`ScheduleError::Coefficient`] unless 0 ≤ η ≤ 1
pub fn ddim_step(from: Level, to: Level, eta: f64) -> Result<DdimStep, ScheduleError> {
    if !(0.0..=1.0).contains(&eta) {
        return Err(ScheduleError::Coefficient {
            name: "eta",
            value: eta,
            expected: "from 0 (deterministic) to 1 (as noisy as DDPM)",
        });
    }
    let variance = eta * eta * Posterior::new(from, to).variance_small;
    Ok(DdimStep {
        x0: to.signal,
        // Rounding may leave a hair below zero where σ² takes all that is left.
        eps: (to.noise * to.noise - variance).max(0.0).sqrt(),
        noise: variance.sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever η, the step leads from the marginal of one level to that of the other.
        #[test]
        fn ddim_keeps_the_marginals(a in 1e-5f64..0.99, share in 0.01f64..0.99, eta in 0.0f64..=1.0) {
            let prev = a + (1.0 - a) * share;
            let step = ddim_step(Level::of_alpha_bar(a), Level::of_alpha_bar(prev), eta).unwrap();
            prop_assert!((step.eps.powi(2) + step.noise.powi(2) - (1.0 - prev)).abs() < 1e-12);
            prop_assert_eq!(step.x0, prev.sqrt());
            let sigma = eta * ((1.0 - prev) / (1.0 - a)).sqrt() * (1.0 - a / prev).sqrt();
            prop_assert!((step.noise - sigma).abs() < 1e-12);
        }

        /// DDIM at η = 1 is DDPM with the small variance, with ε̂ = (x - signal·x̂0)/noise put in.
        #[test]
        fn eta_one_is_ancestral(a in 1e-5f64..0.99, share in 0.01f64..0.99, kind in 0..3) {
            let prev = a + (1.0 - a) * share;
            let level = |a: f64| match kind {
                0 => Level::of_alpha_bar(a),
                1 => Level::variance_exploding(((1.0 - a) / a).sqrt()),
                _ => Level { signal: a, noise: 1.0 - a },
            };
            let (from, to) = (level(a), level(prev));
            let ddim = ddim_step(from, to, 1.0).unwrap();
            let ddpm = Posterior::new(from, to);
            prop_assert!((ddim.noise - ddpm.variance_small.sqrt()).abs() < 1e-9);
            prop_assert!((ddim.eps / from.noise - ddpm.x_coef).abs() < 1e-8);
            prop_assert!((ddim.x0 - ddim.eps * from.signal / from.noise - ddpm.x0_coef).abs() < 1e-8);
        }
    }

    #[test]
    fn the_last_step_is_x0() {
        for eta in [0.0, 1.0] {
            let step = ddim_step(Level::of_alpha_bar(0.99), Level::CLEAN, eta).unwrap();
            assert_eq!((step.x0, step.eps, step.noise), (1.0, 0.0, 0.0));
        }
    }

    #[test]
    fn from_no_signal_at_all() {
        let (from, to) = (Level::of_alpha_bar(0.0), Level::of_alpha_bar(0.3));
        assert!(ddim_step(from, to, 0.0).unwrap().eps > 0.0);
    }

    #[test]
    fn eta_outside_its_range_is_refused() {
        let (from, to) = (Level::of_alpha_bar(0.1), Level::of_alpha_bar(0.5));
        for eta in [-0.1, 1.1, f64::NAN] {
            let message = ddim_step(from, to, eta).unwrap_err().to_string();
            assert!(message.starts_with("eta is"), "{message}");
        }
    }
}
