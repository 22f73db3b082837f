//! The uncertainty of each noise level.

use std::f64::consts::{SQRT_2, TAU};

use ddpm_schedule::Level;
use ddpm_schedule::noise::{Stream, normal_fill, uniform_fill};
use serde::{Deserialize, Serialize};

use super::UncertaintyConfig;

/// u(σ), the logarithm of how large errors are at a noise level: what makes e^-u·error + u least is u = ln E\[error\]
/// (Karras et al. 2024, section 2.2).
///
/// A linear function of random Fourier features √2·cos(2π(f·ln(σ)/4 + φ)), which begins with 0 and is moved by Adam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uncertainty {
    lr: f64,
    frequencies: Vec<f32>,
    phases: Vec<f64>,
    weights: Vec<f64>,
    /// Adam's moments.
    exp_avg: Vec<f64>,
    exp_avg_sq: Vec<f64>,
    updates: i32,
}

/// Adam's, as PyTorch's are.
const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

impl Uncertainty {
    pub(super) fn new(UncertaintyConfig { channels, lr }: UncertaintyConfig, seed: u64) -> Self {
        let (mut frequencies, mut phases) = (vec![0.0; channels], vec![0.0; channels]);
        normal_fill(seed, Stream::Uncertainty, 0, 0, &mut frequencies);
        uniform_fill(seed, Stream::Uncertainty, 0, 1, &mut phases);
        let zeros = || vec![0.0; channels];
        Self {
            lr,
            frequencies,
            phases,
            weights: zeros(),
            exp_avg: zeros(),
            exp_avg_sq: zeros(),
            updates: 0,
        }
    }

    fn features(&self, level: Level) -> Vec<f64> {
        let x = level.with_signal().sigma().ln() / 4.0;
        let pairs = self.frequencies.iter().zip(&self.phases);
        let wave = |(f, phase): (&f32, &f64)| SQRT_2 * (TAU * (f64::from(*f) * x + phase)).cos();
        pairs.map(wave).collect()
    }

    /// u of a level.
    pub(super) fn log(&self, level: Level) -> f64 {
        dot(&self.features(level), &self.weights)
    }

    /// One step of Adam down the mean of e^-u·error + u.
    pub(super) fn note(&mut self, errors: &[(Level, f64)]) {
        let mut gradient = vec![0.0; self.weights.len()];
        for &(level, error) in errors {
            let features = self.features(level);
            let slope = 1.0 - error * (-dot(&features, &self.weights)).exp();
            for (sum, feature) in gradient.iter_mut().zip(features) {
                *sum += slope * feature / errors.len() as f64;
            }
        }
        self.updates += 1;
        let [first, second] = BETAS.map(|beta| 1.0 - beta.powi(self.updates));
        for (i, g) in gradient.into_iter().enumerate() {
            let (m, v) = (&mut self.exp_avg[i], &mut self.exp_avg_sq[i]);
            *m += (1.0 - BETAS[0]) * (g - *m);
            *v += (1.0 - BETAS[1]) * (g * g - *v);
            self.weights[i] -= self.lr * (*m / first) / ((*v / second).sqrt() + EPS);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_to_the_logarithm_of_the_errors() {
        let mut learned = Uncertainty::new(UncertaintyConfig::default(), 3);
        let level = |i: usize| Level::variance_exploding(0.01 * 1.6f64.powi(i as i32));
        assert_eq!(learned.log(level(4)), 0.0);
        // An error of 3·σ^0.3, scattered by a factor of 1/2 to 3/2.
        let error =
            |i: usize, k: usize| 3.0 * level(i).sigma().powf(0.3) * (0.5 + (k % 11) as f64 / 10.0);
        for step in 0..2000 {
            let batch: Vec<_> = (0..18)
                .map(|i| (level(i), error(i, step + 5 * i)))
                .collect();
            learned.note(&batch);
        }
        for i in 0..18 {
            let expected = 3f64.ln() + 0.3 * level(i).sigma().ln();
            let found = learned.log(level(i));
            assert!((found - expected).abs() < 0.1, "{i}: {found} {expected}");
        }
    }
}
