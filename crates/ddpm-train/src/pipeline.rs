//! Steps that a device has been given, in a queue: it is at work on the next ones while the host reads the numbers of
//! one before them.
//!
//! At a depth of 0 the host knows a step's numbers before it makes the update. At a depth above, the device makes the
//! update only if the loss and the gradient are finite and no step before it went wrong ([`ddpm_kernels::FoundInf`]),
//! and the host goes on as if all went well. When it finds that a step went wrong, nothing has moved since: it skips that
//! update and gives the device the steps after it once more, so that every number comes out as at a depth of 0.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use ddpm_data::{Batch, Loader};
use ddpm_kernels::FoundInf;

use crate::error::TrainError;
use crate::pending::PendingStep;
use crate::position::Position;
use crate::step::{ScaledGradients, StepReport};

/// Steps that a GPU has to do while the host reads the numbers of one before them: the one that it is at, and one that
/// it can begin with at once.
pub const PIPELINE_DEPTH: usize = 2;

/// The queue.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// How many steps may wait for their numbers while another is begun.
    pub(crate) depth: usize,
    pub(crate) found_inf: FoundInf,
    steps: VecDeque<Submitted>,
    /// Batches of steps that were begun in vain.
    again: VecDeque<Arc<Batch>>,
    /// When the numbers of the last step came.
    finished: Option<Instant>,
}

/// A step that the device was given.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) pending: PendingStep,
    /// Its gradients, if the update waits for the numbers.
    pub(crate) deferred: Option<ScaledGradients>,
    pub(crate) batch: Arc<Batch>,
    /// Where the step began.
    pub(crate) from: Position,
    pub(crate) begun: Instant,
}

/// A step whose numbers have come.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) report: StepReport,
    pub(crate) deferred: Option<ScaledGradients>,
    pub(crate) batch: Arc<Batch>,
    /// Where a run is that skipped it.
    pub(crate) skipped: Position,
    /// Since when the device has been at it.
    pub(crate) since: Instant,
}

impl Pipeline {
    pub(crate) fn new(depth: usize, found_inf: FoundInf) -> Self {
        Self {
            depth,
            found_inf,
            steps: VecDeque::new(),
            again: VecDeque::new(),
            finished: None,
        }
    }

    /// Whether the numbers of all steps are known.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether there are as many steps as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.steps.len() > self.depth
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

    pub(crate) fn push(&mut self, step: Submitted) {
        self.steps.push_back(step);
    }

    /// Waits for the numbers of the first step, if there is one.
    ///
    /// # Errors   those of [`PendingStep::wait`]
    pub(crate) fn finish(&mut self) -> Result<Option<Finished>, TrainError> {
        let Some(step) = self.steps.pop_front() else {
            return Ok(None);
        };
        let report = step.pending.wait()?;
        let last = self.finished.replace(Instant::now());
        Ok(Some(Finished {
            skipped: step.from.skipped(report.per_image.len() as u64),
            report,
            deferred: step.deferred,
            batch: step.batch,
            since: last.map_or(step.begun, |last| last.max(step.begun)),
        }))
    }

    /// Takes back all steps after one that went wrong: their batches come again.
    pub(crate) fn discard(&mut self) {
        self.found_inf.clear();
        while let Some(step) = self.steps.pop_back() {
            self.again.push_front(step.batch);
        }
    }

    /// Forgets what was begun in vain: the run goes on elsewhere.
    pub(crate) fn reset(&mut self) {
        self.again.clear();
    }

    /// Lets these batches come before the loader's.
    #[cfg(test)]
    pub(crate) fn replay(&mut self, batches: impl IntoIterator<Item = Batch>) {
        self.again.extend(batches.into_iter().map(Arc::new));
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
    use crate::collective::Solo;
    use crate::config::Config;
    use crate::ema::SigmaRels;
    use crate::events::Event;
    use crate::stop::Stop;
    use crate::trainer::{RankJob, Start, Trainer};

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
        config.train.accumulate = Some(2);
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

    /// A run with a pipeline of this depth, on batches of which some hold a NaN.
    fn run(depth: usize, bad: &[usize]) -> Left {
        let folder = tempfile::tempdir().unwrap();
        let validated = config().validate().unwrap();
        let dataset = Dataset::load(&validated.config.data, 0, &mut |_, _| {}).unwrap();
        let run = RunDir::create(folder.path().join("run")).unwrap();
        run.write_config("").unwrap();
        let (metrics, skips) = (run.metrics_jsonl(), run.skips_jsonl());
        let fingerprint = dataset.fingerprint(&[]).unwrap();
        let job = RankJob {
            validated,
            dataset: Arc::new(dataset),
            fingerprint,
            run: Some(run),
            device: Device::flex(),
            ranks: Box::new(Solo),
            stop: Stop::default(),
            start: Start::Fresh,
            evaluator: None,
        };
        let (mut trainer, state) = Trainer::prepare(job).unwrap();
        trainer.pipeline.depth = depth;
        let mut loader = trainer.loader(&state).unwrap();
        let batches = (0..9).map(|i| {
            let mut batch = loader.next().unwrap();
            if bad.contains(&i) {
                batch.pixels[i] = f32::NAN;
            }
            batch
        });
        trainer.pipeline.replay(batches);
        let mut told = Vec::new();
        let mut observe = |event: Event| match event {
            Event::Step { report, .. } => told.push(format!("{} {}", report.step, report.loss)),
            Event::Skipped { step, .. } => told.push(format!("{step} skipped")),
            Event::RolledBack { from, to } => told.push(format!("{from} back to {to}")),
            _ => {}
        };
        let (outcome, _) = trainer.run(state, &mut observe).unwrap();
        let folder = outcome.checkpoint.unwrap();
        let mut checkpoint = Vec::new();
        for file in ["unet", "ema"].map(|f| format!("{f}/diffusion_pytorch_model.safetensors")) {
            checkpoint.push((file.clone(), fs::read(folder.join(file)).unwrap()));
        }
        let optimiser = "optimiser.safetensors".to_owned();
        let bytes = fs::read(folder.join(&optimiser)).unwrap();
        checkpoint.push((optimiser, bytes));
        let snapshots = averages::list(&trainer.output.as_ref().unwrap().run).unwrap();
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
        let synchronous = run(0, bad);
        for depth in [1, 2, 5] {
            let pipelined = run(depth, bad);
            assert_eq!(pipelined.told, synchronous.told, "depth {depth}");
            assert_eq!(pipelined.metrics, synchronous.metrics, "depth {depth}");
            assert_eq!(pipelined.skips, synchronous.skips, "depth {depth}");
            assert!(
                pipelined.checkpoint == synchronous.checkpoint,
                "depth {depth}"
            );
        }
        synchronous.told
    }

    #[test]
    fn pipelined_steps_match_synchronous_steps_bitwise() {
        assert_eq!(same(&[]).len(), 9);
    }

    #[test]
    fn failed_steps_are_skipped_and_those_after_them_done_again() {
        // The first, one before a checkpoint, two in a row, the last.
        let told = same(&[0, 3, 6, 8]);
        assert_eq!(
            told.iter().filter(|line| line.ends_with("skipped")).count(),
            4
        );
        assert_eq!(same(&[5, 6]).len(), 9);
    }

    #[test]
    fn too_many_failures_roll_the_run_back() {
        let told = same(&[4, 5, 6]);
        assert_eq!(told[7], "7 back to 4", "{told:?}");
        // From there on the batches are good.
        assert_eq!(told.len(), 8 + 5);
    }
}
