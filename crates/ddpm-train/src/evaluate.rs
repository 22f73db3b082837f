//! How good a run's samples are while it trains, and which checkpoint draws best.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::ControlFlow;

use ddpm_model::Drawing;
use ddpm_store::ImageBatch;
use ddpm_store::trend::{self, Point};
use ddpm_unet::Model;

use crate::collective::on_first;
use crate::config::Config;
use crate::error::TrainError;
use crate::events::Event;
use crate::run_output::RunOutput;
use crate::samples::{self, Samples};
use crate::step::TrainState;
use crate::trainer::{Trainer, due};

/// Says how good images are.
pub trait Evaluate: Debug + Send {
    /// Judges `train.eval_n` samples, in the batches that they were drawn in.
    ///
    /// # Errors   a sentence that says what is wrong
    fn evaluate(&mut self, images: Vec<ImageBatch>) -> Result<Evaluated, String>;
}

/// Figures of a run's samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// By their names.
    pub figures: BTreeMap<&'static str, f64>,
    /// The one by which checkpoints are compared; lower is better.
    pub score: f64,
}

/// Samples that are drawn at a time.
const BATCH: usize = 64;

impl Trainer {
    /// Whether samples are to be judged after this step.
    pub(crate) fn is_evaluation_due(&self, step: u64) -> bool {
        let every = self.config.train.eval_every;
        every > 0 && (step == self.step_config.total_steps || due(step, every))
    }

    /// Judges the samples of this step on rank 0. Its checkpoint is there already.
    ///
    /// # Errors   those of sampling; [`TrainError::Evaluation`]
    pub(crate) fn evaluate(
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
            evaluator,
            ..
        } = self;
        let image = [saved.channels, saved.height, saved.width];
        on_first(ranks.as_mut(), || {
            let (Some(output), Some(evaluator)) = (output, evaluator) else {
                return Ok(());
            };
            let mut config = config.clone();
            config.sample.count = config.train.eval_n;
            let model = state.ema_model();
            let told = samples::told(&config, (dataset, numbers), &model, device)?;
            let samples = Samples {
                config: &config,
                plan,
                image,
                told: &told,
                device,
                stop,
            };
            output.evaluate(state.step, &model, &samples, evaluator.as_mut(), observe)
        })
    }

    /// Judges the samples of a step whose checkpoint is there, if that is due and was not done.
    ///
    /// # Errors   as [`Trainer::evaluate`]
    pub(crate) fn evaluate_if_missing(
        &mut self,
        state: &TrainState,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        if state.step == 0 || !self.is_evaluation_due(state.step) {
            return Ok(());
        }
        let output = &self.output;
        let missing = on_first(self.ranks.as_mut(), || match output {
            Some(output) => {
                let points = trend::read(&output.run)?;
                Ok(points.iter().all(|point| point.step != state.step))
            }
            None => Ok(false),
        })?;
        match missing {
            true => self.evaluate(state, observe),
            false => Ok(()),
        }
    }
}

impl RunOutput {
    fn evaluate(
        &mut self,
        step: u64,
        model: &Model,
        samples: &Samples<'_>,
        evaluator: &mut dyn Evaluate,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        let Config { seed, train, .. } = samples.config;
        let drawing = Drawing {
            model,
            plan: samples.plan,
            image: samples.image,
            told: samples.told,
            guide: None,
            seed: *seed,
            first: 0,
            n: train.eval_n,
            batch: BATCH,
            device: samples.device,
            precision: train.precision,
        };
        let batches = train.eval_n.div_ceil(BATCH);
        let mut drawn = Vec::new();
        let done = drawing.run::<TrainError>(
            &mut |from, progress| {
                observe(Event::Sampling {
                    done: from / BATCH * progress.of + progress.step,
                    total: batches * progress.of,
                });
                match samples.stop.is_requested() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
            &mut |_, images| {
                drawn.push(images);
                Ok(())
            },
        )?;
        if done < train.eval_n {
            // The run is to end: the state counts, and going on judges it.
            return Ok(());
        }
        let found = evaluator.evaluate(drawn);
        let Evaluated { figures, score } =
            found.map_err(|problem| TrainError::Evaluation { step, problem })?;
        let best = trend::best(&self.run)?;
        let is_best = best.is_none_or(|best| score < best.score);
        trend::add(
            &self.run,
            &Point {
                step,
                score,
                n: train.eval_n,
                figures: figures
                    .iter()
                    .map(|(name, figure)| ((*name).to_owned(), *figure))
                    .collect(),
            },
        )?;
        observe(Event::Evaluated {
            step,
            figures: &figures,
            is_best,
        });
        Ok(())
    }
}
