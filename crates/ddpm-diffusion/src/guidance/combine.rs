//! How two outputs become one, `[batch, channels, height, width]` each.

use burn::tensor::Tensor;

use crate::rows::combine;

/// weak + s·(strong - weak) (Ho & Salimans 2022, eq. 6).
pub fn along(weak: &Tensor<4>, strong: &Tensor<4>, scale: f64) -> Tensor<4> {
    combine(1.0 - scale, weak, scale, strong)
}

/// strong + (s - 1)·u, u = strong - weak without its part along `strong`, image by image (Sadat et al. 2024, eq. 4,
/// with η = 0).
pub fn orthogonal(weak: &Tensor<4>, strong: &Tensor<4>, scale: f64) -> Tensor<4> {
    let update = strong.clone() - weak.clone();
    let share = dot(&update, strong) / dot(strong, strong).clamp_min(f32::MIN_POSITIVE);
    strong.clone() + (update - strong.clone() * share) * (scale - 1.0)
}

/// φ·out·std(strong)/std(out) + (1 - φ)·out, the deviations of each image (Lin et al. 2023, section 3.4).
pub fn rescaled(out: Tensor<4>, strong: &Tensor<4>, phi: f64) -> Tensor<4> {
    let ratio = deviation(strong) / deviation(&out).clamp_min(f32::MIN_POSITIVE);
    out * (ratio * phi + (1.0 - phi))
}

/// Σ a·b of each image: `[batch, 1, 1, 1]`.
fn dot(a: &Tensor<4>, b: &Tensor<4>) -> Tensor<4> {
    mean(a.clone() * b.clone())
}

fn deviation(x: &Tensor<4>) -> Tensor<4> {
    let centred = x.clone() - mean(x.clone());
    mean(centred.clone() * centred).sqrt()
}

/// The mean of each image, along one dimension at a time: in one order on every device.
fn mean(x: Tensor<4>) -> Tensor<4> {
    x.mean_dim(3).mean_dim(2).mean_dim(1)
}
