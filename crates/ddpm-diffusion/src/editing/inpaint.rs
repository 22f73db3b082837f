//! Painting into an image: part of it is known, and the rest is sampled to fit.

use burn::tensor::Tensor;
use ddpm_schedule::{Level, Stop};

use crate::denoiser::{Denoiser, Estimate, Output};
use crate::rows::{check_like, combine};
use crate::{Condition, DiffusionError};

/// The part of images that is known.
#[derive(Debug, Clone)]
pub struct Kept {
    image: Tensor<4>,
    mask: Tensor<4>,
}

impl Kept {
    /// `mask`: 1 where `image` is known, 0 where it is painted.
    ///
    /// # Shapes   `image`: `[batch, channels, height, width]`, in [-1, 1]; `mask`: `[batch or 1, 1, height, width]`
    /// # Errors   [`DiffusionError::Shape`] for a mask of another size
    pub fn new(image: Tensor<4>, mask: Tensor<4>) -> Result<Self, DiffusionError> {
        let [batch, _, height, width] = image.dims();
        let rows = match mask.dims()[0] {
            1 => 1,
            _ => batch,
        };
        check_like("the mask", &mask, [rows, 1, height, width])?;
        Ok(Self { image, mask })
    }

    /// The known part at a level, signal·x0 + noise·z.
    ///
    /// # Shapes   `z`, the result: `[batch, channels, height, width]`
    #[must_use]
    pub fn at(&self, level: Level, z: &Tensor<4>) -> Tensor<4> {
        combine(level.signal, &self.image, level.noise, z)
    }

    /// mask·known + (1 - mask)·painted.
    ///
    /// # Shapes   all: `[batch, channels, height, width]`
    #[must_use]
    pub fn join(&self, known: &Tensor<4>, painted: &Tensor<4>) -> Tensor<4> {
        let rest = self.mask.ones_like() - self.mask.clone();
        known.clone() * self.mask.clone() + painted.clone() * rest
    }

    /// The images themselves where they are known, `painted` elsewhere: exactly, where the mask is 0 or 1.
    #[must_use]
    pub fn finish(&self, painted: &Tensor<4>) -> Tensor<4> {
        self.join(&self.image, painted)
    }
}

/// Shows a denoiser the known part at every level, and takes nothing else for it (Song et al. 2021, appendix I.2).
///
/// The known part is noised with the same `z` at all levels: what the denoiser sees is then a smooth function of the
/// level, as samplers of any order must have it, and the right distribution at each of them.
#[derive(Debug, Clone)]
pub struct Replace<D> {
    /// What estimates x̂0.
    pub inner: D,
    /// What is known.
    pub kept: Kept,
    /// `[batch, channels, height, width]`, unit normal.
    pub z: Tensor<4>,
}

impl<D: Denoiser> Denoiser for Replace<D> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let Self { inner, kept, z } = self;
        check_like("the noise of the known part", z, x.dims())?;
        let shown = kept.join(&kept.at(at.level, z), x);
        let estimate = inner.denoise(&shown, at, condition)?;
        // What the network would have to say for the known part to be what is behind x.
        let output = estimate.output.map(|output| {
            let coefs = output.prediction.coefs(at.level, output.sigma_data);
            let fits = match coefs.c_out == 0.0 {
                true => output.value.clone(),
                false => combine(
                    1.0 / coefs.c_out,
                    &kept.image,
                    -coefs.c_skip / coefs.c_out,
                    x,
                ),
            };
            Output {
                value: kept.join(&fits, &output.value),
                ..output
            }
        });
        Ok(Estimate {
            x0: kept.finish(&estimate.x0),
            output,
            ..estimate
        })
    }
    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}
