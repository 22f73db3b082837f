//! x̂0 held to the range of pixels.

use burn::tensor::Tensor;
use ddpm_schedule::{Level, Stop};

use crate::denoiser::{Denoiser, Estimate};
use crate::{Condition, DiffusionError};

/// An estimate whose x̂0 is clamped to ± `range`.
pub(crate) fn clip(estimate: Estimate, range: f64) -> Estimate {
    Estimate {
        x0: estimate.x0.clamp(-range, range),
        ..estimate
    }
}

/// Clamps x̂0 to ± `range` (Ho et al. 2020's code).
#[derive(Debug, Clone, Copy)]
pub struct Clip<D> {
    /// What estimates x̂0.
    pub inner: D,
    /// In pixels of [-1, 1].
    pub range: f64,
}

impl<D: Denoiser> Denoiser for Clip<D> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        Ok(clip(self.inner.denoise(x, at, condition)?, self.range))
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}
