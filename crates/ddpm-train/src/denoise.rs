//! A network as the samplers see it.

use burn::tensor::{FloatDType, Int, Tensor};
use ddpm_diffusion::{Denoiser, DenoiserError};
use ddpm_unet::{ClassLabels, Model, Precision};

/// Lends a network to a sampler, which does not know what it drives.
#[derive(Debug, Clone, Copy)]
pub struct ModelDenoiser<'a> {
    /// The network.
    pub model: &'a Model,
    /// What it computes in; what it is given and what it returns are f32.
    pub precision: Precision,
}

impl Denoiser for ModelDenoiser<'_> {
    fn predict(
        &self,
        xt: Tensor<4>,
        t: Tensor<1>,
        class_labels: Option<Tensor<1, Int>>,
    ) -> Result<Tensor<4>, DenoiserError> {
        let xt = xt.cast(self.precision.dtype());
        let labels = class_labels.map(ClassLabels::Index);
        Ok(self
            .model
            .forward(xt, t, labels, None)?
            .cast(FloatDType::F32))
    }
}
