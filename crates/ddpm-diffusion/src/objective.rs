//! What a network is trained to output, and how its error counts.

use burn::tensor::Tensor;
use ddpm_schedule::{Prediction, Schedule, Weighting, prediction::target_coefs};
use serde::{Deserialize, Serialize};

use crate::{
    DiffusionError,
    rows::{check_like, check_steps, combine_rows},
};

/// The `[objective]` section of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// What the network outputs.
    pub prediction: Prediction,
    /// How the squared error is weighted by noise level.
    pub weighting: Weighting,
}

impl ObjectiveConfig {
    /// The objective that this section describes.
    ///
    /// # Errors   [`DiffusionError::Schedule`] if a parameter of the weighting has no meaning
    pub fn build(&self) -> Result<Objective, DiffusionError> {
        self.weighting.check()?;
        Ok(Objective {
            prediction: self.prediction,
            weighting: self.weighting,
        })
    }
}

/// A validated objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    prediction: Prediction,
    weighting: Weighting,
}

/// What a batch is trained towards, on its device.
#[derive(Debug, Clone)]
pub struct Goal {
    /// What the network should output: `[batch, channels, height, width]`.
    pub target: Tensor<4>,
    /// How much the error of each image counts: `[batch]`.
    pub weights: Tensor<1>,
}

/// The loss of a batch.
#[derive(Debug, Clone)]
pub struct LossOut {
    /// The mean over batch and elements of weight · squared error: `[1]`.
    pub loss: Tensor<1>,
    /// The same for each image, weight included, so that its mean is `loss`: `[batch]`, without gradient.
    pub per_image: Tensor<1>,
}

impl Objective {
    /// What the network outputs.
    #[must_use]
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// What the network should have output: ε, x0, or v = √ᾱ·ε - √(1-ᾱ)·x0.
    ///
    /// # Shapes   `x0`, `eps`: `[batch, channels, height, width]`; `t`: one step an image; returns the same as `x0`
    /// # Errors   [`DiffusionError::Shape`], [`DiffusionError::Batch`] or [`DiffusionError::Step`] if these do not fit together
    pub fn target(
        &self,
        x0: Tensor<4>,
        eps: Tensor<4>,
        t: &[usize],
        schedule: &Schedule,
    ) -> Result<Tensor<4>, DiffusionError> {
        check_like("eps", &eps, x0.dims())?;
        check_steps(t, x0.dims()[0], schedule)?;
        // The noise that was drawn, never one recomputed by division.
        Ok(match self.prediction {
            Prediction::Eps => eps,
            Prediction::X0 => x0,
            Prediction::V => combine_rows(x0, eps, t, schedule, |alpha_bar| {
                target_coefs(Prediction::V, alpha_bar)
            }),
        })
    }

    /// The loss w(t)·(output - target)², averaged (Ho et al. 2020, eq. 14; weights: [`Weighting`]).
    ///
    /// # Shapes   `output`, `x0`, `eps`: `[batch, channels, height, width]`; `t`: one step an image
    /// # Errors   [`DiffusionError::Shape`], [`DiffusionError::Batch`] or [`DiffusionError::Step`] if these do not fit together
    pub fn loss(
        &self,
        output: Tensor<4>,
        x0: Tensor<4>,
        eps: Tensor<4>,
        t: &[usize],
        schedule: &Schedule,
    ) -> Result<LossOut, DiffusionError> {
        self.goal(x0, eps, t, schedule)?.loss(output)
    }

    /// What [`Objective::loss`] compares an output with.
    ///
    /// # Shapes   `x0`, `eps`: `[batch, channels, height, width]`; `t`: one step an image
    /// # Errors   those of [`Objective::target`]
    pub fn goal(
        &self,
        x0: Tensor<4>,
        eps: Tensor<4>,
        t: &[usize],
        schedule: &Schedule,
    ) -> Result<Goal, DiffusionError> {
        let device = x0.device();
        let target = self.target(x0, eps, t, schedule)?;
        let weights: Vec<f32> = t
            .iter()
            .map(|&t| self.weighting.weight(schedule.snr(t), self.prediction) as f32)
            .collect();
        Ok(Goal {
            target,
            weights: Tensor::from_floats(weights.as_slice(), &device),
        })
    }
}

impl Goal {
    /// The loss of an output; see [`Objective::loss`].
    ///
    /// # Shapes   `output`: as the target
    /// # Errors   [`DiffusionError::Shape`] if it is of another shape
    pub fn loss(self, output: Tensor<4>) -> Result<LossOut, DiffusionError> {
        check_like("the network's output", &output, self.target.dims())?;
        let [batch, channels, height, width] = output.dims();
        let elements = channels * height * width;
        let parts = parts(elements);
        // [batch, channels, height, width] -> [batch · parts, elements / parts] -> [batch, parts] -> [batch]
        let error = (output - self.target)
            .square()
            .reshape([batch * parts, elements / parts])
            .mean_dim(1)
            .reshape([batch, parts])
            .mean_dim(1)
            .reshape([batch]);
        let per_image = error * self.weights;
        Ok(LossOut {
            // Along a dimension there is one order of adding: `mean` adds by atomics on some cards.
            loss: per_image.clone().mean_dim(0),
            per_image: per_image.detach(),
        })
    }
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
