//! Bits per dimension: the variational bound on the negative log-likelihood of images, term by term.
//!
//! bound = L_T + Σ_t L_t: what the noisiest step still tells of the image, and one term a time step (Ho et al. 2020,
//! eq. 5; Nichol & Dhariwal 2021, section 3).

use std::f64::consts::LN_2;
use std::ops::ControlFlow;

use burn::tensor::Tensor;
use ddpm_schedule::{Posterior, Process, Stop, VarianceKind};

use crate::bound::{BoundRows, LEAST_PROBABILITY};
use crate::denoiser::Denoiser;
use crate::network::Network;
use crate::plan::{Hold, Meaning, VarianceOutput, held};
use crate::{Condition, DiffusionError, q_sample};

/// How a network's bound is made.
#[derive(Debug, Clone, Copy)]
pub struct Likelihood<'a> {
    /// A process of a table.
    pub process: &'a Process,
    /// What the network's output means.
    pub meaning: Meaning,
    /// The variance of the reverse step, where none is learned.
    pub variance: VarianceKind,
    /// What is done to x̂0; clipping it to the range of pixels lowers the bound.
    pub hold: Hold,
}

/// The bound of a batch of images, in bits per dimension.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BitsPerDim {
    /// L_t of each image, from the noisiest time step down to the decoder's.
    pub terms: Vec<Vec<f64>>,
    /// L_T of each image.
    pub prior: Vec<f64>,
    /// The mean squared error of x̂0, as `terms`.
    pub x0_error: Vec<Vec<f64>>,
    /// The mean squared error of ε̂, as `terms`.
    pub eps_error: Vec<Vec<f64>>,
}

impl BitsPerDim {
    /// The bound of each image.
    #[must_use]
    pub fn total(&self) -> Vec<f64> {
        let terms = |i: usize| self.terms.iter().map(|term| term[i]).sum::<f64>();
        let prior = self.prior.iter().enumerate();
        prior.map(|(i, prior)| prior + terms(i)).collect()
    }
}

impl Likelihood<'_> {
    /// The bound of images: as many network evaluations as the table has steps.
    ///
    /// `noise(t)` is the ε of time step t; `observe(done, of)` is called after each and may end the work.
    ///
    /// # Shapes   `x0`, all noise: `[batch, channels, height, width]`
    /// # Units    pixels in [-1, 1]
    /// # Errors   [`DiffusionError::Likelihood`] for a process without a table, those of [`crate::sample()`]
    pub fn bits_per_dim(
        &self,
        network: &dyn Network,
        x0: &Tensor<4>,
        condition: &Condition,
        noise: &mut dyn FnMut(usize) -> Tensor<4>,
        observe: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<BitsPerDim, DiffusionError> {
        let Some(schedule) = self.process.schedule() else {
            return Err(DiffusionError::Likelihood {
                process: self.process.name(),
            });
        };
        let [batch, ..] = x0.dims();
        condition.check(batch)?;
        let of = schedule.len();
        self.meaning.prediction.check(schedule.level(of - 1))?;
        let table = Posterior::table(&schedule.levels());
        let fixed = match self.meaning.variance {
            VarianceOutput::None => Some(self.variance),
            _ => None,
        };
        let denoiser = held(self.process, self.meaning, self.hold, network);
        let mut found = BitsPerDim::default();
        for (done, t) in (0..of).rev().enumerate() {
            let level = schedule.level(t);
            let eps = noise(t);
            let x = q_sample(x0.clone(), eps.clone(), &vec![level; batch])?;
            let at = Stop {
                time: t as f64,
                level,
            };
            let estimate = denoiser.denoise(&x, at, condition)?;
            let times = vec![t as f64; batch];
            let rows = BoundRows::new(schedule, &table, &times, fixed, &x0.device())?;
            let log_variance = match &estimate.variance {
                Some(variance) => variance.log(&rows.log_small, &rows.log_large),
                None => rows.fixed(self.variance),
            };
            let terms = rows.terms(x0, &x, &estimate.x0, log_variance, LEAST_PROBABILITY);
            let x0_error = squares(estimate.x0.clone() - x0.clone());
            let eps_error = squares(estimate.eps(&x, level) - eps);
            // One reading a step.
            let all = Tensor::cat(vec![terms, x0_error, eps_error], 0);
            let all = read(all, t)?;
            let mut parts = all.chunks_exact(batch).map(<[f64]>::to_vec);
            found.terms.extend(parts.next());
            found.x0_error.extend(parts.next());
            found.eps_error.extend(parts.next());
            if observe(done + 1, of).is_break() {
                return Err(DiffusionError::Stopped { step: done + 1, of });
            }
        }
        // KL(N(√ᾱ·x0, 1-ᾱ) ‖ N(0, 1)) = (x0²·ᾱ - ᾱ - ln(1-ᾱ))/2
        let alpha_bar = schedule.alpha_bar(of - 1);
        let rest = -alpha_bar - (-alpha_bar).ln_1p();
        let squares = read(squares(x0.clone()), of - 1)?;
        found.prior = squares
            .into_iter()
            .map(|square| 0.5 * (alpha_bar * square + rest) / LN_2)
            .collect();
        Ok(found)
    }
}

