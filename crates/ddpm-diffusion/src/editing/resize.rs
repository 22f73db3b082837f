//! Pictures at another size, as super-resolution networks are shown them.

use burn::tensor::{Device, Tensor, TensorData};

/// Bilinear resizing: pixels are areas, so that the corners of both sizes coincide, and a smaller size skips pixels
/// instead of averaging them (PyTorch's `interpolate` with `align_corners` false; Nichol & Dhariwal 2021's code).
///
/// # Shapes   `images`: `[batch, channels, height, width]`; returns `[batch, channels, size[0], size[1]]`
#[must_use]
pub fn resize_bilinear(images: &Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let device = images.device();
    let rows = weights(height, size[0], &device);
    let columns = weights(width, size[1], &device).swap_dims(2, 3);
    // [1, 1, H, h] · [batch, channels, h, w] · [1, 1, w, W]
    rows.matmul(images.clone()).matmul(columns)
}

/// `[1, 1, to, from]`: how much of each pixel of a line is in each of another.
fn weights(from: usize, to: usize, device: &Device) -> Tensor<4> {
    let mut weights = vec![0.0f32; to * from];
    for (place, row) in weights.chunks_exact_mut(from.max(1)).enumerate() {
        let at = ((place as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let below = (at as usize).min(from - 1);
        let share = at - below as f64;
        row[below] += (1.0 - share) as f32;
        row[(below + 1).min(from - 1)] += share as f32;
    }
    Tensor::from_data(TensorData::new(weights, [1, 1, to, from]), device)
}
