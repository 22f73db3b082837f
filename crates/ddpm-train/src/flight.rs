//! Steps that a device is given before the numbers of the steps before them are there.
//!
//! The device makes an update only if the loss and the gradient are finite and no step before it went wrong
//! ([`ddpm_kernels::Halt`]). So the host can go on as if all went well, and read a step's numbers while the device is
//! at work on the next ones. When it finds that a step went wrong, nothing has moved since: it leaves that update out
//! and gives the device the steps after it once more, so that every number comes out as if it had waited.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use ddpm_data::{Batch, Loader};

use crate::error::TrainError;
use crate::events::Event;
use crate::guard::Verdict;
use crate::position::Position;
use crate::recovery::Trouble;
use crate::speed::Speed;
use crate::state::TrainState;
use crate::trainer::Trainer;
use crate::underway::Unseen;

/// Steps that a card has to do while the host reads the numbers of one before them: the one that it is at, and one
/// that it can begin with at once.
pub const AHEAD: usize = 2;

/// The steps under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    /// How many there may be; none if the host judges every step before its update.
    pub(crate) most: usize,
    under_way: VecDeque<Flight>,
    /// Batches of steps that were begun in vain.
    again: VecDeque<Arc<Batch>>,
    /// When the numbers of the last step came.
    came: Option<Instant>,
}

#[derive(Debug)]
struct Flight {
    unseen: Unseen,
    batch: Arc<Batch>,
    /// Where the step began.
    from: Position,
    begun: Instant,
}

impl Flights {
    /// For devices that judge their steps themselves.
    pub(crate) fn ahead() -> Self {
        Self {
            most: AHEAD,
            ..Self::default()
        }
    }

    /// Whether the numbers of all steps are known.
    pub(crate) fn none(&self) -> bool {
        self.under_way.is_empty()
    }

    /// The next batch, for a run that may have been at it before.
    ///
    /// # Errors   those of [`Loader::next`]
    pub(crate) fn next_batch(&mut self, loader: &mut Loader) -> Result<Arc<Batch>, TrainError> {
        match self.again.pop_front() {
            Some(batch) => Ok(batch),
            None => Ok(Arc::new(loader.next()?)),
        }
    }

    /// Forgets what was begun in vain: the run goes on elsewhere.
    pub(crate) fn forget(&mut self) {
        self.again.clear();
    }
}

