//! What judges a run's samples while it trains: the figures of `ddpm eval`, of few samples.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_eval::{EvalError, Extractor, Features, Figure, Images, Judge, Reference, Settings};
use ddpm_store::ImageBatch;
use ddpm_train::{Evaluate, Evaluated, Stop};

use super::super::eval::{extractors, real};

/// Real images that samples are compared with pair by pair: as few as samples are.
const PAIRS: usize = 2_000;

/// An extractor and the set that the run learns.
#[derive(Debug)]
pub struct Evaluator {
    extractor: Extractor,
    reference: Reference,
    settings: Settings,
}

impl Evaluator {
    /// Looks at the whole set once.
    ///
    /// # Errors   [`crate::exit::UsageError`] for an extractor that there is not, those of decoding and of the extractor
    pub fn new(
        name: &Path,
        dataset: &Dataset,
        device: &Device,
        stop: &Stop,
        quiet: bool,
    ) -> Result<Self> {
        let fingerprint = real::digest_of(dataset)?;
        let extractor = extractors::open(
            name,
            ddpm_eval::Resize::PytorchFid,
            Some(&fingerprint),
            device,
        )?;
        let settings = Settings {
            pairs: PAIRS,
            ..Settings::default()
        };
        let reading = real::Reading {
            extractor: &extractor,
            settings,
            stop: &|| stop.is_requested(),
            quiet,
        };
        let reference = reading.features(dataset, &fingerprint)?;
        Ok(Self {
            extractor,
            reference,
            settings,
        })
    }

    fn judge(&self, batches: Vec<ImageBatch>) -> Result<Evaluated, EvalError> {
        let mut features = Features::default();
        for batch in batches {
            let (pixels, shape) = batch.into_parts();
            let images = Images::from_pixels(&pixels, shape)?;
            let all: Vec<usize> = (0..images.count()).collect();
            for part in all.chunks(self.extractor.batch()) {
                features.append(self.extractor.extract(&images.select(part))?)?;
            }
        }
        let judge = Judge {
            reference: &self.reference,
            held_out: None,
            settings: self.settings,
        };
        let found = judge.figures(&features, &|| ControlFlow::Continue(()))?;
        let copies = found.copies.as_ref();
        let named = [
            ("frechet_distance", Some(found.frechet_distance)),
            ("kernel_distance", found.kernel_distance),
            ("precision", found.precision),
            ("recall", found.recall),
            ("nearest_ratio", copies.map(|copies| copies.nearest_ratio)),
        ];
        let figures = named
            .into_iter()
            .filter_map(|(name, figure): (_, Option<Figure>)| Some((name, figure?.value)));
        let figures: BTreeMap<&'static str, f64> = figures.collect();
        // The one that does not depend on how many samples there are.
        let score = figures
            .get("kernel_distance")
            .copied()
            .unwrap_or(found.frechet_distance.value);
        Ok(Evaluated { figures, score })
    }
}

impl Evaluate for Evaluator {
    fn evaluate(&mut self, images: Vec<ImageBatch>) -> Result<Evaluated, String> {
        self.judge(images).map_err(|error| error.to_string())
    }
}
