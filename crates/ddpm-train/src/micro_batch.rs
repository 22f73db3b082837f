//! What a pass forward and backward is over: images, the noise and times that go with them, and what the network is told.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::Batch;
use ddpm_diffusion::{Condition, ConditionConfig, Learned, ObjectiveConfig};
use ddpm_schedule::noise::{Stream, bits, normal_fill};
use ddpm_unet::Conditioning;

use crate::collective::tree;
use crate::prefetch::{NoisePrefetch, Rows};
use crate::step::StepConfig;
use crate::told::{self, Known};

/// Some of the images of one optimiser step.
#[derive(Debug, Clone)]
pub struct MicroBatch {
    /// Images, `[batch, channels, height, width]`.
    pub x0: Tensor<4>,
    /// The noise that is added to them, of the same shape.
    pub noise: Tensor<4>,
    /// Noise that is added to what the network is shown alone, of the same shape.
    pub input_noise: Option<Tensor<4>>,
    /// The time of each image, in the process's own terms.
    pub times: Vec<f64>,
    /// What the loss of each image counts in the mean; unset: 1.
    pub counts: Option<Vec<f64>>,
    /// The logarithm of each image's uncertainty, where the objective learns it.
    pub uncertainty: Option<Vec<f64>>,
    /// What the network is told besides.
    pub condition: Condition,
    /// Which row of the step's whole batch the first image is.
    pub first_row: u64,
}

impl MicroBatch {
    /// Images with noise and times of their own, which are functions of the configuration's seed, the step (from 0) and
    /// the row; the first image is row `first_row` of the step.
    ///
    /// # Shapes   `x0`: `[batch, channels, height, width]`
    #[must_use]
    pub fn draw(x0: Tensor<4>, step: u64, first_row: u64, config: &StepConfig) -> Self {
        let [batch, channels, height, width] = x0.dims();
        let rows = first_row..first_row + batch as u64;
        let image = channels * height * width;
        let mut noise = vec![0.0; batch * image];
        for (row, noise) in rows.clone().zip(noise.chunks_exact_mut(image.max(1))) {
            normal_fill(config.seed, Stream::TrainNoise, step, row, noise);
        }
        let bits: Vec<u64> = rows.map(|row| time_bits(config.seed, step, row)).collect();
        let (times, _) = Learned::default().draw(&config.process, &bits);
        let noise = TensorData::new(noise, x0.dims());
        Self {
            noise: Tensor::from_data(noise, &x0.device()),
            x0,
            input_noise: None,
            times,
            counts: None,
            uncertainty: None,
            condition: Condition::default(),
            first_row,
        }
    }
}

/// What the time of a row is drawn from.
fn time_bits(seed: u64, step: u64, row: u64) -> u64 {
    let [low, high, ..] = bits(seed, Stream::TrainTime, step, row);
    u64::from(low) | (u64::from(high) << 32)
}

/// The rows of a batch that a rank computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RankRows {
    /// Which of the micro-batches.
    pub(crate) own: Range<usize>,
    /// Micro-batches of the whole batch.
    pub(crate) micro_batches: usize,
    /// Images of a micro-batch.
    pub(crate) images: usize,
}

impl RankRows {
    /// That of rank `rank` of `size`, of a batch of `batch` images.
    pub(crate) fn new(rank: usize, size: usize, micro_batches: usize, batch: usize) -> Self {
        Self {
            own: tree::share(rank, size, micro_batches),
            micro_batches,
            images: batch / micro_batches,
        }
    }

    /// Its rows of the batch.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.own.start * self.images..self.own.end * self.images
    }
}

/// A rank's micro-batches of a step.
pub(crate) struct StepInputs {
    pub(crate) micro_batches: Vec<MicroBatch>,
    /// The times of all micro-batches, those of other ranks included.
    pub(crate) times: Vec<Vec<f64>>,
}

/// What times and noise are drawn by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Laws<'a> {
    pub(crate) config: &'a StepConfig,
    /// What the objective has learned of noise levels.
    pub(crate) learned: &'a Learned,
    /// How the network takes classes.
    pub(crate) conditioning: Conditioning,
    /// What else it is told.
    pub(crate) condition: &'a ConditionConfig,
    /// The numbers of all images of the set, as they are told; empty if there are none.
    pub(crate) numbers: &'a [Vec<f32>],
}

