//! What a run does when steps go wrong: it writes them down, and goes back when they are too many.

use std::path::Path;

use ddpm_store::{averages, checkpoint};
use ddpm_unet::Model;
use serde::Serialize;

use crate::error::TrainError;
use crate::events::Event;
use crate::guard::Cause;
use crate::snapshot;
use crate::state::TrainState;
use crate::trainer::Trainer;

/// A step that went wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    pub(crate) cause: Cause,
    /// The step, counted from 1.
    pub(crate) step: u64,
    /// The loss, or the norm of the gradient.
    pub(crate) value: f64,
}

/// A line of the log of updates that were left out.
#[derive(Debug, Serialize)]
struct Line<'a> {
    step: u64,
    cause: Cause,
    /// As text: JSON has no numbers that are none.
    value: String,
    /// The numbers of the batch's images in the data set, in the order of the batch.
    images: &'a [usize],
    /// The step that the run went back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    went_back_to: Option<u64>,
}

impl Trainer {
    /// Writes a step whose update was left out into the log of those, with the images that it was about.
    pub(crate) fn note_skip(
        &mut self,
        trouble: Trouble,
        images: &[usize],
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        self.write_line(trouble, images, None)?;
        observe(Event::Skipped {
            step: trouble.step,
            cause: trouble.cause,
            value: trouble.value,
            consecutive: self.guard.consecutive(),
        });
        Ok(())
    }

    fn write_line(
        &mut self,
        trouble: Trouble,
        images: &[usize],
        went_back_to: Option<u64>,
    ) -> Result<(), TrainError> {
        self.skips.write(&Line {
            step: trouble.step,
            cause: trouble.cause,
            value: trouble.value.to_string(),
            images,
            went_back_to,
        })?;
        Ok(())
    }

    /// The state of a checkpoint, into the trainer and the returned value, with the length that the log of left-out
    /// updates had then.
    pub(crate) fn restore(
        &mut self,
        path: &Path,
        model: Model,
    ) -> Result<(TrainState, u64), TrainError> {
        let loaded = checkpoint::load(path)?;
        let data = self.saved.data.clone().unwrap_or_default();
        let describe = || self.dataset.describe();
        let saved = snapshot::check(path, &loaded, &self.config, &data, describe)?;
        self.metrics.truncate_at(loaded.metrics_bytes)?;
        let updates = saved.updates_at(loaded.step);
        let device = self.device.clone().autodiff();
        let tracked = &self.config.ema.power_function;
        let mut state = snapshot::restore(path, loaded, updates, tracked, model, &device)?;
        averages::supersede(&self.run, state.step)?;
        state.loss_scale = saved.progress.loss_scale;
        state.learned = saved.progress.learned;
        self.guard = saved.progress.guard;
        self.window = saved.progress.window;
        self.last_checkpoint = Some(path.to_owned());
        self.saved_step = Some(state.step);
        Ok((state, saved.progress.skips_bytes))
    }

    /// Goes back to the last good checkpoint, once: what happens a second time before there is a newer one would
    /// happen for ever, since the same steps on the same images give the same numbers.
    ///
    /// # Errors   [`TrainError::Diverged`] if there is no checkpoint or the run was back there before
    pub(crate) fn go_back(
        &mut self,
        state: TrainState,
        trouble: Trouble,
        observe: &mut dyn FnMut(Event),
    ) -> Result<TrainState, TrainError> {
        let back = match &self.last_checkpoint {
            Some(path) if self.gone_back_to.as_ref() != Some(path) => path.clone(),
            _ => return Err(self.diverged(trouble)),
        };
        let from = state.step;
        // The log of left-out updates is not cut: it is the only trace of what happened.
        let (state, _) = self.restore(&back, state.model)?;
        self.ranks.mirror(&state, &self.saved)?;
        self.guard.forgive();
        self.gone_back_to = Some(back);
        self.write_line(trouble, &[], Some(state.step))?;
        observe(Event::RolledBack {
            from,
            to: state.step,
        });
        Ok(state)
    }

    /// The error that ends a run which does not recover.
    pub(crate) fn diverged(&self, trouble: Trouble) -> TrainError {
        let last_good = match &self.last_checkpoint {
            Some(path) => format!("the last good checkpoint is {}", path.display()),
            None => "nothing was saved yet".to_owned(),
        };
        TrainError::Diverged {
            quantity: trouble.cause.quantity(),
            step: trouble.step,
            value: trouble.value,
            last_good: format!(
                "{last_good}, the batches are in {}",
                self.run.skips_jsonl().display()
            ),
        }
    }
}
