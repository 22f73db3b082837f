//! Whole steps of a table, as diffusers' schedulers choose them, ties of rounding included.

use crate::ScheduleError;
use crate::spacing::Spacing;

/// The `steps` steps of a table of `total` that a sampler visits, from the noisiest down.
///
/// `offset` is added to every step of the leading spacing (diffusers' `steps_offset`); the other
/// spacings ignore it, as there.
///
/// # Errors
/// [`ScheduleError::Timesteps`] unless `1 <= steps <= total`, or if the offset leads beyond the schedule.
pub(super) fn timesteps(
    total: usize,
    steps: usize,
    spacing: &Spacing,
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
        Spacing::Leading {} => leading(total, steps, offset),
        Spacing::Trailing {} => trailing(total, steps),
        _ => linspace(total, steps),
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

/// So many steps of each equal section of a table, from the noisiest down, as OpenAI's programs choose them: the first
/// and the last step of a section and what lies between; the first sections take what is left over.
///
/// # Errors   [`ScheduleError::Timesteps`] for more steps than a section has
pub(super) fn sections(total: usize, counts: &[usize]) -> Result<Vec<usize>, ScheduleError> {
    let (mut steps, mut start) = (Vec::new(), 0);
    for (i, &count) in counts.iter().enumerate() {
        let size = total / counts.len() + usize::from(i < total % counts.len());
        if count > size {
            return Err(ScheduleError::Timesteps {
                problem: format!(
                    "{count} sampling steps of section {i}, which has {size} of the schedule's {total}; take fewer of it"
                ),
            });
        }
        let stride = match count {
            0 | 1 => 1.0,
            _ => (size - 1) as f64 / (count - 1) as f64,
        };
        let mut at = 0.0f64;
        for _ in 0..count {
            steps.push(start + at.round_ties_even() as usize);
            // Added up like theirs, so that ties fall alike.
            at += stride;
        }
        start += size;
    }
    steps.reverse();
    Ok(steps)
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
