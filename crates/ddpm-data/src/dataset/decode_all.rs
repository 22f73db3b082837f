use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use crate::config::OnBad;
use crate::error::{DataError, Fault};

/// Why an image could not be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The image is bad: `on_bad` decides.
    Bad(Fault),
    /// The set cannot be loaded whatever `on_bad` says.
    Fatal(DataError),
}

/// Does `work` for all jobs, (number, slot), on as many threads as the machine has.
///
/// Gives the bad images in order, or the first trouble that ends it: the same whatever the number of threads,
/// because jobs are taken in order and every job taken is finished. `progress(done)` runs on this thread.
pub(super) fn decode_all<S: Send>(
    jobs: impl Iterator<Item = (usize, S)> + Send,
    on_bad: OnBad,
    progress: &mut dyn FnMut(usize),
    work: impl Fn(usize, S) -> Result<(), Trouble> + Sync,
) -> Result<Vec<(usize, Fault)>, (usize, Trouble)> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let jobs = Mutex::new(jobs);
    let stop = AtomicBool::new(false);
    let mut troubles: Vec<(usize, Trouble)> = Vec::new();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads {
            let sender = sender.clone();
            let (jobs, stop, work) = (&jobs, &stop, &work);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, slot)) = job else {
                        break;
                    };
                    let outcome = work(index, slot);
                    if ends_it(&outcome, on_bad) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if sender.send((index, outcome)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (done, (index, outcome)) in receiver.into_iter().enumerate() {
            if let Err(trouble) = outcome {
                troubles.push((index, trouble));
            }
            progress(done + 1);
        }
    });
    troubles.sort_unstable_by_key(|(index, _)| *index);
    let mut faults = Vec::with_capacity(troubles.len());
    for (index, trouble) in troubles {
        match trouble {
            Trouble::Bad(fault) if on_bad == OnBad::Skip => faults.push((index, fault)),
            trouble => return Err((index, trouble)),
        }
    }
    Ok(faults)
}

fn ends_it(outcome: &Result<(), Trouble>, on_bad: OnBad) -> bool {
    match outcome {
        Ok(()) => false,
        Err(Trouble::Bad(_)) => on_bad == OnBad::Error,
        Err(Trouble::Fatal(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(index: usize) -> Result<(), Trouble> {
        match index {
            7 | 9 | 30 => Err(Trouble::Bad(Fault::Bad(index.to_string()))),
            _ => Ok(()),
        }
    }

    #[test]
    fn faults_come_in_order_and_every_job_is_told() {
        let mut told = Vec::new();
        let jobs = (0..50).map(|index| (index, ()));
        let faults = decode_all(
            jobs,
            OnBad::Skip,
            &mut |done| told.push(done),
            |index, ()| bad(index),
        )
        .unwrap();
        let numbers: Vec<usize> = faults.into_iter().map(|(index, _)| index).collect();
        assert_eq!(numbers, [7, 9, 30]);
        assert_eq!(told, (1..=50).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_trouble_is_the_same_each_time() {
        for _ in 0..50 {
            let jobs = (0..50).map(|index| (index, ()));
            let (index, _) =
                decode_all(jobs, OnBad::Error, &mut |_| {}, |index, ()| bad(index)).unwrap_err();
            assert_eq!(index, 7);
        }
    }

    #[test]
    fn a_fatal_one_is_not_skipped() {
        let jobs = (0..50).map(|index| (index, ()));
        let (index, trouble) =
            decode_all(jobs, OnBad::Skip, &mut |_| {}, |index, ()| match index {
                20 => Err(Trouble::Fatal(DataError::Index { index, len: 0 })),
                _ => bad(index),
            })
            .unwrap_err();
        assert_eq!(index, 20);
        assert!(matches!(trouble, Trouble::Fatal(_)));
    }
}
