//! What a run's own samples are drawn from: classes in turn, and the numbers and pictures of images of the set.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::Dataset;
use ddpm_diffusion::Plan;
use ddpm_model::{Told, vector};
use ddpm_unet::{Conditioning, Model};

use crate::config::Config;
use crate::error::TrainError;
use crate::stop::Stop;

/// The samples of a step.
pub(crate) struct Samples<'a> {
    pub(crate) config: &'a Config,
    pub(crate) plan: &'a Plan,
    /// `[channels, height, width]` of an image.
    pub(crate) image: [usize; 3],
    pub(crate) told: &'a Told,
    pub(crate) device: &'a Device,
    pub(crate) stop: &'a Stop,
}

/// What the network is told of `sample.count` images. Where it is told more than classes, it is what it would be told of
/// images spread evenly over the set, so that each sample can be held against one. `numbers` are those of all images.
///
/// # Errors   those of decoding
pub(crate) fn told(
    config: &Config,
    (dataset, numbers): (&Dataset, &[Vec<f32>]),
    model: &Model,
    device: &Device,
) -> Result<Told, TrainError> {
    let count = config.sample.count;
    let condition = &config.condition;
    let classes = Told::of_classes(model.conditioning(), count);
    if condition.numbers() == 0 && condition.kind.is_none() {
        return Ok(classes);
    }
    let chosen: Vec<usize> = (0..count)
        .map(|i| i * dataset.len() / count.max(1))
        .collect();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for &index in &chosen {
        let item = dataset.get(index, false)?;
        pixels.extend(item.pixels);
        labels.extend(item.label.map(|label| label as i64));
    }
    let shape = [count, dataset.channels(), dataset.height(), dataset.width()];
    let x0 = Tensor::<4>::from_data(TensorData::new(pixels, shape), device);
    let of_image = |index: usize| {
        let columns = numbers.get(index).map(Vec::as_slice);
        vector(condition, model, columns, 0.0)
    };
    Ok(Told {
        classes: match model.conditioning() {
            Conditioning::Classes { .. } => labels,
            _ => Vec::new(),
        },
        numbers: match condition.numbers() {
            0 => Vec::new(),
            _ => chosen.into_iter().map(of_image).collect(),
        },
        null_numbers: None,
        picture: condition.picture(&x0),
        ..classes
    })
}
