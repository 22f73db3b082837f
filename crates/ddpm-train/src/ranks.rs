//! Ranks in the threads of one process.

use std::panic::resume_unwind;
use std::thread::{self, Builder};

use crate::config::Config;
use crate::error::TrainError;
use crate::events::Event;
use crate::step::TrainState;
use crate::trainer::{Outcome, RankJob};

/// As much stack as the main thread has on Linux.
const STACK_BYTES: usize = 8 << 20;

/// Checks that a batch can be shared by so many ranks.
///
/// # Errors   [`TrainError::Config`] if there are more ranks than micro-batches, or none
pub fn check_ranks(config: &Config, ranks: usize) -> Result<(), TrainError> {
    let refuse =
        |key, got: String, expected: String| Err(TrainError::Config { key, got, expected });
    if ranks == 0 {
        let expected = "name at least one device".to_owned();
        return refuse("--devices", "nothing".to_owned(), expected);
    }
    let batch = config.train.batch;
    match config.train.accumulate {
        Some(accumulate) if accumulate < ranks => refuse(
            "train.accumulate",
            accumulate.to_string(),
            format!(
                "the {ranks} ranks of --devices or mpirun share a batch by its micro-batches, so it must be at least \
                 {ranks}; add --set train.accumulate={ranks}"
            ),
        ),
        None if !batch.is_multiple_of(ranks) => refuse(
            "train.batch",
            batch.to_string(),
            format!(
                "the {ranks} ranks of --devices or mpirun share it, so it must be a multiple of {ranks}"
            ),
        ),
        _ => Ok(()),
    }
}

/// Trains with a thread for each rank but the first, which has the calling one.
///
/// # Errors   those of the first rank that has one of its own
pub(crate) fn train_in_threads(
    jobs: Vec<RankJob>,
    observe: &mut dyn FnMut(Event),
) -> Result<(Outcome, TrainState), TrainError> {
    thread::scope(|scope| {
        let mut jobs = jobs.into_iter();
        let first = jobs.next();
        let mut others = Vec::new();
        for job in jobs {
            let thread = Builder::new()
                .name(format!("ddpm-rank-{}", job.ranks.rank()))
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || job.train(&mut |_| {}).map(drop));
            others.push(thread.map_err(|error| TrainError::Device {
                message: format!("no thread can be started for it: {error}"),
            })?);
        }
        let Some(first) = first else {
            unreachable!("there is a rank for each device")
        };
        let outcome = first.train(observe);
        let mut theirs = None;
        for thread in others {
            match thread.join() {
                Ok(Ok(())) => {}
                // What another rank says of this error is less than what it says itself.
                Ok(Err(TrainError::OtherRank { .. } | TrainError::Ranks { .. })) => {}
                Ok(Err(error)) => theirs = theirs.or(Some(error)),
                Err(panic) => resume_unwind(panic),
            }
        }
        match (outcome, theirs) {
            (Err(TrainError::OtherRank { .. } | TrainError::Ranks { .. }), Some(error)) => {
                Err(error)
            }
            (outcome, _) => outcome,
        }
    })
}
