//! What keeps a step that went wrong from doing harm.
//!
//! A loss or gradient that is NaN or infinite would make every parameter and average so for good, so such a step's
//! update is skipped. A loss that jumps may be bounded or skipped as well. What is random about a step depends on
//! its number alone, so a step that is skipped changes no other.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::config::first_failure;
use crate::error::TrainError;

/// What is done about a step whose loss jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpikePolicy {
    /// Nothing.
    #[default]
    Off,
    /// Its gradient is scaled down to the usual norm.
    Clip,
    /// Its update is skipped.
    Skip,
}

/// The `[guard]` section of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Updates in a row that may be skipped. One more, and the run goes back to its last checkpoint; if it comes
    /// to that again before the next checkpoint, it ends.
    pub max_consecutive_skips: u64,
    /// What is done about a step whose loss jumps.
    pub spike: SpikePolicy,
    /// A loss jumps if it is this many times the median of the last `spike_window` ones.
    pub spike_factor: f64,
    /// Losses, and gradient norms, that the medians are over.
    pub spike_window: usize,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            max_consecutive_skips: 10,
            spike: SpikePolicy::Off,
            spike_factor: 5.0,
            spike_window: 100,
        }
    }
}

/// So many that sorting them at every step still costs nothing.
const MAX_WINDOW: usize = 10_000;

impl GuardConfig {
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        first_failure([
            (
                "guard.spike_factor",
                self.spike_factor.to_string(),
                self.spike_factor > 1.0 && self.spike_factor.is_finite(),
                "must be greater than 1",
            ),
            (
                "guard.spike_window",
                self.spike_window.to_string(),
                (4..=MAX_WINDOW).contains(&self.spike_window),
                "must be between 4 and 10000",
            ),
        ])
    }
}

/// Why an update was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The loss is not finite.
    Loss,
    /// The gradient is not finite.
    Gradient,
    /// The loss jumped.
    Spike,
    /// A parameter, moment or average is not finite.
    State,
}

impl Cause {
    /// What it is that went wrong, in words.
    #[must_use]
    pub fn quantity(self) -> &'static str {
        match self {
            Self::Loss | Self::Spike => "loss",
            Self::Gradient => "gradient norm",
            Self::State => "training state",
        }
    }
}

/// What is to be done with a step whose loss and gradient are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// Update; the gradient's norm is to be at most this.
    Update {
        /// Infinite where only the configuration's own clipping counts.
        max_norm: f64,
    },
    /// Skip the update, and lower the loss scale: the gradient overflowed.
    LowerScale,
    /// Skip the update.
    Skip(Cause),
}

/// What the guard remembers; a part of the training state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Updates skipped in a row, up to now.
    consecutive: u64,
    losses: VecDeque<f64>,
    norms: VecDeque<f64>,
}

impl Guard {
    /// What becomes of a step, by the mean loss of its batch and the norm of its gradient.
    pub fn decide(&mut self, config: &GuardConfig, loss: f64, grad_norm: f64) -> Decision {
        let decision = self.decision(config, loss, grad_norm);
        match decision {
            Decision::Skip(_) | Decision::LowerScale => self.consecutive += 1,
            Decision::Update { .. } => {
                self.consecutive = 0;
                if config.spike != SpikePolicy::Off {
                    remember(&mut self.losses, loss, config.spike_window);
                    remember(&mut self.norms, grad_norm, config.spike_window);
                }
            }
        }
        decision
    }

    fn decision(&self, config: &GuardConfig, loss: f64, grad_norm: f64) -> Decision {
        if !loss.is_finite() {
            return Decision::Skip(Cause::Loss);
        }
        if !grad_norm.is_finite() {
            return Decision::Skip(Cause::Gradient);
        }
        let free = Decision::Update {
            max_norm: f64::INFINITY,
        };
        // With fewer than a quarter of the losses their median says little.
        let known = self.losses.len() >= config.spike_window.div_ceil(4);
        if !known || loss <= config.spike_factor * median(&self.losses) {
            return free;
        }
        match config.spike {
            SpikePolicy::Off => free,
            SpikePolicy::Clip => Decision::Update {
                max_norm: median(&self.norms),
            },
            SpikePolicy::Skip => Decision::Skip(Cause::Spike),
        }
    }

