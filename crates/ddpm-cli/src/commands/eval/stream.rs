//! Images that go through an extractor as they come, with the digest of their bytes.

use anyhow::Result;
use ddpm_data::Dataset;
use ddpm_eval::{EvalError, Extractor, Features, Images};

use crate::terminal::{Progress, Update};

/// Images on their way.
pub struct Stream<'a> {
    extractor: &'a Extractor,
    features: Features,
    hasher: blake3::Hasher,
    watch: Watch<'a>,
}

/// Progress and signals of a part of the work.
pub struct Watch<'a> {
    stop: &'a (dyn Fn() -> bool + Sync),
    progress: Progress,
    done: u64,
}

impl<'a> Watch<'a> {
    /// Of `total` things.
    pub fn new(stop: &'a (dyn Fn() -> bool + Sync), total: usize, quiet: bool) -> Self {
        Self {
            stop,
            progress: Progress::start(0, total as u64, quiet),
            done: 0,
        }
    }

    /// `count` more of them are done.
    ///
    /// # Errors   [`EvalError::Stopped`] after a signal
    pub fn advance(&mut self, count: usize) -> Result<(), EvalError> {
        self.done += count as u64;
        self.progress.update(Update {
            step: self.done,
            ..Update::default()
        });
        match (self.stop)() {
            true => Err(EvalError::Stopped),
            false => Ok(()),
        }
    }
}

impl<'a> Stream<'a> {
    /// No images yet.
    pub fn new(extractor: &'a Extractor, watch: Watch<'a>) -> Self {
        Self {
            extractor,
            features: Features::default(),
            hasher: blake3::Hasher::new(),
            watch,
        }
    }

    /// Takes more images.
    ///
    /// # Errors   those of the extractor; [`EvalError::Stopped`] after a signal
    pub fn take(&mut self, images: &Images) -> Result<(), EvalError> {
        self.hasher.update(images.bytes());
        let all: Vec<usize> = (0..images.count()).collect();
        for part in all.chunks(self.extractor.batch()) {
            self.features
                .append(self.extractor.extract(&images.select(part))?)?;
            self.watch.advance(part.len())?;
        }
        Ok(())
    }

    /// The features, and the digest of the bytes of all images.
    pub fn finish(self) -> (Features, String) {
        (self.features, self.hasher.finalize().to_hex().to_string())
    }
}

/// Images of a set at a time.
pub const CHUNK: usize = 1024;

/// Some images of a set, as bytes.
///
/// # Errors   those of decoding
pub fn images(dataset: &Dataset, range: std::ops::Range<usize>) -> Result<Images> {
    let [channels, height, width] = dataset.shape();
    let count = range.len();
    let mut pixels = Vec::with_capacity(count * channels * height * width);
    for index in range {
        pixels.extend(dataset.get(index, false)?.pixels);
    }
    Ok(Images::from_pixels(
        &pixels,
        [count, channels, height, width],
    )?)
}

/// The digest of a whole set: its shape, its bytes and its classes.
///
/// # Errors   those of decoding
pub fn fingerprint(dataset: &Dataset) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for number in [dataset.len()].into_iter().chain(dataset.shape()) {
        hasher.update(&(number as u64).to_le_bytes());
    }
    for from in (0..dataset.len()).step_by(CHUNK) {
        let range = from..dataset.len().min(from + CHUNK);
        hasher.update(images(dataset, range)?.bytes());
    }
    for &label in dataset.labels().unwrap_or_default() {
        hasher.update(&(label as u64).to_le_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}
