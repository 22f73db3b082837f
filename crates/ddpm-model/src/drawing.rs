//! n images of a seed, in batches.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};
use ddpm_diffusion::{
    ConditionConfig, DiffusionError, Guide, Network, Plan, Progress, SampleBatch, sample,
};
use ddpm_store::ImageBatch;
use ddpm_unet::{Model, Precision};

use crate::error::ModelError;
use crate::network::SamplingNetwork;
use crate::open::OpenedModel;
use crate::told::Told;

/// Which images are drawn, and how. Image i of a seed is the same in any batch.
#[derive(Debug, Clone, Copy)]
pub struct Drawing<'a> {
    /// The network.
    pub model: &'a Model,
    /// The sampler and its grid.
    pub plan: &'a Plan,
    /// `[channels, height, width]` of an image.
    pub image: [usize; 3],
    /// What the network is told of each image.
    pub told: &'a Told,
    /// A worse network that guidance leads away from.
    pub guide: Option<&'a Model>,
    /// Which images there are.
    pub seed: u64,
    /// The number of the first one.
    pub first: u64,
    /// How many are drawn.
    pub n: usize,
    /// How many at a time.
    pub batch: usize,
    /// Where the network is.
    pub device: &'a Device,
    /// What it computes in.
    pub precision: Precision,
}

impl Drawing<'_> {
    /// Draws all, and hands over each batch when it is finished, with the number of its first image among the n. Returns
    /// how many images were finished: fewer than n if `observe` breaks, which is called after each step of the sampler.
    ///
    /// # Errors   those of the network, as `E` those of `take`
    pub fn run<E: From<ModelError>>(
        &self,
        observe: &mut dyn FnMut(usize, Progress<'_>) -> ControlFlow<()>,
        take: &mut dyn FnMut(usize, ImageBatch) -> Result<(), E>,
    ) -> Result<usize, E> {
        // The network stays the same over all batches, so that a GPU captures it once.
        let network = SamplingNetwork::new(self.model, self.precision);
        let guide = self
            .guide
            .map(|model| SamplingNetwork::new(model, self.precision));
        for from in (0..self.n).step_by(self.batch.max(1)) {
            let count = self.batch.min(self.n - from);
            let [channels, height, width] = self.image;
            let batch = SampleBatch {
                shape: [count, channels, height, width],
                seed: self.seed,
                first_index: self.first + from as u64,
                condition: self.told.condition(from..from + count, self.device),
                guide: Guide {
                    null: match guide {
                        Some(_) => None,
                        None => self.told.null(&(from..from + count), self.device),
                    },
                    network: guide.as_ref().map(|guide| guide as &dyn Network),
                },
                device: self.device.clone(),
            };
            let drawn = sample(&network, self.plan, batch, &mut |progress| {
                observe(from, progress)
            });
            let images = match drawn {
                Ok(images) => image_batch(images)?,
                Err(DiffusionError::Stopped { .. }) => return Ok(from),
                Err(error) => return Err(ModelError::from(error).into()),
            };
            take(from, images)?;
        }
        Ok(self.n)
    }
}

impl OpenedModel {
    /// The first `n` images of a seed, by the model's own sampler.
    ///
    /// # Errors   [`ModelError::Size`] if the model does not say how large images are; those of sampling
    pub fn sample(&mut self, n: usize, seed: u64) -> Result<ImageBatch, ModelError> {
        /// Images at a time.
        const BATCH: usize = 16;
        self.prepare(None, None)?;
        let [height, width] = self.size.ok_or_else(|| ModelError::Size {
            path: self.path.clone(),
        })?;
        let plan = self.sample.plan(&self.process()?, self.meaning)?;
        let drawing = Drawing {
            model: &self.model,
            plan: &plan,
            image: [self.channels, height, width],
            told: &self.told_of_classes(n),
            guide: None,
            seed,
            first: 0,
            n,
            batch: BATCH,
            device: &self.device,
            precision: Precision::F32,
        };
        let mut pixels = Vec::new();
        drawing.run::<ModelError>(&mut |_, _| ControlFlow::Continue(()), &mut |_, images| {
            pixels.extend(images.into_parts().0);
            Ok(())
        })?;
        Ok(ImageBatch::new(pixels, [n, self.channels, height, width])?)
    }
}

impl OpenedModel {
    /// What is told of `n` images that show the classes in turn, where there are any.
    #[must_use]
    pub fn told_of_classes(&self, n: usize) -> Told {
        Told::of_classes(self.model.conditioning(), n)
    }

    /// The numbers that the network is told of an image: see [`ConditionConfig::vector`](ddpm_diffusion::ConditionConfig),
    /// with zeros for an augmentation; empty if it is told none but that.
    #[must_use]
    pub fn vector(&self, columns: Option<&[f32]>, noise: f32) -> Vec<f32> {
        vector(&self.condition, &self.model, columns, noise)
    }
}

/// As [`OpenedModel::vector`].
#[must_use]
pub fn vector(
    condition: &ConditionConfig,
    model: &Model,
    columns: Option<&[f32]>,
    noise: f32,
) -> Vec<f32> {
    let mut vector = condition.vector(columns, noise);
    if !vector.is_empty() {
        vector.resize(model.numbers(), 0.0);
    }
    vector
}

/// Sampled images, ready to be written.
///
/// # Errors   [`ModelError::Device`] if they cannot be read back
pub fn image_batch(images: Tensor<4>) -> Result<ImageBatch, ModelError> {
    let shape = images.dims();
    let failed = |message| ModelError::Device { message };
    let pixels = images.try_into_data();
    let pixels = pixels.map_err(|error| failed(error.to_string()))?;
    let pixels = pixels.try_into_vec();
    let pixels = pixels.map_err(|error| failed(format!("{error:?}")))?;
    Ok(ImageBatch::new(pixels, shape)?)
}
