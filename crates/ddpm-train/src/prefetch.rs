//! Noise prefetch: that of the next step is made on the host while the device is at work on this one.

use std::ops::Range;
use std::thread::{self, JoinHandle};

use ddpm_schedule::noise::{Stream, normal_fill};

/// Which noise: images `rows` of step `step`, of so many numbers each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) rows: Range<u64>,
    pub(crate) image: usize,
}

/// Threads that make noise, or change images; the others are for kernels. A fast GPU would wait for one alone.
pub(crate) fn helpers() -> usize {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    (threads / 4).clamp(1, 8)
}

impl Rows {
    /// Row i depends on (seed, step, i) alone, so it does not matter when and where it is made.
    fn make(&self) -> Vec<f32> {
        self.make_by(helpers())
    }

    fn make_by(&self, threads: usize) -> Vec<f32> {
        let rows = self.rows.clone().count();
        let mut noise = vec![0.0; rows * self.image];
        let each = rows.div_ceil(threads).max(1);
        let firsts = self.rows.clone().step_by(each);
        let shares = noise.chunks_mut((each * self.image).max(1));
        thread::scope(|scope| {
            let mut shares = firsts.zip(shares);
            let own = shares.next();
            for (first, share) in shares {
                scope.spawn(move || self.fill(first, share));
            }
            if let Some((first, share)) = own {
                self.fill(first, share);
            }
        });
        noise
    }

    /// The noise of the rows from `first` on.
    fn fill(&self, first: u64, share: &mut [f32]) {
        for (row, image) in (first..).zip(share.chunks_exact_mut(self.image)) {
            normal_fill(self.seed, Stream::TrainNoise, self.step, row, image);
        }
    }
}

/// A thread that makes the noise of the next step.
#[derive(Debug, Default)]
pub(crate) struct NoisePrefetch {
    next: Option<(Rows, JoinHandle<Vec<f32>>)>,
}

impl NoisePrefetch {
    /// The noise that is wanted now; the same of the step after it is begun.
    pub(crate) fn take(&mut self, wanted: Rows) -> Vec<f32> {
        let ready = self.next.take();
        let ready = ready.filter(|(begun, _)| *begun == wanted);
        // A thread that could not do it leaves the work to this one.
        let noise = ready.and_then(|(_, thread)| thread.join().ok());
        let noise = noise.unwrap_or_else(|| wanted.make());
        let following = Rows {
            step: wanted.step + 1,
            ..wanted
        };
        let begun = following.clone();
        let thread = thread::Builder::new().name("noise".into());
        self.next = thread
            .spawn(move || begun.make())
            .ok()
            .map(|thread| (following, thread));
        noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(step: u64, rows: Range<u64>) -> Rows {
        Rows {
            seed: 3,
            step,
            rows,
            image: 5,
        }
    }

    #[test]
    fn prefetched_noise_is_that_made_on_demand() {
        let mut prefetch = NoisePrefetch::default();
        // In order, back again as after a bad step, and with other rows.
        for (step, rows) in [
            (7, 2..6),
            (8, 2..6),
            (9, 2..6),
            (8, 2..6),
            (9, 0..1),
            (10, 4..4),
        ] {
            let wanted = wanted(step, rows);
            assert_eq!(prefetch.take(wanted.clone()), wanted.make(), "{wanted:?}");
        }
    }

    #[test]
    fn noise_is_the_same_on_any_number_of_threads() {
        for rows in [0..0, 3..4, 2..9, 0..16] {
            let wanted = wanted(6, rows);
            let expected = wanted.make_by(1);
            for threads in [2, 3, 7, 20] {
                assert_eq!(wanted.make_by(threads), expected, "{wanted:?} by {threads}");
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_those_beside_it() {
        let all = wanted(4, 0..6).make();
        assert_eq!(all[10..20], wanted(4, 2..4).make());
        assert_ne!(all[..10], all[10..20]);
    }
}
