//! x̂0 held to the range of pixels.

use burn::tensor::Tensor;
use ddpm_schedule::Stop;

use crate::denoiser::{Denoiser, Estimate};
use crate::{Condition, DiffusionError};

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
        let estimate = self.inner.denoise(x, at, condition)?;
        Ok(Estimate {
            x0: estimate.x0.clamp(-self.range, self.range),
            ..estimate
        })
    }
}
