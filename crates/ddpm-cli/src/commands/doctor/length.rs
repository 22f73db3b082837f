//! The run's length against what is paced by it.

use ddpm_diffusion::SampleConfig;
use ddpm_train::{EmaConfig, OptimConfig, TrainConfig, times};

use super::finding::Finding;
use crate::words;

/// The part of a run that warm-up, or half of the average's weight, may take.
const PART: f64 = 0.25;
/// Learning rates above it are seldom stable with Adam.
const HIGH_LR: f64 = 0.01;
/// A longer run is worth more than one checkpoint.
const LONG_RUN: u64 = 5000;

/// The average's half-life, its warm-up included.
pub fn average(ema: &EmaConfig, total: u64) -> Finding {
    if ema.decay == 0.0 {
        return Finding::note(
            "average",
            "`ema.decay = 0` switches it off: samples are drawn with the weights as they are, which are noisier",
        );
    }
    let half_life = ema.half_life_steps(total);
    let text = format!(
        "half of its weight lies on the last {} of {}",
        words::some(half_life.round().max(1.0) as u64, "step"),
        words::some(total, "step")
    );
    match half_life > PART * total as f64 {
        true => Finding::warn(
            "average",
            format!("{text}, so it lags behind the weights; lower `ema.decay`"),
        ),
        false => Finding::ok("average", text),
    }
}

/// The learning rate and its warm-up.
pub fn learning_rate(optim: &OptimConfig, total: u64) -> Vec<Finding> {
    let warm_up = match optim.warmup_steps {
        0 => "no warm-up".to_owned(),
        steps => format!("{} of warm-up", words::some(steps, "step")),
    };
    let text = format!(
        "learning rate {} after {warm_up}, of {}",
        words::short(optim.lr),
        words::some(total, "step")
    );
    let pace = if optim.warmup_steps >= total && optim.warmup_steps > 0 {
        Finding::fail(
            "optimiser",
            format!(
                "{text}: it is never reached; lower `optim.warmup_steps` or raise `train.steps`"
            ),
        )
    } else if optim.warmup_steps as f64 > PART * total as f64 {
        Finding::warn(
            "optimiser",
            format!("{text}: a large part of the run; lower `optim.warmup_steps`"),
        )
    } else {
        Finding::ok("optimiser", text)
    };
    let mut found = vec![pace];
    if optim.lr > HIGH_LR {
        found.push(Finding::warn(
            "optimiser",
            format!(
                "a learning rate of {} is seldom stable; `optim.lr` is usually 1e-4 to 2e-3",
                words::short(optim.lr)
            ),
        ));
    }
    if optim.clip_norm == 0.0 {
        found.push(Finding::note(
            "optimiser",
            "gradients are not clipped: one bad batch can end the run; `optim.clip_norm = 1` is usual",
        ));
    }
    found
}

/// Passes over the data.
pub fn passes(train: &TrainConfig, total: u64, images: usize) -> Vec<Finding> {
    let shown = total as f64 * train.batch as f64;
    let passes = shown / images.max(1) as f64;
    let text = format!(
        "{} of {} are {} over the {}",
        words::some(total, "step"),
        words::some(train.batch as u64, "image"),
        match passes < 10.0 {
            true => format!("{passes:.1} passes"),
            false => format!("{} passes", words::count(passes.round() as u64)),
        },
        words::some(images as u64, "image")
    );
    let mut found = vec![match passes < 1.0 {
        true => Finding::warn(
            "length",
            format!("{text}: some are never seen; raise `train.steps`"),
        ),
        false => Finding::ok("length", text),
    }];
    if train.batch > images {
        found.push(Finding::warn(
            "length",
            format!(
                "a batch of {} shows images of the set more than once; lower `train.batch`",
                words::count(train.batch as u64)
            ),
        ));
    }
    found
}

