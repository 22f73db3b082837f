//! The training loop, the same on every rank.

use std::sync::Arc;
use std::time::Instant;

use ddpm_data::{Batch, Loader};

use crate::collective::gradients::{Flags, LocalGradients};
use crate::error::TrainError;
use crate::events::Event;
use crate::faults;
use crate::guard::Decision;
use crate::loss_scale::LossScale;
use crate::micro_batch::{Laws, step_inputs};
use crate::pipeline::Submitted;
use crate::position::Position;
use crate::recovery::StepFailure;
use crate::step::{StepReport, TrainState};
use crate::trainer::{Outcome, Trainer};

/// What is known of a step besides its gradients.
struct Computed {
    batch: Arc<Batch>,
    /// The times of the images of each micro-batch, of all ranks.
    times: Vec<Vec<f64>>,
}

impl Trainer {
    /// Trains until the last step, a stop or an error.
    pub(crate) fn run(
        &mut self,
        mut state: TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(Outcome, TrainState), TrainError> {
        let mut loader = self.loader(&state)?;
        // Weights of another model are in the run from the start, so that it goes on wherever that one is.
        if self.config.init.is_some() && self.saved_step.is_none() {
            let failure;
            (state, failure) = self.save(state, observe)?;
            if let Some(failure) = failure {
                return Err(self.diverged(failure));
            }
        }
        // The process may have died between the checkpoint of this step and its samples.
        self.sample_if_missing(&state, observe)?;
        self.evaluate_if_missing(&state, observe)?;

        while !(self.ends_at(state.step) && self.pipeline.is_empty()) {
            // Forward, backward, sum over the ranks, update.
            if !self.ends_at(state.step) {
                state = self.submit(state, &mut loader)?;
            }

            // Read the loss and the norm, and skip what went wrong. A pipeline lags some steps behind the device.
            let mut failure = None;
            while failure.is_none()
                && !self.pipeline.is_empty()
                && (self.pipeline.is_full() || self.pauses_at(state.step))
            {
                (state, failure) = self.finish(state, observe)?;
            }
            if failure.is_none() && !self.pipeline.is_empty() {
                continue;
            }

            // Snapshots of averages, checkpoint.
            if failure.is_none() {
                self.save_averages(&state)?;
                if self.is_checkpoint_due(state.step) {
                    (state, failure) = self.save(state, observe)?;
                }
            }

            // Roll back after too many failures in a row, or sample and judge.
            if let Some(failure) = failure {
                state = self.roll_back(state, failure, observe)?;
                loader = self.loader(&state)?;
            } else {
                if self.is_sample_due(state.step) {
                    self.sample(&state, observe)?;
                }
                if self.is_evaluation_due(state.step) && self.saved_step == Some(state.step) {
                    self.evaluate(&state, observe)?;
                }
            }
        }

        // A stop while samples are drawn, or before the first step, leaves something to go on from too.
        if self.saved_step != Some(state.step) {
            let failure;
            (state, failure) = self.save(state, observe)?;
            if let Some(failure) = failure {
                return Err(self.diverged(failure));
            }
        }
        Ok((self.outcome(state.step), state))
    }

    /// Computes this rank's gradients and sums them over all ranks. The device makes the update, or the host does when
    /// it knows the numbers.
    fn submit(&mut self, state: TrainState, loader: &mut Loader) -> Result<TrainState, TrainError> {
        let (begun, from) = (Instant::now(), state.position());
        // What fails on this rank alone is not returned before the others know.
        let (state, own) = self.compute(state, loader);
        let (local, computed) = match own {
            Ok((local, computed)) => (Ok(local), Some(computed)),
            Err(error) => (Err(error), None),
        };
        let flags = Flags {
            stop: self.stop.is_requested(),
            capture: self.step_config.capture
                && self.checks_finite
                && state.graph.borrow().may_capture(),
        };
        let sum = self.sum.over(self.ranks.as_mut(), local, flags)?;
        (self.stopping, self.capturing) = (sum.flags.stop, sum.flags.capture);
        let Some(Computed { batch, times }) = computed else {
            unreachable!("a step without a batch has failed")
        };

        let measured = state.measure(sum.grads, sum.losses, times, &self.step_config)?;
        let (state, pending, deferred) = match self.pipeline.depth {
            0 => {
                let (grads, pending) = measured.deferred();
                (state, pending, Some(grads))
            }
            _ => {
                let found_inf = &mut self.pipeline.found_inf;
                let (state, pending) =
                    state.update_if_finite(measured, &self.step_config, found_inf);
                (state, pending, None)
            }
        };
        self.pipeline.push(Submitted {
            pending,
            deferred,
            batch,
            from,
            begun,
        });
        Ok(state)
    }

    /// Reads the next batch and computes this rank's gradients.
    fn compute(
        &mut self,
        state: TrainState,
        loader: &mut Loader,
    ) -> (TrainState, Result<(LocalGradients, Computed), TrainError>) {
        let batch = match self.pipeline.next_batch(loader) {
            Ok(batch) => batch,
            Err(error) => return (state, Err(error)),
        };
        let (state, batch) = faults::in_batch(state, batch);
        let computed = self.local_gradients(&state, &batch);
        (
            state,
            computed.map(|(local, times)| (local, Computed { batch, times })),
        )
    }

    /// Forward and backward over this rank's micro-batches; with the times of those of all ranks.
    fn local_gradients(
        &mut self,
        state: &TrainState,
        batch: &Batch,
    ) -> Result<(LocalGradients, Vec<Vec<f64>>), TrainError> {
        let laws = Laws {
            config: &self.step_config,
            learned: &state.learned,
            conditioning: state.model.conditioning(),
            condition: &self.config.condition,
            numbers: &self.numbers,
        };
        let device = self.device.clone().autodiff();
        let inputs = step_inputs(
            laws,
            batch,
            state.step,
            &self.rank_rows,
            &mut self.noise,
            &device,
        );
        self.ranks.begin_turn(self.capturing)?;
        let (first, of) = (self.rank_rows.own.start, self.rank_rows.micro_batches);
        let (config, alone) = (&self.step_config, self.capturing || self.ranks.size() == 1);
        let local = state.local_gradients(inputs.micro_batches, first, of, config, alone);
        if self.capturing && self.ranks.size() > 1 {
            // A capture of the next rank is spoilt by work of this one. What fails here fails again when it is read.
            let _ = self.device.sync();
        }
        self.ranks.end_turn();
        Ok((local?, inputs.times))
    }

    /// Waits for the numbers of the first step of the pipeline, decides what becomes of it, and takes note. The failure
    /// is that too many updates were skipped.
    fn finish(
        &mut self,
        mut state: TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(TrainState, Option<StepFailure>), TrainError> {
        let Some(mut step) = self.pipeline.finish()? else {
            return Ok((state, None));
        };
        let mut failure = None;
        match self.decide(&step.report, &mut step.skipped.loss_scale) {
            Decision::Update { max_norm } => {
                if let Some(grads) = step.deferred {
                    state = state.update(grads, &step.report, &self.step_config, max_norm);
                }
                let time = step.since.elapsed();
                self.averager
                    .add(&step.report, &self.step_config.process, time);
                observe(Event::Step {
                    report: &step.report,
                    images_per_s: self.speed.add(step.report.per_image.len(), time),
                    total: self.step_config.total_steps,
                });
            }
            Decision::LowerScale => {
                state = self.discard(state, step.skipped);
                self.averager.add_skipped();
            }
            Decision::Skip(cause) => {
                state = self.discard(state, step.skipped);
                self.averager.add_skipped();
                let found = StepFailure::new(cause, &step.report);
                failure = self.skipped(found, &step.batch.indices, observe)?;
            }
        }
        if failure.is_none() {
            self.log(step.report.step, step.skipped.images_seen)?;
        }
        Ok((state, failure))
    }

    /// What becomes of a step with these numbers: the only place that decides it.
    fn decide(&mut self, report: &StepReport, scale: &mut LossScale) -> Decision {
        let (loss, grad_norm) = (report.loss, report.grad_norm);
        // Gradients that overflow belong to the search for a loss scale.
        let overflow = loss.is_finite() && !grad_norm.is_finite();
        if overflow && self.step_config.precision.scales_loss() && scale.overflowed() {
            let (step, scale) = (report.step, scale.value());
            tracing::debug!("step {step}: the gradient overflowed; the loss scale is now {scale}");
            return Decision::LowerScale;
        }
        self.guard.decide(&self.config.guard, loss, grad_norm)
    }

    /// Goes on after a step whose update was skipped, since when nothing has moved; what came after it is done again.
    fn discard(&mut self, state: TrainState, skipped: Position) -> TrainState {
        self.pipeline.discard();
        state.at(skipped)
    }
}
