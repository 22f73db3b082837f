//! `--minutes`: a run's length from a few measured steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_train::{Probe, Validated};

use super::super::measure::measure;
use crate::exit::UsageError;
use crate::{terminal, words};

/// Steps that are measured after the first ones.
const MEASURED_STEPS: usize = 5;
/// Of the time that is left, what measuring may take.
const MEASURING_SHARE: f64 = 0.2;
/// Of the time that is left, what sample grids may take.
const GRIDS_SHARE: f64 = 0.25;
/// Sample grids of a run whose time allows them.
const GRIDS: u64 = 4;
/// Of the time that is left, what training and sampling are planned for: checkpoints and the end of the run need the
/// rest.
const PLANNED_SHARE: f64 = 0.95;

/// How long a run is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Optimiser steps.
    pub steps: u64,
    /// Sample grids, the last one included.
    pub grids: u64,
}

/// The longest run that `seconds` allow, of which every step draws `judged` grids' worth of samples to be judged, on average.
pub fn length(seconds: f64, nfe: usize, judged: f64, probe: &Probe) -> Length {
    let grid_s = probe.evaluation_s.unwrap_or_default() * nfe as f64;
    let allowed = (seconds * GRIDS_SHARE / grid_s.max(1e-9)).floor();
    let grids = (allowed as u64).clamp(1, GRIDS);
    let training_s = seconds * PLANNED_SHARE - grid_s * grids as f64;
    let step_s = probe.step_s() + judged * grid_s;
    Length {
        steps: ((training_s / step_s.max(1e-9)).floor().max(0.0) as u64).max(1),
        grids,
    }
}

/// Refuses what is no time, and a length that `set`, the `--set` arguments, gives besides.
///
/// # Errors   [`UsageError`] if `minutes` is not a positive number, or is not the only length
pub fn check(minutes: f64, set: &[String]) -> Result<(), UsageError> {
    for key in ["train.steps", "train.epochs"] {
        if is_set(set, key) {
            return Err(UsageError(format!(
                "--minutes {minutes}: `{key}` is set too; leave one of them out"
            )));
        }
    }
    match minutes > 0.0 && minutes <= 1e6 {
        true => Ok(()),
        false => Err(UsageError(format!(
            "--minutes {minutes}: must be a positive number of minutes, such as 30"
        ))),
    }
}

/// Whether one of the `--set` arguments is of `key`.
fn is_set(set: &[String], key: &str) -> bool {
    set.iter()
        .any(|argument| argument.split('=').next().map(str::trim) == Some(key))
}

/// Measures a few steps and gives the run the length that ends `minutes` after `start`; what `set`, the `--set` arguments, says stands.
///
/// # Errors   those of training, and of a configuration that is not valid with its new length
pub fn fit(
    validated: Validated,
    dataset: &Arc<Dataset>,
    devices: &[Device],
    minutes: f64,
    set: &[String],
    start: Instant,
    quiet: bool,
) -> Result<Validated> {
    let all_s = minutes * 60.0;
    let left = |start: Instant| (all_s - start.elapsed().as_secs_f64()).max(0.0);
    let budget = Duration::from_secs_f64(left(start) * MEASURING_SHARE);
    let measured = measure(
        &validated,
        dataset.clone(),
        devices,
        MEASURED_STEPS,
        budget,
        quiet,
    )?;
    let (train, sample) = (&validated.config.train, &validated.config.sample);
    let judged = match train.eval_every {
        0 => 0.0,
        every => train.eval_n as f64 / (sample.count.max(1) as f64 * every as f64),
    };
    let Length { steps, grids } = length(
        left(start),
        validated
            .plan
            .evaluations()
            .unwrap_or(validated.plan.steps()),
        judged,
        &measured,
    );
    let mut config = validated.config;
    let train = &mut config.train;
    train.steps = Some(steps);
    train.epochs = None;
    // As many grids and checkpoints as there is time for, the last at the end, unless they are set.
    if !is_set(set, "train.sample_every") {
        train.sample_every = if grids == 1 { 0 } else { steps.div_ceil(grids) };
    }
    if !is_set(set, "train.checkpoint_every") {
        train.checkpoint_every = steps.div_ceil(GRIDS);
    }
    if !is_set(set, "optim.warmup_steps") {
        config.optim.warmup_steps = config.optim.warmup_steps.min(steps / 10);
    }
    if !quiet {
        terminal::show(&format!(
            "length   {} of {} in {minutes} min: one takes {}\n",
            words::some(steps, "step"),
            words::some(config.train.batch as u64, "image"),
            words::seconds(measured.step_s()),
        ));
    }
    Ok(config.validate()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_fills_its_time() {
        let probe = |step, evaluation_s| Probe {
            first_step_s: 9.0,
            steps_s: vec![step],
            evaluation_s,
        };
        let of = |seconds, step, evaluation| length(seconds, 50, 0.0, &probe(step, evaluation));
        // Four grids of 50 evaluations of 0.1 s are 20 s, of 570.
        let expected = Length {
            steps: 5500,
            grids: 4,
        };
        assert_eq!(of(600.0, 0.1, Some(0.1)), expected);
        // Two grids of 50 s are all that a quarter of 400 s holds.
        let slow = of(400.0, 1.0, Some(1.0));
        assert_eq!((slow.steps, slow.grids), (280, 2));
        // No time at all still is a run.
        assert_eq!(of(0.0, 1.0, Some(1.0)), Length { steps: 1, grids: 1 });
        assert_eq!(of(100.0, 1.0, None).steps, 95);
        // 256 images every 100 steps are 16 grids of 16, 0.8 s a step.
        let judging = length(600.0, 50, 0.16, &probe(0.1, Some(0.1)));
        assert_eq!((judging.steps, judging.grids), (611, 4));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for minutes in [0.0, -3.0, f64::NAN, f64::INFINITY] {
            assert!(check(minutes, &[]).is_err(), "{minutes}");
        }
        let set = |argument: &str| [argument.to_owned()];
        assert!(check(0.5, &set("train.batch=4")).is_ok());
        for length in ["train.steps=4", "train.epochs =2"] {
            assert!(check(0.5, &set(length)).is_err(), "{length}");
        }
    }
}
