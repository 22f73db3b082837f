//! What several test modules need.

use burn::tensor::{Device, Tensor, TensorData};

/// The numbers of a tensor, in order.
pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// A tensor of uneven numbers in (-1, 1); another for another `phase`.
pub(crate) fn ramp(shape: [usize; 4], phase: f32) -> Tensor<4> {
    let n = shape.iter().product::<usize>();
    let data: Vec<f32> = (0..n)
        .map(|i| (i as f32 * 0.7 + phase * 3.0).sin())
        .collect();
    Tensor::from_data(TensorData::new(data, shape), &Device::flex())
}