impl Trainer {
    /// Gives the device a step, unless the run ends or pauses, and takes the numbers of earlier ones: of all that are
    /// under way if the run pauses here.
    ///
    /// # Errors   those of [`TrainState::compute`]
    pub(crate) fn step_ahead(
        &mut self,
        mut state: TrainState,
        loader: &mut Loader,
        speed: &mut Speed,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(TrainState, Option<Trouble>), TrainError> {
        if !self.ends_at(state.step) {
            state = self.begin(state, loader)?;
        }
        let mut trouble = None;
        while trouble.is_none()
            && !self.flights.none()
            && (self.flights.under_way.len() > self.flights.most || self.pauses_at(state.step))
        {
            (state, trouble) = self.settle(state, speed, observe)?;
        }
        Ok((state, trouble))
    }

    fn begin(&mut self, state: TrainState, loader: &mut Loader) -> Result<TrainState, TrainError> {
        let begun = Instant::now();
        let from = state.position();
        let (state, batch) = self.next(state, loader)?;
        let underway = self.ranks.compute(&state, &batch)?;
        let (state, unseen) = self.ranks.update_unseen(state, underway);
        self.flights.under_way.push_back(Flight {
            unseen,
            batch,
            from,
            begun,
        });
        Ok(state)
    }

    /// Waits for the numbers of the first step that is under way.
    fn settle(
        &mut self,
        mut state: TrainState,
        speed: &mut Speed,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(TrainState, Option<Trouble>), TrainError> {
        let Some(flight) = self.flights.under_way.pop_front() else {
            return Ok((state, None));
        };
        let report = flight.unseen.wait()?;
        let since = self.flights.came.replace(Instant::now());
        let time = since.map_or(flight.begun, |came| came.max(flight.begun));
        let rows = report.per_image.len() as u64;
        let mut position = flight.from.skipped(rows);
        let (loss, grad_norm) = (report.loss, report.grad_norm);
        if self.overflowed(&mut position.loss_scale, report.step, loss, grad_norm) {
            state = self.retract(state, position);
            self.log(state.step, state.images_seen)?;
            return Ok((state, None));
        }
        match self.guard.judge(&self.config.guard, loss, grad_norm) {
            Verdict::Update { .. } => {
                self.updated(&report, time.elapsed(), speed, observe);
                self.log(report.step, position.images_seen)?;
                Ok((state, None))
            }
            Verdict::Skip(cause) => {
                state = self.retract(state, position);
                let images = &flight.batch.indices;
                let trouble =
                    self.left_out(cause, state.step, (loss, grad_norm), images, observe)?;
                if trouble.is_none() {
                    self.log(state.step, state.images_seen)?;
                }
                Ok((state, trouble))
            }
        }
    }

    /// Goes on from a step that went wrong, since when nothing has moved; what came after it is to be done again.
    fn retract(&mut self, state: TrainState, position: Position) -> TrainState {
        self.ranks.clear_halt();
        while let Some(flight) = self.flights.under_way.pop_back() {
            self.flights.again.push_front(flight.batch);
        }
        state.at(position)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use burn::tensor::Device;
    use ddpm_data::Dataset;
    use ddpm_store::{RunDir, averages};
    use serde_json::Value;

    use super::*;
    use crate::config::Config;
    use crate::ema::SigmaRels;
    use crate::stop::Stop;
    use crate::trainer::{Job, Start};

    /// What a run leaves: the files of its last checkpoint and of its snapshots of averages, its metrics without their speed, the
    /// skipped updates.
    #[derive(PartialEq)]
    struct Left {
        checkpoint: Vec<(String, Vec<u8>)>,
        metrics: Vec<Value>,
        skips: String,
        told: Vec<String>,
    }

    fn config() -> Config {
        let mut config = crate::testing::tiny(0.1);
        config.train.batch = 8;
        config.train.accumulate = 2;
        config.train.steps = Some(9);
        config.train.log_every = 2;
        config.train.sample_every = 0;
        config.train.checkpoint_every = 4;
        config.sample.count = 1;
        config.sample.steps = Some(2);
        config.guard.max_consecutive_skips = 2;
        config.ema.power_function = SigmaRels::new(&[0.05, 0.1]).unwrap();
        config.ema.snapshot_every = Some(3);
        config
    }

    /// A run with so many steps under way at most, on batches of which some hold a number that is none.
    fn run(most: usize, bad: &[usize]) -> Left {
        let folder = tempfile::tempdir().unwrap();
        let validated = config().validate().unwrap();
        let dataset = Dataset::load(&validated.config.data, 0, &mut |_, _| {}).unwrap();
        let run = RunDir::create(folder.path().join("run")).unwrap();
        run.write_config("").unwrap();
        let (metrics, skips) = (run.metrics_jsonl(), run.skips_jsonl());
        let job = Job {
            validated,
            dataset: Arc::new(dataset),
            run,
            devices: vec![Device::flex()],
            stop: Stop::default(),
            start: Start::Fresh,
        };
        let (mut trainer, state) = Trainer::prepare(job).unwrap();
        trainer.flights.most = most;
        let mut loader = trainer.loader(&state).unwrap();
        for i in 0..9 {
            let mut batch = loader.next().unwrap();
            if bad.contains(&i) {
                batch.pixels[i] = f32::NAN;
            }
            trainer.flights.again.push_back(Arc::new(batch));
        }
        let mut told = Vec::new();
        let mut observe = |event: Event| match event {
            Event::Step { report, .. } => told.push(format!("{} {}", report.step, report.loss)),
            Event::Skipped { step, .. } => told.push(format!("{step} skipped")),
            Event::RolledBack { from, to } => told.push(format!("{from} back to {to}")),
            _ => {}
        };
        let outcome = trainer.run(state, &mut observe).unwrap();
        let mut checkpoint = Vec::new();
        for file in ["unet", "ema"].map(|f| format!("{f}/diffusion_pytorch_model.safetensors")) {
            checkpoint.push((
                file.clone(),
                fs::read(outcome.checkpoint.join(file)).unwrap(),
            ));
        }
        let slots = "optimiser.safetensors".to_owned();
        let bytes = fs::read(outcome.checkpoint.join(&slots)).unwrap();
        checkpoint.push((slots, bytes));
        let snapshots = averages::list(&trainer.run).unwrap();
        assert_eq!(snapshots.len(), 6, "steps 3, 6 and 9");
        for file in snapshots {
            let bytes = fs::read(&file.path).unwrap();
            checkpoint.push((format!("{} {}", file.step, file.sigma_rel), bytes));
        }
        let lines = fs::read_to_string(metrics).unwrap();
        let metrics = lines.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("images_per_s");
            line
        });
        Left {
            checkpoint,
            metrics: metrics.collect(),
            skips: fs::read_to_string(skips).unwrap(),
            told,
        }
    }

    #[track_caller]
    fn same(bad: &[usize]) -> Vec<String> {
        let waiting = run(0, bad);
        for most in [1, 2, 5] {
            let ahead = run(most, bad);
            assert_eq!(ahead.told, waiting.told, "{most} ahead");
            assert_eq!(ahead.metrics, waiting.metrics, "{most} ahead");
            assert_eq!(ahead.skips, waiting.skips, "{most} ahead");
            assert!(ahead.checkpoint == waiting.checkpoint, "{most} ahead");
        }
        waiting.told
    }

    #[test]
    fn who_goes_ahead_comes_to_the_same_bits() {
        assert_eq!(same(&[]).len(), 9);
    }

    #[test]
    fn steps_that_go_wrong_are_left_out_and_those_after_them_done_again() {
        // The first, one before a checkpoint, two in a row, the last.
        let told = same(&[0, 3, 6, 8]);
        assert_eq!(
            told.iter().filter(|line| line.ends_with("skipped")).count(),
            4
        );
        assert_eq!(same(&[5, 6]).len(), 9);
    }

    #[test]
    fn too_many_take_the_run_back() {
        let told = same(&[4, 5, 6]);
        assert_eq!(told[7], "7 back to 4", "{told:?}");
        // From there on the batches are good.
        assert_eq!(told.len(), 8 + 5);
    }
}
