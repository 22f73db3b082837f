//! What one step is trained on: images from the data set, and the noise and times that go with them.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::Batch;
use ddpm_schedule::noise::{Stream, below};

use crate::ahead::{NoiseAhead, Wanted};
use crate::config::Config;
use crate::state::Part;

/// One of the devices that share a batch; they take its rows in their order, equally many each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rank {
    /// Counted from 0.
    pub(crate) index: usize,
    /// How many there are.
    pub(crate) of: usize,
}

/// A rank's images of a step with their noise and time steps, split as `train.accumulate` says.
///
/// Row r of step s gets noise and time from (seed, s, r), however the batch is split.
pub(crate) fn parts(
    config: &Config,
    batch: &Batch,
    step: u64,
    rank: Rank,
    ahead: &mut NoiseAhead,
    device: &Device,
) -> Vec<Part> {
    let [batch_rows, channels, height, width] = batch.shape;
    let steps_t = config.schedule.steps as u64;
    let accumulate = config.train.accumulate;
    let part_rows = batch_rows / (rank.of * accumulate);
    let part_len = part_rows * channels * height * width;
    let own_rows = (part_rows * accumulate) as u64;
    let noise = ahead.take(Wanted {
        seed: config.seed,
        step,
        rows: rank.index as u64 * own_rows..(rank.index as u64 + 1) * own_rows,
        image: channels * height * width,
    });
    let chunks = batch.pixels.chunks_exact(part_len).enumerate();
    chunks
        .skip(rank.index * accumulate)
        .take(accumulate)
        .zip(noise.chunks_exact(part_len))
        .map(|((i, pixels), noise)| {
            let shape = [part_rows, channels, height, width];
            let first = (i * part_rows) as u64;
            let rows = first..first + part_rows as u64;
            let time = |row| below(config.seed, Stream::TrainTime, step, row, steps_t) as usize;
            Part {
                x0: Tensor::from_data(TensorData::new(pixels.to_vec(), shape), device),
                t: rows.clone().map(time).collect(),
                eps: Tensor::from_data(TensorData::new(noise.to_vec(), shape), device),
                labels: None,
                first_row: first,
            }
        })
        .collect()
}
