//! What a run does at the marks of its loop: it logs, saves and samples, skips what went wrong, and rolls back when that
//! happens too often. Rank 0 does it, and all ranks know how it went.

use crate::collective::{agree, on_first, replicas};
use crate::error::TrainError;
use crate::events::Event;
use crate::guard::Cause;
use crate::samples::{self, Samples};
use crate::snapshot::{Progress, SavedState};
use crate::step::{StepReport, TrainState};
use crate::trainer::{Trainer, due};

/// A step that went wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepFailure {
    pub(crate) cause: Cause,
    /// The step, counted from 1.
    pub(crate) step: u64,
    /// The loss, or the norm of the gradient.
    pub(crate) value: f64,
}

impl StepFailure {
    pub(crate) fn new(cause: Cause, report: &StepReport) -> Self {
        Self {
            cause,
            step: report.step,
            value: match cause {
                Cause::Gradient => report.grad_norm,
                _ => report.loss,
            },
        }
    }
}

impl Trainer {
    /// Writes a line of metrics if one is due after this step.
    ///
    /// # Errors   if it cannot be written
    pub(crate) fn log(&mut self, step: u64, images_seen: u64) -> Result<(), TrainError> {
        let last = step == self.step_config.total_steps;
        if !(last || due(step, self.config.train.log_every)) {
            return Ok(());
        }
        let Some(line) = self.averager.take(step, images_seen) else {
            return Ok(());
        };
        let output = &mut self.output;
        on_first(self.ranks.as_mut(), || match output {
            Some(output) => Ok(output.metrics.write(&line)?),
            None => Ok(()),
        })
    }

    /// Takes note of a skipped update; the failure is that there were too many in a row.
    ///
    /// # Errors   if the log of those cannot be written
    pub(crate) fn skipped(
        &mut self,
        failure: StepFailure,
        images: &[usize],
        observe: &mut dyn FnMut(Event),
    ) -> Result<Option<StepFailure>, TrainError> {
        let output = &mut self.output;
        on_first(self.ranks.as_mut(), || match output {
            Some(output) => output.log_skip(failure, images, None),
            None => Ok(()),
        })?;
        observe(Event::Skipped {
            step: failure.step,
            cause: failure.cause,
            value: failure.value,
            consecutive: self.guard.consecutive(),
        });
        let too_many = self.guard.consecutive() > self.config.guard.max_consecutive_skips;
        Ok(too_many.then_some(failure))
    }

    /// Writes a snapshot of the power-function averages if one is due.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back, [`TrainError::Store`] if they cannot be written
    pub(crate) fn save_averages(&mut self, state: &TrainState) -> Result<(), TrainError> {
        if !self.are_averages_due(state.step) {
            return Ok(());
        }
        let output = &self.output;
        on_first(self.ranks.as_mut(), || match output {
            Some(output) => output.save_averages(state),
            None => Ok(()),
        })
    }

