//! How the decay of the main average changes as training goes on.

use ddpm_schedule::named;
use serde::{Deserialize, Serialize};

use super::power;

/// The decay as a function of the updates made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Law {
    /// 1 - (1 + k/inv_gamma)^-power, between `min_decay` and `decay`.
    Warmup {},
    /// (1+k)/(10+k), between `min_decay` and `decay`: what diffusers does without its warm-up.
    Ramp {},
    /// Half of the average is of the last `steps` updates, and of the last share `rampup_ratio` of all updates while
    /// those are fewer (Karras et al. 2022).
    HalfLife {
        /// The half-life.
        steps: f64,
        /// The ramp; 0 is none.
        #[serde(default = "rampup_ratio")]
        rampup_ratio: f64,
    },
    /// A power-function average, whose length stays a share of the training so far (Karras et al. 2024).
    PowerFunction {
        /// Standard deviation of its profile, as a share of the training so far.
        sigma_rel: f64,
    },
}

impl Default for Law {
    fn default() -> Self {
        Self::Warmup {}
    }
}

fn rampup_ratio() -> f64 {
    0.05
}

impl Law {
    /// Whether it is the usual one, which is not written.
    pub(super) fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// For a law that says all itself: the decay after update k (from 0).
    pub(super) fn decay(self, k: u64) -> Option<f64> {
        let updates = k as f64 + 1.0;
        match self {
            Self::Warmup {} | Self::Ramp {} => None,
            Self::HalfLife {
                steps,
                rampup_ratio,
            } => {
                let ramp = (rampup_ratio > 0.0).then_some(rampup_ratio);
                Some(power::half_life(1.0, updates, steps, ramp))
            }
            Self::PowerFunction { sigma_rel } => {
                Some(power::beta(power::gamma_of(sigma_rel), 1.0, updates))
            }
        }
    }

    /// For a law that says all itself: what the decay does not exceed.
    pub(super) fn limit(self) -> Option<f64> {
        match self {
            Self::Warmup {} | Self::Ramp {} => None,
            Self::HalfLife { steps, .. } => Some(power::half_life(1.0, 1.0, steps, None)),
            Self::PowerFunction { .. } => Some(1.0),
        }
    }
}

/// Reads a law from its name alone, or from a table with `kind` and options.
pub(super) fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Law, D::Error> {
    named::deserialize(deserializer)
}
