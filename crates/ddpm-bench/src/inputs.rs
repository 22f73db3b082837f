//! Fixed random images, noise and time steps.

use anyhow::{Context, anyhow};
use burn::tensor::{Device, Tensor};
use ddpm_diffusion::{Condition, randn_images};
use ddpm_schedule::noise::{Stream, below};
use ddpm_train::MicroBatch;
use ddpm_unet::{Cost, Model, SampleSize, UNet2DConfig};

use crate::place::SEED;

/// What every repetition computes on.
pub struct Inputs {
    /// Images, `[batch, channels, height, width]`.
    pub x0: Tensor<4>,
    /// The noise added to them, of the same shape.
    pub eps: Tensor<4>,
    /// The time step of each image.
    pub t: Vec<f64>,
}

impl Inputs {
    /// The same for the same network and batch on any device.
    ///
    /// # Errors   if the network is no UNet2DModel that says its size
    pub fn new(model: &Model, batch: u32, device: &Device) -> anyhow::Result<Self> {
        let (config, [height, width]) = described(model)?;
        let image = [config.in_channels, height, width];
        let indices = 0..u64::from(batch);
        let draw = |stream| randn_images(SEED, stream, 0, indices.clone(), image, device);
        Ok(Self {
            x0: draw(Stream::Synthetic),
            eps: draw(Stream::TrainNoise),
            t: indices
                .clone()
                .map(|row| below(SEED, Stream::TrainTime, 0, row, 1000) as f64)
                .collect(),
        })
    }

    /// The images of one training step.
    pub fn micro_batch(&self) -> MicroBatch {
        MicroBatch {
            x0: self.x0.clone(),
            noise: self.eps.clone(),
            times: self.t.clone(),
            input_noise: None,
            counts: None,
            uncertainty: None,
            condition: Condition::default(),
            first_row: 0,
        }
    }

    /// The time steps as the network takes them, `[batch]`.
    pub fn t(&self) -> Tensor<1> {
        let t: Vec<f32> = self.t.iter().map(|&t| t as f32).collect();
        Tensor::from_floats(t.as_slice(), &self.x0.device())
    }
}

/// Operations of one forward pass of one image: a multiplication and an addition are two.
///
/// # Errors   if the network is no UNet2DModel that says its size
pub fn forward_flops(model: &Model) -> anyhow::Result<f64> {
    let (config, size) = described(model)?;
    Ok(2.0 * Cost::of_unet(config, size)?.multiplications as f64)
}

fn described(model: &Model) -> anyhow::Result<(&UNet2DConfig, [usize; 2])> {
    let Model::Unet(unet) = model else {
        return Err(anyhow!("only UNet2DModel networks are measured"));
    };
    let config = unet.config();
    let size = config.sample_size.map(SampleSize::height_width);
    Ok((config, size.context("`sample_size` is needed here")?))
}
