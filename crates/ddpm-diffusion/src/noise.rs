//! Noise on a device: made on the host, so that every device gets the same bits.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, normal_fill};

use crate::NoiseAt;

/// Standard normal images, one for each index.
///
/// Row `i` depends on (seed, stream, step, `indices[i]`) and the image's size only, never on
/// the batch around it.
///
/// # Shapes   `image`: channels, height, width; returns `[indices, channels, height, width]`
#[must_use]
pub fn randn_images(
    seed: u64,
    stream: Stream,
    step: u64,
    indices: impl IntoIterator<Item = u64>,
    image: [usize; 3],
    device: &Device,
) -> Tensor<4> {
    let elements: usize = image.iter().product();
    let mut data = Vec::new();
    let mut rows = 0;
    for index in indices {
        data.resize((rows + 1) * elements, 0.0f32);
        normal_fill(seed, stream, step, index, &mut data[rows * elements..]);
        rows += 1;
    }
    let [channels, height, width] = image;
    Tensor::from_data(
        TensorData::new(data, [rows, channels, height, width]),
        device,
    )
}

/// The noise that steps ask for: of image `i` of a seed the same in any batch.
///
/// # Shapes   `image`: channels, height, width; the noise: `[indices, channels, height, width]`
pub fn noise_of(
    seed: u64,
    stream: Stream,
    indices: Vec<u64>,
    image: [usize; 3],
    device: &Device,
) -> impl FnMut(NoiseAt) -> Tensor<4> + use<> {
    let device = device.clone();
    move |at| {
        // The first draw of a step is what it always was.
        let step = at.step as u64 | ((at.draw as u64) << 32);
        randn_images(seed, stream, step, indices.iter().copied(), image, &device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::values;

    #[test]
    fn a_row_has_the_same_bits_in_any_batch() {
        let device = Device::flex();
        let draw = |indices: Vec<u64>| {
            values(randn_images(
                7,
                Stream::SampleInit,
                0,
                indices,
                [3, 5, 4],
                &device,
            ))
        };
        let batch = draw((0..64).collect());
        for index in [0u64, 1, 33, 63] {
            let alone = draw(vec![index]);
            let from = index as usize * 60;
            assert_eq!(alone, batch[from..from + 60]);
        }
        assert_eq!(draw(vec![9, 3])[60..], batch[180..240]);
    }
}
