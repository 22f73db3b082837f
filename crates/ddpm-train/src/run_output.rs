//! What rank 0 writes: logs, checkpoints, snapshots of averages, samples.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use ddpm_data::Dataset;
use ddpm_diffusion::condition::picture::as_image;
use ddpm_model::{Drawing, image_batch};
use ddpm_store::checkpoint::{self, Retention};
use ddpm_store::images::Grid;
use ddpm_store::{GridOptions, ImageBatch, MetricsLog, RunWriter, averages, trend};
use ddpm_unet::Model;
use serde::Serialize;

use crate::autotune_cache::{self, AutotuneCache};
use crate::error::TrainError;
use crate::events::Event;
use crate::guard::Cause;
use crate::recovery::StepFailure;
use crate::samples::Samples;
use crate::snapshot::{self, Progress, SavedState};
use crate::step::TrainState;
use crate::trainer::Start;

/// The files of a run.
pub(crate) struct RunOutput {
    pub(crate) run: RunWriter,
    pub(crate) metrics: MetricsLog,
    pub(crate) skips: MetricsLog,
    autotune: AutotuneCache,
    pub(crate) last_checkpoint: Option<PathBuf>,
    /// The checkpoint that the run rolled back to and has not come beyond yet.
    pub(crate) rolled_back_to: Option<PathBuf>,
    last_grid: Option<PathBuf>,
}

/// A line of the log of skipped updates.
#[derive(Debug, Serialize)]
struct SkipLine<'a> {
    step: u64,
    cause: Cause,
    /// As text: JSON has no NaN.
    value: String,
    /// The numbers of the batch's images in the data set, in the order of the batch.
    images: &'a [usize],
    /// The step that the run went back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    went_back_to: Option<u64>,
}

impl RunOutput {
    pub(crate) fn open(run: RunWriter) -> Result<Self, TrainError> {
        autotune_cache::load(&run);
        Ok(Self {
            metrics: MetricsLog::open(&run.metrics_jsonl())?,
            skips: MetricsLog::open(&run.skips_jsonl())?,
            run,
            autotune: AutotuneCache::default(),
            last_checkpoint: None,
            rolled_back_to: None,
            last_grid: None,
        })
    }

    /// The checkpoint that a run starts from, if any.
    pub(crate) fn checkpoint_of(&self, start: Start) -> Result<Option<PathBuf>, TrainError> {
        Ok(match start {
            Start::Fresh => None,
            Start::Latest => checkpoint::latest_valid(&self.run)?,
            Start::From(step) => Some(checkpoint::at_step(&self.run, step)?),
        })
    }

    /// Empties the logs for a run from its first step.
    pub(crate) fn begin(&mut self) -> Result<(), TrainError> {
        self.metrics.truncate_at(0)?;
        self.skips.truncate_at(0)?;
        averages::supersede(&self.run, 0)?;
        trend::cut(&self.run, 0)?;
        Ok(())
    }

    /// The state of a checkpoint, with what the run remembered then; the log of metrics ends there again.
    pub(crate) fn restore(
        &mut self,
        path: &Path,
        model: Model,
        (run, dataset): (&SavedState, &Dataset),
        device: &Device,
    ) -> Result<(TrainState, Progress), TrainError> {
        let loaded = checkpoint::load(path)?;
        let data = run.data.as_deref().unwrap_or_default();
        let describe = || dataset.describe();
        let saved = snapshot::check(path, &loaded, &run.config, data, describe)?;
        self.metrics.truncate_at(loaded.metrics_bytes)?;
        let updates = saved.updates_at(loaded.step);
        let device = device.clone().autodiff();
        let tracked = &run.config.ema.power_function;
        let state = snapshot::restore(path, loaded, updates, tracked, model, &device)?;
        averages::supersede(&self.run, state.step)?;
        trend::cut(&self.run, state.step)?;
        self.last_checkpoint = Some(path.to_owned());
        let progress = Progress {
            updates: Some(updates),
            ..saved.progress
        };
        Ok((state, progress))
    }

    /// Moves away the checkpoints after the one of this step.
    pub(crate) fn supersede_after(&self, step: u64) -> Result<(), TrainError> {
        let moved = checkpoint::supersede(&self.run, step)?;
        if moved > 0 {
            tracing::info!(
                "{moved} later checkpoints were moved to {}",
                self.run.superseded().display()
            );
        }
        Ok(())
    }