    /// Commits a checkpoint; if a number in it is not finite, that is the failure.
    ///
    /// # Errors   [`TrainError::ReplicaDiverged`]; if the checkpoint cannot be written
    pub(crate) fn save(
        &mut self,
        mut state: TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(TrainState, Option<StepFailure>), TrainError> {
        let progress = Progress {
            updates: Some(state.updates),
            skips_bytes: 0,
            guard: self.guard.clone(),
            window: self.averager.clone(),
            loss_scale: state.loss_scale,
            learned: state.learned.clone(),
        };
        if !replicas::check(self.ranks.as_mut(), &state)? {
            tracing::warn!(
                "step {}: the devices have rounded the weights differently; all get those of rank 0",
                state.step
            );
            state = self.broadcast(state, progress.clone())?;
        }
        let saved = SavedState {
            progress,
            ..self.saved.clone()
        };
        let output = &mut self.output;
        let finite = on_first(self.ranks.as_mut(), || match output {
            Some(output) => output.save(&state, saved, observe),
            None => Ok(true),
        })?;
        if !finite {
            let failure = StepFailure {
                cause: Cause::State,
                step: state.step,
                value: f64::NAN,
            };
            return Ok((state, Some(failure)));
        }
        self.saved_step = Some(state.step);
        self.checkpoint_due = false;
        Ok((state, None))
    }

    /// Rolls back to the last good checkpoint, once: what happens a second time before there is a newer one would
    /// happen for ever, since the same steps on the same images give the same numbers.
    ///
    /// # Errors   [`TrainError::Diverged`] if there is no checkpoint or the run was back there before
    pub(crate) fn roll_back(
        &mut self,
        state: TrainState,
        failure: StepFailure,
        observe: &mut dyn FnMut(Event),
    ) -> Result<TrainState, TrainError> {
        let from = state.step;
        let model = state.into_model();
        let restored = match &mut self.output {
            None => {
                let tracked = &self.config.ema.power_function;
                Ok((
                    TrainState::new(model).tracking(tracked),
                    Progress::default(),
                ))
            }
            Some(output) => match output.last_checkpoint.clone() {
                Some(path) if output.rolled_back_to.as_ref() != Some(&path) => {
                    let run = (&self.saved, self.dataset.as_ref());
                    output.rolled_back_to = Some(path.clone());
                    // The log of skipped updates is not cut: it is the only trace of what happened.
                    output.restore(&path, model, run, &self.device)
                }
                _ => Err(self.diverged(failure)),
            },
        };
        let (state, progress) = agree(self.ranks.as_mut(), restored)?;
        let state = self.broadcast(state, progress)?;
        self.guard.reset();
        self.pipeline.reset();
        // What was due lies ahead again; an early checkpoint would pass for progress.
        self.checkpoint_due = false;
        self.saved_step = Some(state.step);
        let output = &mut self.output;
        on_first(self.ranks.as_mut(), || match output {
            Some(output) => output.log_skip(failure, &[], Some(state.step)),
            None => Ok(()),
        })?;
        observe(Event::RolledBack {
            from,
            to: state.step,
        });
        Ok(state)
    }

    /// The error that ends a run which does not recover.
    pub(crate) fn diverged(&self, failure: StepFailure) -> TrainError {
        let output = self.output.as_ref();
        let last_good = match output.and_then(|output| output.last_checkpoint.as_ref()) {
            Some(path) => format!("the last good checkpoint is {}", path.display()),
            None => "nothing was saved yet".to_owned(),
        };
        let skips = output.map(|output| output.run.skips_jsonl());
        let batches = skips.map(|path| format!(", the batches are in {}", path.display()));
        TrainError::Diverged {
            quantity: failure.cause.quantity(),
            step: failure.step,
            value: failure.value,
            last_good: last_good + &batches.unwrap_or_default(),
        }
    }

    /// Draws the samples of this step on rank 0.
    ///
    /// # Errors   those of sampling, and of writing the grid
    pub(crate) fn sample(
        &mut self,
        state: &TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        let Self {
            output,
            ranks,
            config,
            plan,
            saved,
            dataset,
            numbers,
            device,
            stop,
            ..
        } = self;
        let image = [saved.channels, saved.height, saved.width];
        on_first(ranks.as_mut(), || match output {
            Some(output) => {
                if let Some(warning) = config.ema_warning(state.updates) {
                    tracing::warn!("these samples: {warning}");
                }
                let model = state.ema_model();
                let told = samples::told(config, (dataset, numbers), &model, device)?;
                output.sample(
                    state.step,
                    &model,
                    &Samples {
                        config,
                        plan,
                        image,
                        told: &told,
                        device,
                        stop,
                    },
                    observe,
                )
            }
            None => Ok(()),
        })
    }

    /// Draws the samples of a step whose checkpoint is there, if they are due and missing.
    ///
    /// # Errors   as [`Trainer::sample`]
    pub(crate) fn sample_if_missing(
        &mut self,
        state: &TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        if state.step == 0 || !self.is_sample_due(state.step) {
            return Ok(());
        }
        let output = &self.output;
        let missing = on_first(self.ranks.as_mut(), || {
            let png = output
                .as_ref()
                .map(|output| output.run.sample_png(state.step));
            Ok(png.is_some_and(|png| !png.exists()))
        })?;
        match missing {
            true => self.sample(state, observe),
            false => Ok(()),
        }
    }
}
