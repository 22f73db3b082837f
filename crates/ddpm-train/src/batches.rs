//! What one step is trained on: images from the data set, and the noise and times that go with them.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::Batch;
use ddpm_diffusion::randn_images;
use ddpm_schedule::noise::{Stream, below};

use crate::config::Config;
use crate::state::Part;

/// The images of a step with their noise and time steps, split as `train.accumulate` says.
///
/// Row r of step s gets noise and time from (seed, s, r), however the batch is split.
pub(crate) fn parts(config: &Config, batch: &Batch, step: u64, device: &Device) -> Vec<Part> {
    let [batch_rows, channels, height, width] = batch.shape;
    let steps_t = config.schedule.steps as u64;
    let part_rows = batch_rows / config.train.accumulate;
    let part_len = part_rows * channels * height * width;
    let chunks = batch.pixels.chunks_exact(part_len).enumerate();
    chunks
        .map(|(i, pixels)| {
            let shape = [part_rows, channels, height, width];
            let first = (i * part_rows) as u64;
            let rows = first..first + part_rows as u64;
            let time = |row| below(config.seed, Stream::TrainTime, step, row, steps_t) as usize;
            Part {
                x0: Tensor::from_data(TensorData::new(pixels.to_vec(), shape), device),
                t: rows.clone().map(time).collect(),
                eps: randn_images(
                    config.seed,
                    Stream::TrainNoise,
                    step,
                    rows,
                    [channels, height, width],
                    device,
                ),
                labels: None,
            }
        })
        .collect()
}
