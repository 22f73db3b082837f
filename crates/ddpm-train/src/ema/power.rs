//! Decays that count images: power-function averages (Karras et al. 2024, "Analyzing and Improving the Training Dynamics
//! of Diffusion Models") and half-lives with a ramp (Karras et al. 2022).
//!
//! A power-function average of exponent γ weighs the network's state at time τ by τ^γ. What its length is in relation to
//! the training so far does not change as training goes on: σ_rel, the standard deviation of that profile over its end.

/// β after the update that `images` images have been seen with, `batch` of them in this update: (1 - batch/images)^(γ+1)
/// (eq. 123). 0 at the first update.
pub fn beta(gamma: f64, batch: f64, images: f64) -> f64 {
    (1.0 - batch / images).max(0.0).powf(gamma + 1.0)
}

/// σ_rel of an exponent: (γ+1)^½·(γ+2)^-1·(γ+3)^-½ (eq. 126).
pub fn sigma_rel_of(gamma: f64) -> f64 {
    (gamma + 1.0).sqrt() / ((gamma + 2.0) * (gamma + 3.0).sqrt())
}

/// The largest σ_rel that training may track or a synthesis reach: that of γ = 0, the plain mean, 1/√12.
pub const MAX_SIGMA_REL: f64 = 0.288_675_134_594_812_9;

/// The exponent of a σ_rel in (0, [`MAX_SIGMA_REL`]]: the largest real root of g³ + 7g² + (16 - σ^-2)g + 12 - σ^-2.
pub fn gamma_of(sigma_rel: f64) -> f64 {
    let inverse = sigma_rel.powi(-2);
    let (linear, constant) = (16.0 - inverse, 12.0 - inverse);
    // The cubic is positive and convex from here down to that root, so Newton's method comes down to it.
    let mut gamma = 1.0 / sigma_rel;
    for _ in 0..100 {
        let value = ((gamma + 7.0) * gamma + linear) * gamma + constant;
        let slope = (3.0 * gamma + 14.0) * gamma + linear;
        let next = gamma - value / slope;
        // Rounding stops it; from above it comes otherwise.
        if next.is_nan() || next >= gamma {
            break;
        }
        gamma = next;
    }
    gamma
}

/// The decay of an average that half of is forgotten in so many images, or in a share `rampup_ratio` of the images seen
/// while that is less: 0.5^(batch / min(halflife, images·ratio)). Without a ratio there is no ramp.
pub fn half_life(batch: f64, images: f64, halflife_images: f64, rampup_ratio: Option<f64>) -> f64 {
    let ramp = rampup_ratio.map_or(f64::INFINITY, |ratio| images * ratio);
    0.5f64.powf(batch / halflife_images.min(ramp).max(1e-8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigma_rel_and_gamma_are_inverse() {
        // NVlabs edm2, training/phema.py.
        for (sigma_rel, gamma) in [
            (0.01, 96.994_897_823_709_86),
            (0.05, 16.972_198_602_303_447),
            (0.1, 6.937_203_937_601_809),
            (0.28, 0.169_343_993_769_499_66),
        ] {
            assert!((gamma_of(sigma_rel) / gamma - 1.0).abs() < 1e-12);
            assert!((sigma_rel_of(gamma) / sigma_rel - 1.0).abs() < 1e-14);
        }
        assert!((sigma_rel_of(0.0) - MAX_SIGMA_REL).abs() < 1e-16);
        assert!(gamma_of(MAX_SIGMA_REL).abs() < 1e-7);
    }

    #[test]
    fn a_power_function_average_weighs_time_by_its_power() {
        let gamma = 6.0;
        let weight_of = |step: u64, last: u64| {
            let kept = (step + 1..=last).map(|k| beta(gamma, 1.0, k as f64));
            (1.0 - beta(gamma, 1.0, step as f64)) * kept.product::<f64>()
        };
        for step in [1, 7, 200] {
            let integral = |t: f64| (t / 200.0).powf(gamma + 1.0);
            let expected = integral(step as f64) - integral(step as f64 - 1.0);
            assert!((weight_of(step, 200) - expected).abs() < 1e-14);
        }
        assert_eq!(beta(gamma, 32.0, 32.0), 0.0);
    }

    #[test]
    fn a_half_life_rises_with_the_images_up_to_its_bound() {
        assert_eq!(half_life(50.0, 1e9, 50.0, Some(0.05)), 0.5);
        assert_eq!(half_life(50.0, 1000.0, 5000.0, Some(0.05)), 0.5);
        assert_eq!(half_life(50.0, 1000.0, 50.0, None), 0.5);
    }
}
