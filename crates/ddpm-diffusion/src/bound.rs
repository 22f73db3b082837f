//! The variational bound on the negative log-likelihood, one term a time step, in bits per dimension.
//!
//! L_t = KL(q(x' | x, x0) ‖ p(x' | x)), L_0 = -ln p(x0 | x_1) of pixels in steps of 1/127.5 (Ho et al. 2020, eq. 5 and 13;
//! Nichol & Dhariwal 2021, section 3).

use std::f64::consts::LN_2;

use burn::tensor::{Device, Tensor};
use ddpm_schedule::{Posterior, Schedule, VarianceKind};

use crate::DiffusionError;
use crate::rows::per_row;

/// What the bound needs to know of each image's time step, `[batch, 1, 1, 1]` each.
#[derive(Debug, Clone)]
pub struct BoundRows {
    /// The mean of q(x' | x, x0) is `x0_coef`·x0 + `x_coef`·x.
    pub x0_coef: Tensor<4>,
    /// See `x0_coef`.
    pub x_coef: Tensor<4>,
    /// ln β̃, the logarithm of its variance.
    pub log_small: Tensor<4>,
    /// ln β.
    pub log_large: Tensor<4>,
    /// 1 for the first time step, whose term is the decoder's, else 0.
    pub first: Tensor<4>,
}

/// What the probability of a pixel is at least, so that its logarithm is finite.
pub(crate) const LEAST_PROBABILITY: f64 = 1e-12;

/// How many tensors [`BoundRows`] has.
pub(crate) const ROWS: usize = 5;

impl BoundRows {
    /// The rows of time steps of a table; `large` says whether ln β of the first step is its own or, as for a fixed
    /// variance, that of the second β̃.
    ///
    /// # Errors   [`DiffusionError::Step`] for a time that is no step of the table
    pub fn new(
        schedule: &Schedule,
        table: &[Posterior],
        times: &[f64],
        variance: Option<VarianceKind>,
        device: &Device,
    ) -> Result<Self, DiffusionError> {
        let steps = times.iter().map(|&time| whole(schedule, time));
        let steps = steps.collect::<Result<Vec<usize>, _>>()?;
        let row = |value: &dyn Fn(usize) -> f64| per_row(steps.iter().map(|&t| value(t)), device);
        Ok(Self {
            x0_coef: row(&|t| table[t].x0_coef),
            x_coef: row(&|t| table[t].x_coef),
            log_small: row(&|t| table[t].log_variance_small),
            log_large: row(&|t| match variance {
                Some(VarianceKind::Large) => table[t].log_variance_large,
                _ => schedule.beta(t).ln(),
            }),
            first: row(&|t| if t == 0 { 1.0 } else { 0.0 }),
        })
    }

    /// ln of a fixed variance of p(x' | x).
    #[must_use]
    pub fn fixed(&self, variance: VarianceKind) -> Tensor<4> {
        match variance {
            VarianceKind::Large => self.log_large.clone(),
            VarianceKind::Small | VarianceKind::Learned => self.log_small.clone(),
        }
    }

    /// The term of each image, averaged over its pixels and channels.
    ///
    /// # Shapes   `x0`, `x`, `expected` (x̂0): `[batch, channels, height, width]`; `log_variance`: the same or
    /// `[batch, 1, 1, 1]`; returns `[batch]`
    /// # Units    `least_probability`: what that of a pixel is taken for where it is less
    /// # Units    bits per dimension; pixels in [-1, 1]
    #[must_use]
    pub fn terms(
        &self,
        x0: &Tensor<4>,
        x: &Tensor<4>,
        expected: &Tensor<4>,
        log_variance: Tensor<4>,
        least_probability: f64,
    ) -> Tensor<1> {
        let [batch, channels, height, width] = x0.dims();
        let log_variance = log_variance.expand([batch, channels, height, width]);
        let mean =
            |x0: &Tensor<4>| x0.clone() * self.x0_coef.clone() + x.clone() * self.x_coef.clone();
        let (truth, model) = (mean(x0), mean(expected));
        let divergence = normal_kl(truth, &self.log_small, model.clone(), &log_variance);
        let decoder = -discretised_log_likelihood(x0, model, log_variance * 0.5, least_probability);
        let first = self.first.clone();
        let bits = (divergence * (first.clone() * -1.0 + 1.0) + decoder * first) * (1.0 / LN_2);
        bits.reshape([batch, channels * height * width])
            .mean_dim(1)
            .reshape([batch])
    }
}

/// A time that is a step of the table.
fn whole(schedule: &Schedule, time: f64) -> Result<usize, DiffusionError> {
    let last = schedule.len() - 1;
    match time.fract() == 0.0 && (0.0..=last as f64).contains(&time) {
        true => Ok(time as usize),
        false => Err(DiffusionError::Step { t: time, last }),
    }
}

/// KL of two normal distributions by their means and log-variances, in nats an element.
fn normal_kl(
    mean1: Tensor<4>,
    log_variance1: &Tensor<4>,
    mean2: Tensor<4>,
    log_variance2: &Tensor<4>,
) -> Tensor<4> {
    let difference = log_variance2.clone() - log_variance1.clone();
    let ratio = (difference.clone() * -1.0).exp();
    let square = (mean1 - mean2).square() * (log_variance2.clone() * -1.0).exp();
    (difference - 1.0 + ratio + square) * 0.5
}

/// ln of the probability that a normal distribution gives the step of 1/127.5 that a pixel stands for, the outermost
/// ones reaching to infinity.
fn discretised_log_likelihood(
    x0: &Tensor<4>,
    mean: Tensor<4>,
    log_scale: Tensor<4>,
    least: f64,
) -> Tensor<4> {
    let inverse = (log_scale * -1.0).exp();
    let centred = x0.clone() - mean;
    let above = cdf((centred.clone() + 1.0 / 255.0) * inverse.clone());
    let below = cdf((centred - 1.0 / 255.0) * inverse);
    let inside = (above.clone() - below.clone()).clamp_min(least).log();
    let to_left = above.clamp_min(least).log();
    let to_right = (below * -1.0 + 1.0).clamp_min(least).log();
    inside
        .mask_where(x0.clone().lower_elem(-0.999), to_left)
        .mask_where(x0.clone().greater_elem(0.999), to_right)
}

/// The standard normal distribution by Page's approximation (1977), as all programs of the field have it: within 2e-4.
fn cdf(x: Tensor<4>) -> Tensor<4> {
    let inner = x.clone() + x.clone() * x.clone() * x * 0.044715;
    ((inner * (2.0 / std::f64::consts::PI).sqrt()).tanh() + 1.0) * 0.5
}
