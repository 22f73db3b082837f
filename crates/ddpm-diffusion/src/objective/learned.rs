//! What an objective learns of noise levels, beside the network.

use ddpm_schedule::{Importance, Process};
use serde::{Deserialize, Serialize};

use super::uncertainty::Uncertainty;
use super::{ImportanceConfig, ObjectiveConfig};

/// What is learned of noise levels from the losses of the images: part of a training state, all of it on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learned {
    #[serde(skip_serializing_if = "Option::is_none")]
    importance: Option<Importance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncertainty: Option<Uncertainty>,
}

impl Learned {
    /// Before the first loss.
    #[must_use]
    pub fn new(config: &ObjectiveConfig, process: &Process, seed: u64) -> Self {
        let law = |ImportanceConfig { history, uniform }| {
            let table = process.schedule()?;
            Some(Importance::new(table.len(), history, uniform))
        };
        Self {
            importance: config.importance.and_then(law),
            uncertainty: config
                .uncertainty
                .map(|config| Uncertainty::new(config, seed)),
        }
    }

    /// Whether there is nothing to learn.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The times of some images, from 64 random bits each, and what the losses of these images count.
    #[must_use]
    pub fn draw(&self, process: &Process, bits: &[u64]) -> (Vec<f64>, Option<Vec<f64>>) {
        match &self.importance {
            None => (bits.iter().map(|&bits| process.draw(bits)).collect(), None),
            Some(law) => {
                let drawn = law.draw(bits).into_iter();
                let (times, counts) = drawn.map(|(t, count)| (t as f64, count)).unzip();
                (times, Some(counts))
            }
        }
    }

    /// The logarithm of the uncertainty of each of these times.
    #[must_use]
    pub fn uncertainty(&self, process: &Process, times: &[f64]) -> Option<Vec<f64>> {
        let learned = self.uncertainty.as_ref()?;
        let logs = times.iter().map(|&time| learned.log(process.level(time)));
        Some(logs.collect())
    }

    /// Learns from a batch: the time of each image, and its loss under what was known.
    pub fn note(&mut self, process: &Process, losses: &[(f64, f32)]) {
        if self.is_nothing() {
            return;
        }
        let error = |&(time, loss): &(f64, f32)| {
            let (level, loss) = (process.level(time), f64::from(loss));
            let error = match &self.uncertainty {
                None => loss,
                Some(learned) => {
                    let log = learned.log(level);
                    (loss - log) * log.exp()
                }
            };
            (level, error)
        };
        let errors: Vec<_> = losses.iter().map(error).collect();
        if let Some(law) = &mut self.importance {
            for ((time, _), (_, error)) in losses.iter().zip(&errors) {
                law.note(*time as usize, *error);
            }
        }
        if let Some(learned) = &mut self.uncertainty {
            learned.note(&errors);
        }
    }
}
