//! What samplers ask: which image lies behind a noisy one.

use std::ops::Range;

use burn::tensor::Tensor;
use ddpm_schedule::{Level, Prediction, Stop};

use crate::plan::VarianceOutput;
use crate::rows::combine;
use crate::{Condition, DiffusionError};

/// Anything that estimates the image behind a noisy one; a sampler never knows what.
///
/// Clipping, thresholding and guidance are denoisers around a denoiser.
pub trait Denoiser {
    /// x̂0 of noisy images at one level, signal·x0 + noise·ε.
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`, as all of the result
    /// # Errors   [`DiffusionError::Network`] if a network fails, [`DiffusionError::Shape`] for an output that does not fit
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError>;

    /// A step of the sampler begins at `from`: step `step` of `of`, from 0. What goes by steps takes note; a denoiser
    /// around another passes it on.
    fn begin_step(&self, _step: usize, _of: usize, _from: Level) {}
}

impl Denoiser for Box<dyn Denoiser + '_> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        (**self).denoise(x, at, condition)
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        (**self).begin_step(step, of, from);
    }
}

/// Closures are denoisers without a variance: of a known distribution, say.
impl<F: Fn(&Tensor<4>, Stop) -> Tensor<4>> Denoiser for F {
    fn denoise(&self, x: &Tensor<4>, at: Stop, _: &Condition) -> Result<Estimate, DiffusionError> {
        Ok(Estimate {
            x0: self(x, at),
            variance: None,
            output: None,
        })
    }
}

/// What is thought to lie behind noisy images.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// x̂0: `[batch, channels, height, width]`.
    pub x0: Tensor<4>,
    /// The variance of the reverse step, if that is learned.
    pub variance: Option<LearnedVariance>,
    /// What the network said, if one did.
    pub output: Option<Output>,
}

/// What a network says of the variance of the reverse step: `[batch, channels, height, width]`.
#[derive(Debug, Clone)]
pub enum LearnedVariance {
    /// Where between ln β̃ (0) and ln β (1) its logarithm lies.
    Share(Tensor<4>),
    /// Its logarithm.
    Log(Tensor<4>),
}

impl LearnedVariance {
    /// The first half of an output's channels, and what the second half says.
    ///
    /// # Shapes   `output`: `[batch, 2·channels, height, width]`, or `[batch, channels, height, width]` if there is none
    pub(crate) fn split(
        output: Tensor<4>,
        channels: usize,
        learned: VarianceOutput,
    ) -> (Tensor<4>, Option<Self>) {
        // [batch, 2·channels, height, width] -> twice [batch, channels, height, width]
        let second = |output: &Tensor<4>| output.clone().narrow(1, channels, channels);
        let variance = match learned {
            VarianceOutput::None => return (output, None),
            VarianceOutput::Range => Self::Share((second(&output) + 1.0) * 0.5),
            VarianceOutput::Log => Self::Log(second(&output)),
        };
        (output.narrow(1, 0, channels), Some(variance))
    }

    /// ln of the variance, between ln β̃ and ln β: `[batch, 1, 1, 1]` each.
    pub(crate) fn log(&self, small: &Tensor<4>, large: &Tensor<4>) -> Tensor<4> {
        match self {
            Self::Share(share) => share.clone() * (large.clone() - small.clone()) + small.clone(),
            Self::Log(log) => log.clone(),
        }
    }

    /// The same where all images are at one level.
    pub(crate) fn log_at(&self, small: f64, large: f64) -> Tensor<4> {
        match self {
            Self::Share(share) => share.clone() * (large - small) + small,
            Self::Log(log) => log.clone(),
        }
    }
}

/// A network's output and its meaning.
#[derive(Debug, Clone)]
pub struct Output {
    /// `[batch, channels, height, width]`.
    pub value: Tensor<4>,
    /// What it is.
    pub prediction: Prediction,
    /// For [`Prediction::Edm`].
    pub sigma_data: f64,
}

impl Output {
    /// Whether another output is of the same kind.
    pub(crate) fn means_as(&self, other: &Self) -> bool {
        (self.prediction, self.sigma_data) == (other.prediction, other.sigma_data)
    }

    /// The x̂0 that this output would have meant for `x` at `level`.
    #[must_use]
    pub fn x0(&self, x: &Tensor<4>, level: Level) -> Tensor<4> {
        let coefs = self.prediction.coefs(level, self.sigma_data);
        combine(coefs.c_skip, x, coefs.c_out, &self.value)
    }

    /// ε̂ of `x` at `level`, whatever became of x̂0 since.
    #[must_use]
    pub fn eps(&self, x: &Tensor<4>, level: Level) -> Tensor<4> {
        let (of_x, of_output) = self.prediction.eps_coefs(level, self.sigma_data);
        combine(of_x, x, of_output, &self.value)
    }
}

impl Estimate {
    /// The estimates of some images of the batch.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let of = |x: &Tensor<4>| x.clone().slice([rows.clone()]);
        Self {
            x0: of(&self.x0),
            variance: self.variance.as_ref().map(|variance| match variance {
                LearnedVariance::Share(share) => LearnedVariance::Share(of(share)),
                LearnedVariance::Log(log) => LearnedVariance::Log(of(log)),
            }),
            output: self.output.as_ref().map(|output| Output {
                value: of(&output.value),
                ..*output
            }),
        }
    }

    /// The ε̂ that leads from this x̂0 to `x`.
    ///
    /// A clipped x̂0 belongs to another ε̂ than the network's; that one would lead beside the data.
    #[must_use]
    pub fn eps(&self, x: &Tensor<4>, level: Level) -> Tensor<4> {
        eps_of(x, &self.x0, level)
    }

    /// The ε̂ of the network, whether or not x̂0 was clipped.
    #[must_use]
    pub fn network_eps(&self, x: &Tensor<4>, level: Level) -> Tensor<4> {
        match &self.output {
            Some(output) => output.eps(x, level),
            None => self.eps(x, level),
        }
    }
}

/// (x - signal·x0)/noise.
fn eps_of(x: &Tensor<4>, x0: &Tensor<4>, level: Level) -> Tensor<4> {
    combine(1.0 / level.noise, x, -level.signal / level.noise, x0)
}
