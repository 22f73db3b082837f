//! x̂0 held to a range that each image chooses for itself.

use burn::tensor::{Tensor, TensorData};
use ddpm_schedule::{Level, Stop};

use crate::denoiser::{Denoiser, Estimate};
use crate::{Condition, DiffusionError};

/// Dynamic thresholding (Saharia et al. 2022, section 2.3): s is a quantile of |x̂0| over each image, at least 1 and
/// at most `most`; x̂0 is clamped to ± s and divided by s.
#[derive(Debug, Clone, Copy)]
pub struct Threshold<D> {
    /// What estimates x̂0.
    pub inner: D,
    /// The quantile, from 0 to 1.
    pub ratio: f64,
    /// The largest s.
    pub most: f64,
}

impl<D: Denoiser> Denoiser for Threshold<D> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let estimate = self.inner.denoise(x, at, condition)?;
        threshold(estimate, at, self.ratio, self.most)
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}

/// An estimate whose x̂0 is thresholded.
///
/// # Errors   [`DiffusionError::Network`] if the device fails
pub(crate) fn threshold(
    estimate: Estimate,
    at: Stop,
    ratio: f64,
    most: f64,
) -> Result<Estimate, DiffusionError> {
    let x0 = estimate.x0;
    let [batch, channels, height, width] = x0.dims();
    let failed = |error: String| DiffusionError::Network {
        t: at.time,
        source: error.into(),
    };
    // Quantiles are made on the host: a device would sort every image.
    let data = x0.clone().try_into_data();
    let data = data.map_err(|error| failed(error.to_string()))?;
    let mut pixels: Vec<f32> = data.iter::<f32>().map(f32::abs).collect();
    let scales: Vec<f32> = pixels
        .chunks_mut(channels * height * width)
        .map(|image| quantile(image, ratio).clamp(1.0, most) as f32)
        .collect();
    // [batch] -> [batch, 1, 1, 1]
    let scales = TensorData::new(scales, [batch, 1, 1, 1]);
    let scales = Tensor::<4>::from_data(scales, &x0.device());
    Ok(Estimate {
        x0: (x0 / scales).clamp(-1.0, 1.0),
        ..estimate
    })
}

/// The quantile of an image's values, linear between neighbours as PyTorch's.
fn quantile(values: &mut [f32], ratio: f64) -> f64 {
    let at = ratio * (values.len() - 1) as f64;
    let below = at.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let low = f64::from(low);
    match above.iter().copied().min_by(f32::total_cmp) {
        Some(high) => low + at.fract() * (f64::from(high) - low),
        None => low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [3.0, 0.0, 1.0, 2.0, 10.0];
        for (ratio, expected) in [
            (0.0, 0.0),
            (0.5, 2.0),
            (0.875, 6.5),
            (1.0, 10.0),
            (0.3, 1.2),
        ] {
            let found = quantile(&mut values.clone(), ratio);
            assert!((found - expected).abs() < 1e-6, "{ratio}: {found}");
        }
    }

    #[test]
    fn each_image_has_its_own_scale() {
        let device = burn::tensor::Device::flex();
        let pixels: [[[[f32; 2]; 1]; 1]; 3] = [[[[0.5, -0.2]]], [[[4.0, -1.0]]], [[[1.5, 1.0]]]];
        let x = Tensor::<4>::from_data(pixels, &device);
        let same = |x: &Tensor<4>, _: Stop| x.clone();
        let thresholded = Threshold {
            inner: same,
            ratio: 1.0,
            most: 2.0,
        };
        let at = Stop {
            time: 0.0,
            level: ddpm_schedule::Level::of_alpha_bar(0.5),
        };
        let found = thresholded.denoise(&x, at, &Condition::default()).unwrap();
        let found: Vec<f32> = found.x0.into_data().try_to_vec().unwrap();
        let expected = [0.5, -0.2, 1.0, -0.5, 1.0, 1.0 / 1.5];
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?}");
        }
    }
}
