//! A network as the samplers see it.

use burn::tensor::{Int, Tensor};
use ddpm_diffusion::{Denoiser, DenoiserError};
use ddpm_unet::{ClassLabels, Model};

/// Lends a network to a sampler, which does not know what it drives.
#[derive(Debug, Clone, Copy)]
pub struct ModelDenoiser<'a>(pub &'a Model);

impl Denoiser for ModelDenoiser<'_> {
    fn predict(
        &self,
        xt: Tensor<4>,
        t: Tensor<1>,
        class_labels: Option<Tensor<1, Int>>,
    ) -> Result<Tensor<4>, DenoiserError> {
        Ok(self
            .0
            .forward(xt, t, class_labels.map(ClassLabels::Index), None)?)
    }
}
