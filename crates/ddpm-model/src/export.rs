//! Models for elsewhere: a pipeline that Python's diffusers loads, with a card, or the weights alone.

mod card;
mod python;
mod refusal;

use std::path::Path;

use ddpm_diffusion::SampleConfig;
use ddpm_store::diffusers::{NetworkSettings, Scheduler, Written, export_pipeline};
use ddpm_store::{NamedTensor, TensorFile};
use ddpm_unet::{Conditioning, params};
use serde_json::{Map, Value};

pub use self::card::Card;

use crate::error::ModelError;
use crate::open::OpenedModel;

/// The card's file; hubs show it as the page of a model.
const CARD: &str = "README.md";
/// The picture of samples that the card shows.
const GRID: &str = "grid.png";

/// A model in diffusers' words.
#[derive(Debug)]
pub struct Pipeline {
    config: Map<String, Value>,
    weights: Vec<NamedTensor>,
    conditioning: Conditioning,
    /// Channels, and `[height, width]` where that is known.
    image: (usize, Option<[usize; 2]>),
    /// The scheduler.
    pub scheduler: Scheduler,
    /// Steps that it samples with.
    pub steps: Option<usize>,
    /// Why diffusers does not sample with it as this program does, where that is so.
    pub difference: Option<String>,
}

impl Pipeline {
    /// The model with a scheduler that samples as `sample` does, or with the scheduler that it came with.
    ///
    /// # Errors   [`ModelError::Foreign`] or [`ModelError::Store`] naming the key of what diffusers cannot represent
    pub fn of(opened: &OpenedModel, sample: Option<&SampleConfig>) -> Result<Self, ModelError> {
        let config = refusal::config(opened)?;
        let own = opened.scheduler.as_ref().filter(|_| sample.is_none());
        let written = match own {
            Some(scheduler) => Written {
                scheduler: scheduler.clone(),
                difference: None,
            },
            None => {
                let network = NetworkSettings {
                    process: opened.process,
                    schedule: opened.schedule.clone(),
                    meaning: opened.meaning,
                };
                let sample = sample.unwrap_or(&opened.sample);
                Written::of(&opened.path, &network, sample)?
            }
        };
        Ok(Self {
            config,
            weights: weights(opened)?,
            conditioning: opened.model.conditioning(),
            image: (opened.channels, opened.size),
            steps: written.scheduler.choice(None)?.sample.steps,
            scheduler: written.scheduler,
            difference: written.difference,
        })
    }

    /// Makes the directory: `unet/`, `scheduler/`, `model_index.json`, the card as `README.md`, and a PNG of samples as
    /// `grid.png`. It is there when all of it is.
    ///
    /// # Errors   [`ModelError::Store`] if something has that name, or it cannot be written
    pub fn write(
        &self,
        directory: &Path,
        card: &str,
        grid: Option<&[u8]>,
    ) -> Result<(), ModelError> {
        let card = (CARD, card.as_bytes());
        let further: Vec<_> = grid.map(|grid| (GRID, grid)).into_iter().collect();
        let further = [&further[..], &[card]].concat();
        Ok(export_pipeline(
            directory,
            &self.config,
            &self.weights,
            &self.scheduler,
            &further,
        )?)
    }
}

/// Writes the weights alone, under diffusers' names: of any network.
///
/// # Errors   [`ModelError::Store`] if they cannot be written, [`ModelError::Device`]
pub fn write_weights(opened: &OpenedModel, file: &Path) -> Result<(), ModelError> {
    Ok(TensorFile::new(weights(opened)?).write(file)?)
}

fn weights(opened: &OpenedModel) -> Result<Vec<NamedTensor>, ModelError> {
    let named = |(name, data): (String, burn::tensor::TensorData)| {
        let shape = data.shape().to_vec();
        let data = data.try_into_vec().map_err(|error| ModelError::Device {
            message: format!("`{name}` cannot be read back: {error:?}"),
        })?;
        Ok(NamedTensor { name, shape, data })
    };
    params::export(&opened.model)
        .into_iter()
        .map(named)
        .collect()
}

#[cfg(test)]
mod tests;
