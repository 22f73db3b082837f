use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use ddpm_schedule::noise::permute;

use crate::augment::{Address, AugmentConfig, is_mirrored};
use crate::dataset::Dataset;
use crate::error::DataError;

/// 256 GiB: beyond it a batch is a mistake, and the sum of its bytes stays far from overflowing.
const MAX_BATCH_FLOATS: usize = 1 << 36;
/// Leaves room to count on without overflowing.
const MAX_ITEM: u64 = 1 << 62;

/// How a [`Loader`] goes through a set.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Decides the order of each epoch, which images are mirrored and how they are changed.
    pub seed: u64,
    /// Images in every batch.
    pub batch: usize,
    /// Which of them are read, for a rank that computes these rows alone; unset: all.
    pub rows: Option<Range<usize>>,
    /// Number of the first item, counted over all epochs: where a resumed run goes on.
    pub first_item: u64,
    /// Whether to mirror each image left to right with probability one half.
    pub flip: bool,
    /// How each image is changed at random besides, after it.
    pub augment: AugmentConfig,
    /// Background threads; 0 makes each batch when it is asked for.
    pub threads: usize,
    /// How many finished batches may wait in memory; 0 is like no threads.
    pub prefetch: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            batch: 32,
            rows: None,
            first_item: 0,
            flip: false,
            augment: AugmentConfig::default(),
            threads: 1,
            prefetch: 2,
        }
    }
}

/// Images for one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[rows, channels, height, width]`, in [-1, 1] (`synthetic`: standard normal).
    pub pixels: Vec<f32>,
    /// The shape of `pixels`.
    pub shape: [usize; 4],
    /// The class of each of these images, if the set has classes.
    pub labels: Option<Vec<usize>>,
    /// What the network is to be told of the augmentation of each of these images, `[rows, numbers]`, if `augment.edm` asks
    /// for one; zeros say that there was none.
    pub augmented: Option<Vec<f32>>,
    /// The number in the set of each image of the whole batch, read or not.
    pub indices: Vec<usize>,
    /// The numbers of the items, counted over all epochs.
    pub items: Range<u64>,
}

/// Batches without end, in a shuffled order without state.
///
/// Item p belongs to epoch p / n and shows image `permute(seed, epoch, n, p % n)`: every image once an epoch, in
/// batches of constant size, which may span two epochs. A batch is a function of the set, the seed, the batch
/// size and its first item, whatever the threads do; [`Loader::position`] is all there is to save.
#[derive(Debug)]
pub struct Loader {
    plan: Plan,
    position: u64,
    /// One receiver a thread; batch i comes from thread i modulo their number.
    workers: Vec<Receiver<Result<Batch, DataError>>>,
    threads: Vec<JoinHandle<()>>,
    turn: usize,
    stopped: Option<String>,
}

