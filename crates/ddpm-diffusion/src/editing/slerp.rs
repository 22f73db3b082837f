//! Between two noises: a straight line leaves the sphere that noise lies on, a great circle does not.

use burn::tensor::Tensor;

use crate::DiffusionError;
use crate::rows::{check_like, combine_rows};

/// Below this sine two noises are taken for parallel, where every circle through them is as good as a line.
const PARALLEL: f64 = 1e-6;

/// Spherical interpolation from `a` to `b`, each image one vector (Shoemake 1985):
/// sin((1-α)θ)/sin θ·a + sin(αθ)/sin θ·b, θ the angle between them.
///
/// # Shapes   `a`, `b`: `[batch, channels, height, width]`; returns the same
/// # Units    `alpha`: 0 gives `a`, 1 gives `b`, exactly
/// # Errors   [`DiffusionError::Shape`] if they differ, [`DiffusionError::Network`] if the device fails
pub fn slerp(a: &Tensor<4>, b: &Tensor<4>, alpha: f64) -> Result<Tensor<4>, DiffusionError> {
    let coefs = angles(a, b)?.into_iter().map(|theta| {
        let sin = theta.sin();
        match sin < PARALLEL {
            true => (1.0 - alpha, alpha),
            false => (
                ((1.0 - alpha) * theta).sin() / sin,
                (alpha * theta).sin() / sin,
            ),
        }
    });
    Ok(combine_rows(a.clone(), b.clone(), coefs))
}

/// The angle between two batches, image by image, in f64.
///
/// # Units    radians, from 0 to π; that of an image without any length is 0
/// # Errors   as [`slerp`]
pub fn angles(a: &Tensor<4>, b: &Tensor<4>) -> Result<Vec<f64>, DiffusionError> {
    check_like("the second batch of an interpolation", b, a.dims())?;
    let [batch, channels, height, width] = a.dims();
    let image = (channels * height * width).max(1);
    let read = |x: &Tensor<4>| -> Result<Vec<f64>, DiffusionError> {
        let data = x.clone().try_into_data();
        let data = data.map_err(|error| DiffusionError::Network {
            t: 0.0,
            source: error.to_string().into(),
        })?;
        Ok(data.iter::<f64>().collect())
    };
    let (a, b) = (read(a)?, read(b)?);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let pairs = a.chunks(image).zip(b.chunks(image)).take(batch);
    Ok(pairs
        .map(|(a, b)| match (dot(a, a) * dot(b, b)).sqrt() {
            0.0 => 0.0,
            lengths => (dot(a, b) / lengths).clamp(-1.0, 1.0).acos(),
        })
        .collect())
}
