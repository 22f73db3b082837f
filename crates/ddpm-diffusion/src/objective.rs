//! What a network is trained to output, and how its error counts.

mod config;
mod error;
mod learned;
mod target;
mod uncertainty;

use burn::tensor::Tensor;
use ddpm_schedule::{Level, Posterior, Prediction, Process, Schedule};

use crate::bound::BoundRows;
use crate::denoiser::LearnedVariance;
use crate::plan::{Meaning, VarianceOutput};
use crate::rows::{check_count, check_like, combine_rows, per_row};
use crate::{DiffusionError, q_sample};

pub use config::{
    Bound, BoundRules, ImportanceConfig, ObjectiveConfig, UncertaintyConfig, Variance,
};
pub use error::ErrorKind;
pub use learned::Learned;
pub use target::{BoundTarget, LossOut, Target};

/// A validated objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    config: ObjectiveConfig,
    prediction: Prediction,
    sigma_data: f64,
    /// What probabilities of the bound are at least.
    least_probability: f64,
    /// Whether the bound is all of the loss.
    alone: bool,
    /// The table of the bound, its posteriors, and what a bit per dimension counts.
    bound: Option<(Schedule, Vec<Posterior>, f64)>,
}

impl Objective {
    /// What the network's output means.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        Meaning {
            prediction: self.prediction,
            variance: self.config.variance.output(),
            self_condition: self.config.self_condition > 0.0,
        }
    }

    /// The configuration, with what was unset as it is used.
    #[must_use]
    pub fn config(&self) -> &ObjectiveConfig {
        &self.config
    }

    /// Whether the variational bound is in the loss.
    #[must_use]
    pub fn has_bound(&self) -> bool {
        self.bound.is_some()
    }

    /// What the network is shown: c_in·(signal·x0 + noise·ε).
    ///
    /// # Shapes   `x0`, `eps`: `[batch, channels, height, width]`; `levels`: one an image; returns the same as `x0`
    /// # Errors   [`DiffusionError::Shape`] or [`DiffusionError::Batch`] if these do not fit together
    pub fn input(
        &self,
        x0: Tensor<4>,
        eps: Tensor<4>,
        levels: &[Level],
    ) -> Result<Tensor<4>, DiffusionError> {
        let scaled = levels.iter().map(|&level| {
            let c_in = self.prediction.coefs(level, self.sigma_data).c_in;
            Level {
                signal: c_in * level.signal,
                noise: c_in * level.noise,
            }
        });
        q_sample(x0, eps, &scaled.collect::<Vec<_>>())
    }

    /// c_skip and c_out of each image, with which x̂0 = c_skip·x + c_out·output.
    #[must_use]
    pub fn x0_rows(&self, levels: &[Level]) -> [Vec<f32>; 2] {
        let coefs = levels
            .iter()
            .map(|&level| self.prediction.coefs(level, self.sigma_data));
        let (skip, out) = coefs
            .map(|coefs| (coefs.c_skip as f32, coefs.c_out as f32))
            .unzip();
        [skip, out]
    }

    /// What the network should output: ε, x0, v or another [`Prediction`].
    ///
    /// # Shapes   `x0`, `eps`: `[batch, channels, height, width]`; `levels`: one an image; returns the same as `x0`
    /// # Errors   [`DiffusionError::Shape`] or [`DiffusionError::Batch`] if these do not fit together
    pub fn target(
        &self,
        x0: Tensor<4>,
        eps: Tensor<4>,
        levels: &[Level],
    ) -> Result<Tensor<4>, DiffusionError> {
        check_like("eps", &eps, x0.dims())?;
        check_count("levels", levels.len(), x0.dims()[0])?;
        // The noise that was drawn, never one recomputed by division.
        Ok(match self.prediction {
            Prediction::Eps => eps,
            Prediction::X0 => x0,
            prediction => {
                let coefs = levels
                    .iter()
                    .map(|&level| prediction.target(level, self.sigma_data));
                combine_rows(x0, eps, coefs)
            }
        })
    }

    /// What [`Objective::loss`] compares an output with.
    ///
    /// # Shapes   `x0`, `eps`: `[batch, channels, height, width]`; `times`: one an image
    /// # Errors   those of [`Objective::target`]; [`DiffusionError::Step`] if the bound is of a time that is no step
    pub fn towards(
        &self,
        process: &Process,
        x0: Tensor<4>,
        eps: Tensor<4>,
        times: &[f64],
    ) -> Result<Target, DiffusionError> {
        let device = x0.device();
        let levels: Vec<Level> = times.iter().map(|&time| process.level(time)).collect();
        let bound = match &self.bound {
            None => None,
            Some((schedule, table, _)) => {
                let coefs = |level: &Level| self.prediction.coefs(*level, self.sigma_data);
                let variance = match self.config.variance.output() {
                    VarianceOutput::None => Some(self.config.variance.kind()),
                    _ => None,
                };
                Some(BoundTarget {
                    x0: x0.clone(),
                    x: q_sample(x0.clone(), eps.clone(), &levels)?,
                    c_skip: per_row(levels.iter().map(|level| coefs(level).c_skip), &device),
                    c_out: per_row(levels.iter().map(|level| coefs(level).c_out), &device),
                    rows: BoundRows::new(schedule, table, times, variance, &device)?,
                })
            }
        };
        let value = self.target(x0, eps, &levels)?;
        let weight = |&level| {
            let weighting = self.config.weighting;
            weighting.weight(level, self.prediction, self.sigma_data) as f32
        };
        let weights: Vec<f32> = levels.iter().map(weight).collect();
        Ok(Target {
            value,
            weights: Tensor::from_floats(weights.as_slice(), &device),
            counts: None,
            uncertainty: None,
            bound,
        })
    }

    /// The loss of an output: w·error(output - target), averaged (Ho et al. 2020, eq. 14), with the logarithm of a
    /// learned uncertainty w/e^u·error + u (Karras et al. 2024, eq. 21), and the variational bound where it is in it
    /// (Nichol & Dhariwal 2021, eq. 16).
    ///
    /// # Shapes   `output`: as the target, or twice its channels where a variance is learned
    /// # Errors   [`DiffusionError::Shape`] if it is of another shape
    pub fn loss(&self, output: Tensor<4>, target: Target) -> Result<LossOut, DiffusionError> {
        let [batch, channels, height, width] = target.value.dims();
        let learned = self.config.variance.output();
        let all = channels
            * if learned == VarianceOutput::None {
                1
            } else {
                2
            };
        check_like("the network's output", &output, [batch, all, height, width])?;
        let (output, variance) = LearnedVariance::split(output, channels, learned);
        let bits = match (&target.bound, &self.bound) {
            (Some(bound), Some((.., weight))) => {
                // Beside the error it moves the variance alone (Nichol & Dhariwal 2021, section 3.1).
                let output = match self.alone {
                    true => output.clone(),
                    false => output.clone().detach(),
                };
                let x0 = bound.x.clone() * bound.c_skip.clone() + output * bound.c_out.clone();
                let log_variance = match &variance {
                    Some(variance) => variance.log(&bound.rows.log_small, &bound.rows.log_large),
                    None => bound.rows.fixed(self.config.variance.kind()),
                };
                Some(
                    bound.rows.terms(
                        &bound.x0,
                        &bound.x,
                        &x0,
                        log_variance,
                        self.least_probability,
                    ) * *weight,
                )
            }
            _ => None,
        };
        let per_image = match (bits, self.alone) {
            (Some(bits), true) => bits,
            (bits, _) => {
                let error = mean_of_images(self.config.error.of(output - target.value));
                let error = error * target.weights;
                let error = match target.uncertainty {
                    Some(log) => error * (log.clone() * -1.0).exp() + log,
                    None => error,
                };
                match bits {
                    Some(bits) => error + bits,
                    None => error,
                }
            }
        };
        let counted = match target.counts {
            Some(counts) => per_image.clone() * counts,
            None => per_image.clone(),
        };
        Ok(LossOut {
            // Along a dimension there is one order of adding: `mean` adds by atomics on some GPUs.
            loss: counted.mean_dim(0),
            per_image: per_image.detach(),
        })
    }
}

/// The mean of each image.
///
/// # Shapes   `[batch, channels, height, width]` -> `[batch]`
fn mean_of_images(x: Tensor<4>) -> Tensor<1> {
    let [batch, channels, height, width] = x.dims();
    let elements = channels * height * width;
    let parts = parts(elements);
    // [batch, channels, height, width] -> [batch · parts, elements / parts] -> [batch, parts] -> [batch]
    x.reshape([batch * parts, elements / parts])
        .mean_dim(1)
        .reshape([batch, parts])
        .mean_dim(1)
        .reshape([batch])
}

/// Into how many equal parts the elements of an image are divided for their mean, of 64 elements at least: a GPU would
/// leave the mean of a whole image to a few of its threads.
fn parts(elements: usize) -> usize {
    let mut parts = 1;
    while elements.is_multiple_of(2 * parts) && elements / (2 * parts) >= 64 {
        parts *= 2;
    }
    parts
}

#[cfg(test)]
mod tests;
