//! Images at twice their height and width.

use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

/// Each pixel four times, by nearest neighbour.
///
/// # Shapes   `x`: `[batch, channels, height, width]`; returns `[batch, channels, 2·height, 2·width]`
pub fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if crate::Place::of(&x.device()) == crate::Place::Gpu {
        return crate::cube::upsample_nearest_2x(x);
    }
    reference(x)
}

/// burn's own operation: what other devices use, and what the kernel is tested against.
pub(crate) fn reference(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options =
        InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([2 * height, 2 * width]);
    interpolate(x, options)
}