impl Loader {
    /// Starts the background threads, which make batches ahead until `prefetch` of them wait.
    ///
    /// # Errors   [`DataError::Config`] for a batch of 0 or too many, or changes that these images cannot have; [`DataError::Stopped`] if no thread can be started or
    /// the first item is beyond 2⁶²
    pub fn new(dataset: Arc<Dataset>, config: LoaderConfig) -> Result<Self, DataError> {
        if config.batch == 0 {
            return Err(DataError::config(
                "train.batch",
                "is 0; a batch needs at least 1 image",
            ));
        }
        let floats = config.batch.checked_mul(dataset.pixels_per_image());
        if floats.is_none_or(|floats| floats > MAX_BATCH_FLOATS) {
            let reason = format!("is {}, more than any memory holds; lower it", config.batch);
            return Err(DataError::config("train.batch", reason));
        }
        if let Some(rows) = &config.rows
            && (rows.is_empty() || rows.end > config.batch)
        {
            let reason = format!("is {}, which has no rows {rows:?}", config.batch);
            return Err(DataError::config("train.batch", reason));
        }
        config.augment.validate()?;
        config.augment.check_shape(dataset.shape())?;
        if config.first_item > MAX_ITEM {
            return Err(DataError::Stopped {
                reason: format!("no run reaches item {}", config.first_item),
            });
        }
        // a thread holds one finished batch while it waits, and its channel the others
        let count = config.threads.min(config.prefetch);
        let waiting = config
            .prefetch
            .checked_div(count)
            .map_or(0, |each| each - 1);
        let plan = Plan { dataset, config };
        let mut loader = Self {
            position: plan.config.first_item,
            workers: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
            turn: 0,
            stopped: None,
            plan,
        };
        for number in 0..count {
            let (sender, receiver) = sync_channel(waiting);
            let plan = loader.plan.clone();
            let thread = thread::Builder::new()
                .name(format!("ddpm-loader-{number}"))
                .spawn(move || {
                    let batch = plan.config.batch as u64;
                    let mut first = plan.config.first_item + number as u64 * batch;
                    loop {
                        let made = plan.make(first);
                        let failed = made.is_err();
                        // an error of `send` means that the loader is gone
                        if sender.send(made).is_err() || failed {
                            return;
                        }
                        first += count as u64 * batch;
                    }
                })
                .map_err(|error| DataError::Stopped {
                    reason: format!("no thread could be started ({error})"),
                })?;
            loader.workers.push(receiver);
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The next batch; waits for it if need be.
    ///
    /// # Errors   those of decoding, each once and in its place; [`DataError::Stopped`] ever after
    #[expect(
        clippy::should_implement_trait,
        reason = "there is no end, so an iterator's Option would only be in the way"
    )]
    pub fn next(&mut self) -> Result<Batch, DataError> {
        if let Some(reason) = &self.stopped {
            return Err(DataError::Stopped {
                reason: reason.clone(),
            });
        }
        let made = match self.workers.get(self.turn) {
            Some(worker) => worker.recv().unwrap_or_else(|_| {
                Err(DataError::Stopped {
                    reason: "a background thread died".into(),
                })
            }),
            None => self.plan.make(self.position),
        };
        match &made {
            Ok(batch) => {
                self.position = batch.items.end;
                self.turn = (self.turn + 1) % self.workers.len().max(1);
            }
            Err(error) => self.stopped = Some(error.to_string()),
        }
        made
    }

    /// Number of the first item that has not been handed out.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The epoch of that item, from 0.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.position / self.plan.dataset.len() as u64
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // without receivers every `send` fails, which ends the threads
        self.workers.clear();
        for thread in self.threads.drain(..) {
            // a panic there was reported by `next` as a dead thread
            let _ = thread.join();
        }
    }
}

/// What it takes to make any batch.
#[derive(Clone, Debug)]
struct Plan {
    dataset: Arc<Dataset>,
    config: LoaderConfig,
}

impl Plan {
    /// The batch of the items from `first` on.
    fn make(&self, first: u64) -> Result<Batch, DataError> {
        let set = &self.dataset;
        let LoaderConfig {
            seed,
            batch,
            flip,
            augment,
            ..
        } = self.config;
        let rows = self.config.rows.clone().unwrap_or(0..batch);
        let n = set.len() as u64;
        let size = set.pixels_per_image();
        let items = first..first + batch as u64;
        let image_of = |item: u64| {
            let (epoch, place) = (item / n, item % n);
            (epoch, permute(seed, epoch, n, place))
        };
        let mut pixels = vec![0.0; rows.len() * size];
        let mut augmented = Vec::with_capacity(rows.len() * augment.numbers());
        let own = first + rows.start as u64..first + rows.end as u64;
        for (item, out) in own.zip(pixels.chunks_exact_mut(size)) {
            let (epoch, image) = image_of(item);
            let mirrored = flip && is_mirrored(seed, epoch, image);
            set.write(image as usize, mirrored, out)?;
            let at = Address { seed, epoch, image };
            augment.apply(out, set.shape(), at, &mut augmented);
        }
        let indices = items.clone().map(|item| image_of(item).1 as usize);
        let indices: Vec<usize> = indices.collect();
        Ok(Batch {
            pixels,
            shape: [rows.len(), set.channels(), set.height(), set.width()],
            labels: set
                .labels()
                .map(|labels| indices[rows].iter().map(|&index| labels[index]).collect()),
            augmented: (augment.numbers() > 0).then_some(augmented),
            indices,
            items,
        })
    }
}

#[cfg(test)]
mod tests;
