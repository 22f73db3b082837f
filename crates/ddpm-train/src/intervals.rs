//! How often things happen in a run.

use crate::config::TrainConfig;

/// How often something happens that is done every `every` steps (0: never) and after the last of `total`.
pub fn times(every: u64, total: u64) -> u64 {
    match every {
        0 => 1,
        _ => total / every + u64::from(!total.is_multiple_of(every)),
    }
}

/// The most checkpoints that a run of `total` steps has on disk at once: those that are kept, for a while or for
/// good, and the one that is being written.
pub fn checkpoints_on_disk(train: &TrainConfig, total: u64) -> u64 {
    // With evaluations there is a checkpoint for each, and the best one stays.
    let (judged, best) = match train.eval_every {
        0 => (0, 0),
        every => (times(every, total), 1),
    };
    let written = times(train.checkpoint_every, total).saturating_add(judged);
    let for_good = match (train.keep_every, train.checkpoint_every) {
        (0, _) | (_, 0) => 0,
        // Steps that are multiples of both; where there is no such number below 2^64, none.
        (keep, every) => (keep / gcd(keep, every))
            .checked_mul(every)
            .map_or(0, |both| total / both),
    };
    (train.keep as u64)
        .saturating_add(1)
        .saturating_add(for_good)
        .saturating_add(best)
        .min(written)
}

/// The greatest common divisor (Euclid) of two numbers that are not both 0.
fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_counts_once() {
        for (every, total, expected) in [
            (500, 1000, 2),
            (300, 1000, 4),
            (0, 1000, 1),
            (5000, 1000, 1),
            (1, 3, 3),
            (7, u64::MAX, u64::MAX / 7 + 1),
        ] {
            assert_eq!(times(every, total), expected, "{every} {total}");
        }
    }

    #[test]
    fn no_more_checkpoints_than_are_written() {
        let train = |keep, checkpoint_every| TrainConfig {
            keep,
            checkpoint_every,
            ..TrainConfig::default()
        };
        assert_eq!(checkpoints_on_disk(&train(3, 500), 1000), 2);
        assert_eq!(checkpoints_on_disk(&train(3, 100), 1000), 4);
        assert_eq!(checkpoints_on_disk(&train(3, 0), 1000), 1);
        assert_eq!(checkpoints_on_disk(&train(usize::MAX, 1), 10), 10);
        let for_good = |keep_every| TrainConfig {
            keep_every,
            ..train(1, 100)
        };
        assert_eq!(checkpoints_on_disk(&for_good(500), 2000), 6);
        assert_eq!(checkpoints_on_disk(&for_good(150), 900), 5);
        assert_eq!(checkpoints_on_disk(&for_good(u64::MAX), 900), 2);
    }
}