    /// Writes a skipped update, with the images that it was about, or that the run rolled back after it.
    pub(crate) fn log_skip(
        &mut self,
        failure: StepFailure,
        images: &[usize],
        went_back_to: Option<u64>,
    ) -> Result<(), TrainError> {
        self.skips.write(&SkipLine {
            step: failure.step,
            cause: failure.cause,
            value: failure.value.to_string(),
            images,
            went_back_to,
        })?;
        Ok(())
    }

    /// Writes a snapshot of the power-function averages; before the checkpoint of this step, so that a run which goes on
    /// from a checkpoint has all snapshots up to there.
    pub(crate) fn save_averages(&self, state: &TrainState) -> Result<(), TrainError> {
        let mut found = Vec::new();
        for average in &state.tracked {
            found.push((average.sigma_rel, snapshot::tracked(state, average)?));
        }
        let mut numbers = found.iter().flat_map(|(_, tensors)| tensors);
        if numbers.all(|tensor| tensor.data.iter().all(|number| number.is_finite())) {
            averages::save(&self.run, state.step, state.images_seen, &found)?;
        }
        // Otherwise the state is bad, and the checkpoint is refused too.
        Ok(())
    }

    /// Commits a checkpoint; not if a number in it is not finite, and returns whether all are.
    pub(crate) fn save(
        &mut self,
        state: &TrainState,
        saved: SavedState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<bool, TrainError> {
        let retention = Retention {
            keep: saved.config.train.keep,
            keep_every: saved.config.train.keep_every,
            best: trend::best(&self.run)?.map(|best| best.step),
        };
        let saved = SavedState {
            progress: Progress {
                skips_bytes: self.skips.position(),
                ..saved.progress
            },
            ..saved
        };
        let snapshot = snapshot::save(state, &saved, self.metrics.position())?;
        if let Some(name) = snapshot::not_finite(&snapshot) {
            let step = state.step;
            tracing::warn!("step {step}: `{name}` holds a non-finite number; no checkpoint");
            return Ok(false);
        }
        self.metrics.sync()?;
        self.skips.sync()?;
        self.autotune.save(&self.run)?;
        let path = checkpoint::save(&self.run, &snapshot)?;
        checkpoint::prune(&self.run, retention, state.step)?;
        observe(Event::Saved { path: &path });
        self.last_checkpoint = Some(path);
        self.rolled_back_to = None;
        Ok(true)
    }

    /// Draws `sample.count` images and writes their grid.
    pub(crate) fn sample(
        &mut self,
        step: u64,
        model: &Model,
        samples: &Samples<'_>,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        let &Samples {
            config,
            plan,
            image,
            told,
            device,
            stop,
        } = samples;
        let drawing = Drawing {
            model,
            plan,
            image,
            told,
            guide: None,
            seed: config.seed,
            first: 0,
            n: config.sample.count,
            batch: config.sample.count,
            device,
            precision: config.train.precision,
        };
        let mut drawn = None;
        drawing.run::<TrainError>(
            &mut |_, progress| {
                observe(Event::Sampling {
                    done: progress.step,
                    total: progress.of,
                });
                match stop.is_requested() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
            &mut |_, images| {
                drawn = Some(images);
                Ok(())
            },
        )?;
        let Some(images) = drawn else {
            // The run is to end: the state counts, not the samples.
            return Ok(());
        };
        let path = self.run.sample_png(step);
        let grid = match &told.picture {
            Some(picture) => pairs(picture, &images)?,
            None => images.grid(GridOptions::default())?,
        };
        grid.save_png(&path)?;
        observe(Event::Sampled {
            images: &images,
            path: &path,
        });
        self.last_grid = Some(path);
        Ok(())
    }

    /// The last checkpoint and the last grid.
    pub(crate) fn last_files(&mut self) -> (Option<PathBuf>, Option<PathBuf>) {
        (self.last_checkpoint.take(), self.last_grid.take())
    }
}

/// A grid in which each image stands behind the picture that it was made from.
fn pairs(picture: &Tensor<4>, images: &ImageBatch) -> Result<Grid, TrainError> {
    let [count, channels, height, width] = images.shape();
    let (pictures, _) = image_batch(as_image(picture.clone(), channels))?.into_parts();
    let (images, _) = images.clone().into_parts();
    let image = channels * height * width;
    let both = pictures.chunks(image).zip(images.chunks(image));
    let both = both.flat_map(|(picture, image)| [picture, image].concat());
    let both = ImageBatch::new(both.collect(), [2 * count, channels, height, width])?;
    Ok(both.grid(GridOptions {
        columns: Some(2 * count.div_ceil(count.isqrt().max(1))),
        ..GridOptions::default()
    })?)
}
