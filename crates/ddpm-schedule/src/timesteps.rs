//! Which steps of a schedule a sampler visits.

mod respaced;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ScheduleError;

pub use respaced::{Respaced, RespacedStep};

/// How fewer steps are spread over a schedule; the names are those of Lin et al. 2023, table 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Multiples of ⌊T/steps⌋ from 0; never visits the last step.
    #[default]
    Leading,
    /// Equal distances from 0 to T - 1, both included.
    Linspace,
    /// Distances of T/steps down from T - 1; need not visit 0.
    Trailing,
}

impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spacing::Leading => "leading",
            Spacing::Linspace => "linspace",
            Spacing::Trailing => "trailing",
        })
    }
}

/// The `steps` steps of a schedule of `total` that a sampler visits, from the noisiest down.
///
/// Equal to what diffusers' DDPM and DDIM visit, ties of rounding included. `offset` is
/// added to every step of the leading spacing (diffusers' `steps_offset`); the other
/// spacings ignore it, as there.
///
/// # Errors
/// [`ScheduleError::Timesteps`] unless `1 <= steps <= total`, or if the offset leads beyond the schedule.
pub fn timesteps(
    total: usize,
    steps: usize,
    spacing: Spacing,
    offset: usize,
) -> Result<Vec<usize>, ScheduleError> {
    if steps == 0 || steps > total {
        return Err(ScheduleError::Timesteps {
            problem: format!(
                "{steps} sampling steps of a schedule with {total}: steps must be ≤ {total} and at least 1, or some would come twice"
            ),
        });
    }
    let list: Vec<usize> = match spacing {
        Spacing::Leading => leading(total, steps, offset),
        Spacing::Linspace => linspace(total, steps),
        Spacing::Trailing => trailing(total, steps),
    };
    match list.first() {
        Some(&first) if first >= total => Err(ScheduleError::Timesteps {
            problem: format!(
                "an offset of {offset} moves the first of {steps} sampling steps to {first}, but the schedule ends at {}; use fewer steps, or an offset of at most {}",
                total - 1,
                offset.saturating_sub(first - (total - 1))
            ),
        }),
        _ => Ok(list),
    }
}

fn leading(total: usize, steps: usize, offset: usize) -> Vec<usize> {
    let ratio = total / steps;
    (0..steps)
        .rev()
        .map(|i| (i * ratio).saturating_add(offset))
        .collect()
}

fn linspace(total: usize, steps: usize) -> Vec<usize> {
    let last = (total - 1) as f64;
    // In numpy's order of operations, and rounding half to even, so that ties fall alike.
    let step = match steps {
        1 => 0.0,
        _ => last / (steps - 1) as f64,
    };
    let at = |i: usize| (i as f64 * step).round_ties_even() as usize;
    (0..steps).rev().map(at).collect()
}

fn trailing(total: usize, steps: usize) -> Vec<usize> {
    let total = total as f64;
    let ratio = total / steps as f64;
    // numpy's arange multiplies this difference, not the ratio: the rounding in it decides ties.
    let delta = (total - ratio) - total;
    let at = |i: usize| (total + i as f64 * delta).round_ties_even() as usize - 1;
    (0..steps).map(at).collect()
}

#[cfg(test)]
mod tests;
