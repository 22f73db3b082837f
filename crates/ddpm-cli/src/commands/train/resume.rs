//! `--resume`: which run, whether it is the same, and what a new length does to its learning rate.

use std::path::Path;

use anyhow::Result;
use ddpm_store::RunDir;
use ddpm_train::{Config, Decay, TrainError, differences, learning_rate};

use super::super::RUNS;
use crate::args::TrainArgs;
use crate::exit::UsageError;
use crate::recipe::{self, Recipe};
use crate::words;

/// The run that `--resume` means.
pub fn find_resumed(args: &TrainArgs) -> Result<Option<RunDir>> {
    if !args.resume {
        return Ok(None);
    }
    if let Some(data) = &args.config.data {
        return Err(UsageError(format!(
            "--data {}: a resumed run has its images; if they moved, say where with --set data.path=PATH",
            data.display()
        ))
        .into());
    }
    if let Some(init) = &args.config.init {
        return Err(UsageError(format!(
            "--init {}: a resumed run goes on with its own weights; leave --init out, or start a new run without \
             --resume",
            init.display()
        ))
        .into());
    }
    match &args.run {
        Some(path) => Ok(Some(RunDir::open(path)?)),
        None => {
            let latest = if Path::new(RUNS).is_dir() {
                RunDir::latest(RUNS)?
            } else {
                None
            };
            match latest {
                Some(run) => Ok(Some(run)),
                None => Err(UsageError(format!(
                    "--resume: there is no run below {RUNS}/; name one with --run, or train without --resume"
                ))
                .into()),
            }
        }
    }
}

/// A run goes on only as what it was: architecture, data, seed and objective. Whatever else changed is said. Returns
/// its configuration so far.
pub fn refuse_another_run(run: &RunDir, recipe: &mut Recipe) -> Result<Config> {
    let was = recipe::read(Some(&run.config_toml()), &[], None)?.config;
    recipe.keep_init_of(&was);
    recipe.keep_attention_of(&was);
    let config = &recipe.config;
    let (identity, rest): (Vec<_>, Vec<_>) = differences(&was, config)
        .into_iter()
        .partition(|change| change.identity);
    if !identity.is_empty() {
        let changes: Vec<String> = identity.iter().map(ToString::to_string).collect();
        return Err(TrainError::Identity {
            path: run.path().to_owned(),
            changes: changes.join(", "),
        }
        .into());
    }
    let (tracked, now) = (&was.ema.power_function, &config.ema.power_function);
    if let Some(new) = now.iter().find(|sigma_rel| !tracked.contains(sigma_rel)) {
        return Err(TrainError::Config {
            key: "ema.power_function",
            got: format!("{now:?}"),
            expected: format!(
                "the average of {new} was not tracked so far, and none can begin in the middle of a run; take it out, or \
                 start a new run without --resume"
            ),
        }
        .into());
    }
    for change in rest {
        tracing::warn!("resuming with a change: {change}");
    }
    Ok(was)
}

/// The learning rate that a run goes on with, if its new length makes it another: a decay stretches over all steps.
pub fn learning_rate_change(
    was: &Config,
    now: &Config,
    images: usize,
    step: u64,
) -> Option<String> {
    let rate = |config: &Config| {
        let optim = &config.optim;
        let total = config.train.total_steps(images);
        learning_rate(optim.lr, optim.warmup_steps, optim.decay, step, total)
    };
    let total = |config: &Config| config.train.total_steps(images);
    let (before, after) = (rate(was), rate(now));
    let only_the_length =
        was.optim == now.optim && was.optim.decay != Decay::Constant && total(was) != total(now);
    (only_the_length && before.to_bits() != after.to_bits()).then(|| {
        format!(
            "the learning rate of step {step} was planned as {} and is now {}, because `optim.decay` spans all of {} \
             instead of {}; set `optim.lr` lower if that is too much",
            words::short(rounded_to_two_digits(before)),
            words::short(rounded_to_two_digits(after)),
            words::some(total(now), "step"),
            words::count(total(was)),
        )
    })
}

fn rounded_to_two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_run_with_a_decay_says_its_new_rate() {
        let config = |steps, decay| {
            let mut config = Config::default();
            config.train.steps = Some(steps);
            config.optim.decay = decay;
            config.optim.lr = 1e-3;
            config
        };
        let of = |was, now, decay| {
            learning_rate_change(&config(was, decay), &config(now, decay), 10, 100)
        };
        assert_eq!(
            of(100, 200, Decay::Cosine).unwrap(),
            "the learning rate of step 100 was planned as 0 and is now 5e-4, because `optim.decay` spans all of 200 \
             steps instead of 100; set `optim.lr` lower if that is too much"
        );
        assert_eq!(of(200, 200, Decay::Cosine), None);
        assert_eq!(of(100, 200, Decay::Constant), None);
    }
}
