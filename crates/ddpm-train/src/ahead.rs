//! The noise of the next step, made on the host while the device is at work on this one.

use std::ops::Range;
use std::thread::{self, JoinHandle};

use ddpm_schedule::noise::{Stream, normal_fill};

/// Which noise: images `rows` of step `step`, of so many numbers each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) rows: Range<u64>,
    pub(crate) image: usize,
}

impl Wanted {
    /// Row i depends on (seed, step, i) alone, so it does not matter when and where it is made.
    fn make(&self) -> Vec<f32> {
        let rows = self.rows.clone();
        let mut noise = vec![0.0; rows.clone().count() * self.image];
        for (row, image) in rows.zip(noise.chunks_exact_mut(self.image.max(1))) {
            normal_fill(self.seed, Stream::TrainNoise, self.step, row, image);
        }
        noise
    }
}

/// A thread that is a step ahead.
#[derive(Debug, Default)]
pub(crate) struct NoiseAhead {
    next: Option<(Wanted, JoinHandle<Vec<f32>>)>,
}

impl NoiseAhead {
    /// The noise that is wanted now; the same of the step after it is begun.
    pub(crate) fn take(&mut self, wanted: Wanted) -> Vec<f32> {
        let ready = self.next.take();
        let ready = ready.filter(|(begun, _)| *begun == wanted);
        // A thread that could not do it leaves the work to this one.
        let noise = ready.and_then(|(_, thread)| thread.join().ok());
        let noise = noise.unwrap_or_else(|| wanted.make());
        let following = Wanted {
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

    fn wanted(step: u64, rows: Range<u64>) -> Wanted {
        Wanted {
            seed: 3,
            step,
            rows,
            image: 5,
        }
    }

    #[test]
    fn what_was_made_ahead_is_what_is_made_at_once() {
        let mut ahead = NoiseAhead::default();
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
            assert_eq!(ahead.take(wanted.clone()), wanted.make(), "{wanted:?}");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_those_beside_it() {
        let all = wanted(4, 0..6).make();
        assert_eq!(all[10..20], wanted(4, 2..4).make());
        assert_ne!(all[..10], all[10..20]);
    }
}
