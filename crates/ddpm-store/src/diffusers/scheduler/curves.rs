//! Rows of numbers between two ends, for spacings that only other programs have.

use super::spread::Curve;

/// diffusers' exponent of Karras et al. 2022, eq. 5.
pub(super) const RHO: f64 = 7.0;

/// diffusers' parameters of the beta distribution, both of them.
const SHAPE: f64 = 0.6;

/// `n` numbers from `high` down to `low`, both above 0.
pub(super) fn curve(curve: Curve, n: usize, low: f64, high: f64) -> Vec<f64> {
    let at = |u: f64| match curve {
        Curve::Karras => {
            let [a, b] = [high, low].map(|end| end.powf(1.0 / RHO));
            (a + u * (b - a)).powf(RHO)
        }
        Curve::Exponential => (high.ln() + u * (low.ln() - high.ln())).exp(),
        Curve::Beta => low + beta_quantile(1.0 - u) * (high - low),
    };
    (0..n)
        .map(|i| at(i as f64 / (n.max(2) - 1) as f64))
        .collect()
}

/// The number that a share `p` of the symmetric beta distribution lies below.
fn beta_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return 1.0 - beta_quantile(1.0 - p);
    }
    // Near 0 the share is x^SHAPE/SHAPE over that of the whole: bisection in ln x reaches it as well as the middle.
    let (mut low, mut high) = (1e-300f64.ln(), 0.5f64.ln());
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        match beta_share(middle.exp()) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    match p == 0.0 {
        true => 0.0,
        false => high.exp(),
    }
}

/// The share below x ≤ 1/2: x^a·(1-x)^a/(a·B(a, a)) of a continued fraction (Press et al. 1992, section 6.4).
fn beta_share(x: f64) -> f64 {
    incomplete(x) / (2.0 * incomplete(0.5))
}

/// ∫ from 0 to x of (t·(1 - t))^(a - 1).
fn incomplete(x: f64) -> f64 {
    let a = SHAPE;
    // Lentz's method.
    let (mut c, mut d) = (1.0, 1.0 / (1.0 - 2.0 * a * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..200 {
        let m = f64::from(m);
        for term in [
            m * (a - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (2.0 * a + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / (1.0 + term * d);
            c = 1.0 + term / c;
            fraction *= c * d;
        }
    }
    x.powf(a) * (1.0 - x).powf(a) / a * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy.stats.beta.ppf(p, 0.6, 0.6)
    #[test]
    fn quantiles_are_those_of_scipy() {
        for (p, expected) in [
            (0.0, 0.0),
            (1e-3, BETA[0]),
            (0.1, BETA[1]),
            (0.25, BETA[2]),
            (0.5, 0.5),
            (0.9, 1.0 - BETA[1]),
            (1.0, 1.0),
        ] {
            let found = beta_quantile(p);
            assert!((found - expected).abs() < 1e-12, "{p}: {found} {expected}");
        }
    }

    const BETA: [f64; 3] = [
        1.855_873_851_745_199e-5,
        0.039_584_405_588_780_84,
        0.175_680_378_652_694_98,
    ];
}
