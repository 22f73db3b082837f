//! Dropout whose masks are pure functions of their addresses.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, uniform_fill};

/// Where the masks of one training step come from.
#[derive(Debug, Clone)]
pub struct DropoutKey {
    seed: u64,
    step: u64,
    /// The same on a GPU: the four halves of the key of (seed, dropout, step), 16 bits each, which an f32 holds
    /// exactly.
    gpu: Option<Tensor<1>>,
}

impl DropoutKey {
    /// The masks of optimiser step `step`, for tensors on `device`.
    pub fn new(seed: u64, step: u64, device: &Device) -> Self {
        #[cfg(feature = "cube")]
        let gpu = (crate::Place::of(device) == crate::Place::Gpu).then(|| {
            let [a, b] = ddpm_schedule::noise::key(seed, Stream::Dropout, step);
            let halves = [a & 0xffff, a >> 16, b & 0xffff, b >> 16].map(|half| half as f32);
            Tensor::from_floats(halves, &device.clone().inner())
        });
        #[cfg(not(feature = "cube"))]
        let (gpu, _) = (None, device);
        Self { seed, step, gpu }
    }

    /// What of it is on the GPU, if it is one.
    pub fn on_gpu(&self) -> Option<&Tensor<1>> {
        self.gpu.as_ref()
    }

    /// The same key with another tensor on the GPU: one that a recording reads, whatever is in it.
    pub fn with(self, gpu: Option<Tensor<1>>) -> Self {
        Self { gpu, ..self }
    }
}

/// Zeroes each element with probability p and scales the rest by 1/(1-p) (Srivastava et al. 2014).
///
/// Element k of image i, in the order of `[channels, height, width]`, is dropped if number k of the uniform numbers of
/// (seed, dropout, step, `first` + i) is below p: the same elements on every device.
///
/// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
/// # Units    `probability` in [0, 1)
pub fn dropout(x: Tensor<4>, probability: f64, key: &DropoutKey, first: u64) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if let Some(gpu) = &key.gpu {
        return crate::cube::dropout(x, gpu.clone(), probability, first);
    }
    reference(x, probability, key, first)
}

/// With a mask made on the host: what other devices use, and what the kernel is tested against.
pub(crate) fn reference(x: Tensor<4>, probability: f64, key: &DropoutKey, first: u64) -> Tensor<4> {
    let shape = x.dims();
    let [_, channels, height, width] = shape;
    let keep = (1.0 / (1.0 - probability)) as f32;
    let image = channels * height * width;
    let fill = |(row, out): (usize, &mut [f32])| {
        let mut unit = vec![0.0f64; out.len()];
        let index = first + row as u64;
        uniform_fill(key.seed, Stream::Dropout, key.step, index, &mut unit);
        for (value, u) in out.iter_mut().zip(unit) {
            *value = if u < probability { 0.0 } else { keep };
        }
    };
    let mut mask = vec![0.0f32; shape.iter().product()];
    #[cfg(feature = "flex")]
    {
        use rayon::prelude::*;
        mask.par_chunks_mut(image.max(1)).enumerate().for_each(fill);
    }
    #[cfg(not(feature = "flex"))]
    mask.chunks_mut(image.max(1)).enumerate().for_each(fill);
    let mask = Tensor::<4>::from_data(TensorData::new(mask, shape), &x.device());
    let dtype = x.dtype();
    x * mask.cast(dtype)
}