    /// Updates skipped in a row, up to now.
    #[must_use]
    pub fn consecutive(&self) -> u64 {
        self.consecutive
    }

    /// Begins to count anew, after the run went back.
    pub fn reset(&mut self) {
        self.consecutive = 0;
    }
}

fn remember(window: &mut VecDeque<f64>, value: f64, length: usize) {
    window.push_back(value);
    while window.len() > length {
        window.pop_front();
    }
}

/// The lower median of finite numbers; 0 of none.
fn median(window: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = window.iter().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Decision = Decision::Update {
        max_norm: f64::INFINITY,
    };

    fn config(spike: SpikePolicy) -> GuardConfig {
        GuardConfig {
            spike,
            spike_factor: 4.0,
            spike_window: 8,
            ..GuardConfig::default()
        }
    }

    #[test]
    fn a_non_finite_step_is_skipped_and_counted() {
        let mut guard = Guard::default();
        let config = config(SpikePolicy::Off);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(guard.decide(&config, bad, 1.0), Decision::Skip(Cause::Loss));
            assert_eq!(
                guard.decide(&config, 1.0, bad),
                Decision::Skip(Cause::Gradient)
            );
        }
        assert_eq!(guard.consecutive(), 6);
        assert_eq!(guard.decide(&config, 1e30, 1e30), FREE);
        assert_eq!(guard.consecutive(), 0);
    }

    #[test]
    fn a_jump_is_let_through_bounded_or_left_out() {
        let jump = |spike| {
            let config = config(spike);
            let mut guard = Guard::default();
            for i in 0..6 {
                assert_eq!(guard.decide(&config, 1.0 + 0.1 * f64::from(i), 0.5), FREE);
            }
            // The median is 1.2: up to 4.8 is no jump.
            assert_eq!(guard.decide(&config, 4.7, 9.0), FREE);
            guard.decide(&config, 20.0, 9.0)
        };
        assert_eq!(jump(SpikePolicy::Off), FREE);
        assert_eq!(jump(SpikePolicy::Clip), Decision::Update { max_norm: 0.5 });
        assert_eq!(jump(SpikePolicy::Skip), Decision::Skip(Cause::Spike));
    }

    #[test]
    fn the_first_losses_are_no_jumps() {
        let mut guard = Guard::default();
        let config = config(SpikePolicy::Skip);
        assert_eq!(guard.decide(&config, 1.0, 1.0), FREE);
        assert_eq!(guard.decide(&config, 50.0, 1.0), FREE);
        assert_eq!(
            guard.decide(&config, 50.0, 1.0),
            Decision::Skip(Cause::Spike)
        );
    }

    /// A level that stays is taken for the new usual one when jumps are bounded, not skipped.
    #[test]
    fn a_bounded_jump_becomes_usual() {
        let mut guard = Guard::default();
        let config = config(SpikePolicy::Clip);
        for _ in 0..8 {
            guard.decide(&config, 1.0, 1.0);
        }
        let decisions: Vec<_> = (0..8).map(|_| guard.decide(&config, 50.0, 7.0)).collect();
        assert_eq!(decisions[0], Decision::Update { max_norm: 1.0 });
        assert_eq!(decisions[7], FREE);
    }

    #[test]
    fn it_comes_back_from_json_as_it_was() {
        let mut guard = Guard::default();
        let config = config(SpikePolicy::Clip);
        for i in 0..9 {
            guard.decide(&config, 0.1 / f64::from(i + 1), 0.7 / f64::from(i + 3));
        }
        guard.decide(&config, f64::NAN, 0.0);
        let text = serde_json::to_string(&guard).unwrap();
        assert_eq!(serde_json::from_str::<Guard>(&text).unwrap(), guard);
    }
}
