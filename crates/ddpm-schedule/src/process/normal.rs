//! The normal distribution in f64.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// The share of a standard normal below `x`.
pub(super) fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// The x with [`cdf`] `p`, for 0 < p < 1.
///
/// Newton's method on ln cdf, which is concave, so that it climbs to the root from any start below.
pub(super) fn quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    // cdf(x) ≤ exp(-x²/2)/2 for x ≤ 0, so the root is not below this.
    let mut x = -(-2.0 * (2.0 * p).ln()).max(0.0).sqrt();
    for _ in 0..60 {
        let below = cdf(x);
        let density = (-0.5 * x * x).exp() / TAU.sqrt();
        let step = (below / p).ln() * below / density;
        x -= step;
        if step.abs() <= 1e-15 * x.abs().max(1e-3) {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_quantiles() {
        // Wichura 1988's test values, and the ends that 53 bits reach.
        for (p, x) in [
            (0.25, -0.674_489_750_196_081_7),
            (0.001, -3.090_232_306_167_813_5),
            (1e-20, -9.262_340_089_798_408),
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
        ] {
            assert!(
                (quantile(p) - x).abs() < 1e-13,
                "{p}: {:e}",
                quantile(p) - x
            );
        }
        for bits in [0, 1 << 11, 1 << 40, u64::MAX / 3, u64::MAX] {
            let u = super::super::unit(bits);
            assert!((cdf(quantile(u)) / u - 1.0).abs() < 1e-12, "{u}");
        }
    }
}