/// Sample grids and checkpoints.
pub fn rhythm(train: &TrainConfig, sample: &SampleConfig, total: u64) -> Vec<Finding> {
    let grids = times(train.sample_every, total);
    let checkpoints = times(train.checkpoint_every, total);
    let text = format!(
        "{} of {}, {}",
        words::some(grids, "sample grid"),
        words::some(sample.count as u64, "image"),
        words::some(checkpoints, "checkpoint"),
    );
    let mut found = vec![Finding::ok("rhythm", text)];
    let only_at_the_end = |key: &str, every: u64, what: &str| {
        format!("`{key} = {every}` writes {what} only after the last step")
    };
    if checkpoints == 1 && total > LONG_RUN {
        let text = only_at_the_end(
            "train.checkpoint_every",
            train.checkpoint_every,
            "a checkpoint",
        );
        found.push(Finding::warn(
            "rhythm",
            format!("{text}: a crash loses everything; lower it"),
        ));
    }
    if grids == 1 && train.sample_every > total {
        let text = only_at_the_end("train.sample_every", train.sample_every, "samples");
        found.push(Finding::note("rhythm", text));
    }
    if train.log_every > total {
        let text = only_at_the_end("train.log_every", train.log_every, "metrics");
        found.push(Finding::note("rhythm", text));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn levels(found: &[Finding]) -> Vec<Level> {
        found.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_long_half_life_is_warned_of() {
        let ema = EmaConfig::default();
        let fixed = EmaConfig {
            inv_gamma: 1e-6,
            ..ema
        };
        let off = EmaConfig { decay: 0.0, ..ema };
        for (ema, total, level) in [
            (ema, 1000, Level::Ok),
            (fixed, 1000, Level::Warn),
            (fixed, 100_000, Level::Ok),
            (off, 1000, Level::Note),
        ] {
            let finding = average(&ema, total);
            assert_eq!(finding.level, level, "{finding:?}");
        }
        let text = "half of its weight lies on the last 6,931 steps of 800,000 steps";
        assert_eq!(average(&ema, 800_000).text, text);
    }

    #[test]
    fn warm_up_must_end_before_the_run() {
        let optim = |warmup_steps, lr, clip_norm| OptimConfig {
            warmup_steps,
            lr,
            clip_norm,
            ..OptimConfig::default()
        };
        for (optim, expected) in [
            (optim(0, 1e-3, 1.0), vec![Level::Ok]),
            (optim(100, 1e-3, 1.0), vec![Level::Ok]),
            (optim(500, 1e-3, 1.0), vec![Level::Warn]),
            (optim(1000, 1e-3, 1.0), vec![Level::Fail]),
            (optim(0, 0.1, 1.0), vec![Level::Ok, Level::Warn]),
            (optim(0, 1e-3, 0.0), vec![Level::Ok, Level::Note]),
        ] {
            let found = learning_rate(&optim, 1000);
            assert_eq!(levels(&found), expected, "{found:?}");
        }
    }

    #[test]
    fn every_image_should_be_seen() {
        let train = |batch| TrainConfig {
            batch,
            ..TrainConfig::default()
        };
        for (batch, total, images, expected) in [
            (32, 1000, 1797, vec![Level::Ok]),
            (32, 10, 1797, vec![Level::Warn]),
            (64, 10, 3, vec![Level::Ok, Level::Warn]),
        ] {
            let found = passes(&train(batch), total, images);
            assert_eq!(levels(&found), expected, "{found:?}");
        }
        assert_eq!(
            passes(&train(32), 1000, 1797)[0].text,
            "1,000 steps of 32 images are 18 passes over the 1,797 images"
        );
    }

    #[test]
    fn what_is_written_only_at_the_end_is_told() {
        let train = |sample_every, checkpoint_every, log_every| TrainConfig {
            sample_every,
            checkpoint_every,
            log_every,
            ..TrainConfig::default()
        };
        for (train, total, expected) in [
            (train(500, 500, 10), 1000, vec![Level::Ok]),
            (train(0, 0, 10), 1000, vec![Level::Ok]),
            (train(0, 0, 10), 10_000, vec![Level::Ok, Level::Warn]),
            (
                train(2000, 500, 2000),
                1000,
                vec![Level::Ok, Level::Note, Level::Note],
            ),
        ] {
            let found = rhythm(&train, &SampleConfig::default(), total);
            assert_eq!(levels(&found), expected, "{found:?}");
        }
    }
}
