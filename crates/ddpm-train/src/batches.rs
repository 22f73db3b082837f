//! What one step is trained on: images from the data set, and the noise and times that go with them.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::Batch;
use ddpm_diffusion::Learned;
use ddpm_schedule::Process;
use ddpm_schedule::noise::{Stream, bits, normal_fill};

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

/// What times and noise are drawn by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Laws<'a> {
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    /// What the objective has learned of noise levels.
    pub(crate) learned: &'a Learned,
}

/// A rank's images of a step with their noise and time steps, split as `train.accumulate` says.
///
/// Row r of step s gets noise and time from (seed, s, r), however the batch is split.
pub(crate) fn parts(
    Laws {
        config,
        process,
        learned,
    }: Laws<'_>,
    batch: &Batch,
    step: u64,
    rank: Rank,
    ahead: &mut NoiseAhead,
    device: &Device,
) -> Vec<Part> {
    let [batch_rows, channels, height, width] = batch.shape;
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
            let bits = |row| {
                let [low, high, ..] = bits(config.seed, Stream::TrainTime, step, row);
                u64::from(low) | (u64::from(high) << 32)
            };
            let (t, counts) = learned.draw(process, &rows.clone().map(bits).collect::<Vec<_>>());
            let mut noise = noise.to_vec();
            let objective = &config.objective;
            if objective.offset_noise > 0.0 {
                let images = rows
                    .clone()
                    .zip(noise.chunks_exact_mut(part_len / part_rows));
                for (row, image) in images {
                    offset(
                        config.seed,
                        step,
                        row,
                        channels,
                        objective.offset_noise,
                        image,
                    );
                }
            }
            let shown = (objective.input_perturbation > 0.0).then(|| {
                let extra = rows.clone().flat_map(|row| {
                    let mut image = vec![0.0; part_len / part_rows];
                    normal_fill(config.seed, Stream::InputNoise, step, row, &mut image);
                    image
                });
                let scale = objective.input_perturbation as f32;
                let extra: Vec<f32> = extra.map(|z| scale * z).collect();
                Tensor::from_data(TensorData::new(extra, shape), device)
            });
            Part {
                x0: Tensor::from_data(TensorData::new(pixels.to_vec(), shape), device),
                uncertainty: learned.uncertainty(process, &t),
                t,
                counts,
                eps: Tensor::from_data(TensorData::new(noise, shape), device),
                input_noise: shown,
                labels: None,
                first_row: first,
            }
        })
        .collect()
}

/// Adds to each channel of an image's noise one number of its own.
fn offset(seed: u64, step: u64, row: u64, channels: usize, scale: f64, image: &mut [f32]) {
    let mut of_channels = vec![0.0f32; channels];
    normal_fill(seed, Stream::OffsetNoise, step, row, &mut of_channels);
    let planes = image.chunks_exact_mut(image.len() / channels);
    for (plane, z) in planes.zip(of_channels) {
        plane.iter_mut().for_each(|x| *x += scale as f32 * z);
    }
}
