//! Faults on purpose, compiled only with the feature `faults`: numbers that go bad, and steps that take long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What goes bad in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One pixel of the batch.
    Batch,
    /// One number of a parameter, from this step on.
    Parameter,
    /// The mean loss.
    Loss,
    /// One number of the gradient.
    Gradient,
}

/// One bad number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Poison {
    /// In which step, from 1.
    pub step: u64,
    /// Where.
    pub part: Part,
    /// The number.
    pub value: f32,
    /// Whether it comes again when the step is done again.
    pub again: bool,
}

#[derive(Debug)]
struct Faults {
    poisons: Vec<Poison>,
    stall: Option<(u64, Duration)>,
}

static FAULTS: Mutex<Faults> = Mutex::new(Faults {
    poisons: Vec::new(),
    stall: None,
});

/// Adds a bad number.
pub fn poison(poison: Poison) {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    faults.poisons.push(poison);
}

/// Makes step `step`, from 1, take so much longer.
pub fn stall(step: u64, time: Duration) {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).stall = Some((step, time));
}

/// The bad number of a part in a step; each but once unless it comes again.
pub(crate) fn bad(step: u64, part: Part) -> Option<f32> {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let found = faults
        .poisons
        .iter()
        .position(|poison| poison.step == step && poison.part == part)?;
    let poison = faults.poisons[found];
    if !poison.again {
        faults.poisons.swap_remove(found);
    }
    Some(poison.value)
}

/// Waits if the step is one that takes long.
pub(crate) fn wait(step: u64) {
    let stall = FAULTS.lock().unwrap_or_else(PoisonError::into_inner).stall;
    if let Some((at, time)) = stall
        && at == step
    {
        std::thread::sleep(time);
    }
}