/// The mean of each image's squares: `[batch]`.
fn squares(x: Tensor<4>) -> Tensor<1> {
    let [batch, channels, height, width] = x.dims();
    x.square()
        .reshape([batch, channels * height * width])
        .mean_dim(1)
        .reshape([batch])
}

fn read(x: Tensor<1>, t: usize) -> Result<Vec<f64>, DiffusionError> {
    let failed = |error: String| DiffusionError::Network {
        t: t as f64,
        source: error.into(),
    };
    let data = x
        .try_into_data()
        .map_err(|error| failed(error.to_string()))?;
    let values: Vec<f64> = data.iter::<f32>().map(f64::from).collect();
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(DiffusionError::NonFinite {
            step: 1,
            of: 1,
            t: t as f64,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use burn::tensor::Device;
    use ddpm_schedule::noise::Stream;
    use ddpm_schedule::{Prediction, ScheduleConfig};

    use super::*;
    use crate::randn_images;

    /// Pixels of N(0, 0.25²) and the perfect network for them: what each term costs is known, and all of them together
    /// are the entropy in steps of 1/127.5 and what the small variance and the discretisation of time cost.
    #[test]
    fn the_bound_of_a_gaussian_costs_what_it_must() {
        let config = ScheduleConfig {
            steps: 500,
            scale_ends: true,
            ..ScheduleConfig::default()
        };
        let process = Process::Discrete(config.build().unwrap());
        let device = Device::flex();
        let x0 = randn_images(3, Stream::Synthetic, 0, 0..2, [1, 32, 32], &device) * 0.25;
        // On the grid that bytes make.
        let x0 = (((x0 + 1.0) * 127.5).round() * (1.0 / 127.5) - 1.0).clamp(-1.0, 1.0);
        let perfect = |x: Tensor<4>, time: Tensor<1>, _: &Condition| {
            let t: Vec<f32> = time.into_data().try_to_vec().unwrap();
            let level = process.level(f64::from(t[0]));
            let variance = 0.0625;
            let gain =
                level.signal * variance / (level.signal.powi(2) * variance + level.noise.powi(2));
            Ok::<_, Infallible>(x * gain)
        };
        let likelihood = Likelihood {
            process: &process,
            meaning: Prediction::X0.into(),
            variance: VarianceKind::Small,
            hold: Hold::Free,
        };
        let mut noise =
            |t: usize| randn_images(4, Stream::TrainNoise, t as u64, 0..2, [1, 32, 32], &device);
        let mut calls = 0;
        let mut watch = |_: usize, _: usize| {
            calls += 1;
            ControlFlow::Continue(())
        };
        let found = likelihood
            .bits_per_dim(&perfect, &x0, &Condition::default(), &mut noise, &mut watch)
            .unwrap();
        assert_eq!((calls, found.terms.len(), found.prior.len()), (500, 500, 2));
        // h = log2(0.25·√(2πe)) + log2(127.5)
        let entropy =
            (0.25 * (2.0 * std::f64::consts::PI * std::f64::consts::E).sqrt() * 127.5).log2();
        let expected = expected(process.schedule().unwrap());
        for total in found.total() {
            // 1024 pixels an image: three standard errors of the terms' sum are less.
            assert!((total - expected).abs() < 0.15, "{total} {expected}");
            assert!(total > entropy, "{total} {entropy}");
        }
    }

    /// Of pixels of N(0, 1/16) where x̂0 is their mean given x, which is off by V = variance·(1-ᾱ)/(ᾱ·variance + 1-ᾱ):
    /// the means differ by the coefficient of x0 times that; the first term is that of a density.
    fn expected(schedule: &ddpm_schedule::Schedule) -> f64 {
        let variance = 0.0625;
        let off = |t: usize| {
            let alpha_bar = schedule.alpha_bar(t);
            variance * (1.0 - alpha_bar) / (alpha_bar * variance + 1.0 - alpha_bar)
        };
        let small = |t: usize| {
            let [before, now] = [t - 1, t].map(|t| schedule.alpha_bar(t));
            schedule.betas()[t] * (1.0 - before) / (1.0 - now)
        };
        let terms = (1..schedule.len()).map(|t| {
            let [before, now] = [t - 1, t].map(|t| schedule.alpha_bar(t));
            let coefficient = before.sqrt() * schedule.betas()[t] / (1.0 - now);
            coefficient * coefficient * off(t) / (2.0 * small(t))
        });
        let density = 0.5 * (2.0 * std::f64::consts::PI * small(1)).ln();
        let first = density + off(0) / (2.0 * small(1)) + 127.5f64.ln();
        (terms.sum::<f64>() + first) / LN_2
    }
}