/// A rank's images of step `step` (from 0) with their noise and times.
///
/// Row r of step s gets noise and time from (seed, s, r), whichever rank computes it.
pub(crate) fn step_inputs(
    laws: Laws<'_>,
    batch: &Batch,
    step: u64,
    rank_rows: &RankRows,
    prefetch: &mut NoisePrefetch,
    device: &Device,
) -> StepInputs {
    let seed = laws.config.seed;
    let [_, channels, height, width] = batch.shape;
    let image = channels * height * width;
    let len = rank_rows.images * image;
    let rows = rank_rows.rows();
    let noise = prefetch.take(Rows {
        seed,
        step,
        rows: rows.start as u64..rows.end as u64,
        image,
    });
    let rows_of = |micro_batch: usize| {
        let first = (micro_batch * rank_rows.images) as u64;
        first..first + rank_rows.images as u64
    };
    let drawn = (0..rank_rows.micro_batches).map(|i| {
        let bits = |row| time_bits(seed, step, row);
        let process = &laws.config.process;
        laws.learned
            .draw(process, &rows_of(i).map(bits).collect::<Vec<_>>())
    });
    let drawn: Vec<_> = drawn.collect();
    let images = batch.pixels.chunks_exact(len).zip(noise.chunks_exact(len));
    let micro_batches = rank_rows
        .own
        .clone()
        .zip(images)
        .map(|(i, (pixels, noise))| {
            let (times, counts) = drawn[i].clone();
            let shape = [rank_rows.images, channels, height, width];
            let tensor = |data: Vec<f32>| Tensor::from_data(TensorData::new(data, shape), device);
            let objective = laws.config.objective.config();
            let noise = with_offset(noise.to_vec(), seed, step, rows_of(i), objective, shape);
            let x0 = tensor(pixels.to_vec());
            let of_rank = i - rank_rows.own.start;
            let own = of_rank * rank_rows.images..(of_rank + 1) * rank_rows.images;
            let numbers: Vec<Vec<f32>> = match laws.numbers.is_empty() {
                true => Vec::new(),
                false => rows_of(i)
                    .map(|row| laws.numbers[batch.indices[row as usize]].clone())
                    .collect(),
            };
            let told = told::condition(&Known {
                conditioning: laws.conditioning,
                config: laws.condition,
                labels: batch.labels.as_deref().map(|labels| &labels[own.clone()]),
                numbers: &numbers,
                augmented: batch.augmented.as_deref().map(|all| {
                    let each = all.len() / rows.len().max(1);
                    &all[own.start * each..own.end * each]
                }),
                x0: &x0,
                seed,
                step,
                rows: rows_of(i),
            });
            MicroBatch {
                x0,
                noise: tensor(noise),
                input_noise: input_noise(seed, step, rows_of(i), objective, image).map(tensor),
                uncertainty: laws.learned.uncertainty(&laws.config.process, &times),
                times,
                counts,
                condition: told,
                first_row: rows_of(i).start,
            }
        });
    StepInputs {
        micro_batches: micro_batches.collect(),
        times: drawn.iter().map(|(times, _)| times.clone()).collect(),
    }
}

/// Noise, with one number more for each channel of each image (`objective.offset_noise`).
fn with_offset(
    mut noise: Vec<f32>,
    seed: u64,
    step: u64,
    rows: Range<u64>,
    objective: &ObjectiveConfig,
    [_, channels, height, width]: [usize; 4],
) -> Vec<f32> {
    let scale = objective.offset_noise as f32;
    if scale > 0.0 {
        let images = noise.chunks_exact_mut(channels * height * width);
        for (row, image) in rows.zip(images) {
            let mut of_channels = vec![0.0f32; channels];
            normal_fill(seed, Stream::OffsetNoise, step, row, &mut of_channels);
            for (plane, z) in image.chunks_exact_mut(height * width).zip(of_channels) {
                plane.iter_mut().for_each(|x| *x += scale * z);
            }
        }
    }
    noise
}

/// What is added to the noise that the network is shown (`objective.input_perturbation`), if anything.
fn input_noise(
    seed: u64,
    step: u64,
    rows: Range<u64>,
    objective: &ObjectiveConfig,
    image: usize,
) -> Option<Vec<f32>> {
    let scale = objective.input_perturbation as f32;
    let of_row = |row| {
        let mut numbers = vec![0.0; image];
        normal_fill(seed, Stream::InputNoise, step, row, &mut numbers);
        numbers.into_iter().map(move |z| scale * z)
    };
    (scale > 0.0).then(|| rows.flat_map(of_row).collect())
}
