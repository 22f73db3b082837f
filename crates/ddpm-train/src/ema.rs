//! Exponential moving average of the weights.

use serde::{Deserialize, Serialize};

/// The `[ema]` section of a configuration.
///
/// After update k (from 0) the average moves by 1 - d_k towards the weights, with
/// d_k = min(decay, 1 - (1 + k/inv_gamma)^-power): a warm-up, so that the initial weights are
/// forgotten soon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// The largest decay; 0 makes the average equal to the weights.
    pub decay: f64,
    /// Stretches the warm-up, in steps.
    pub inv_gamma: f64,
    /// How fast the decay approaches 1: 3/4 suits runs of up to a million steps, 2/3 longer ones.
    pub power: f64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            decay: 0.9999,
            inv_gamma: 1.0,
            power: 0.75,
        }
    }
}

impl EmaConfig {
    /// d_k after the update of optimiser step `step` (from 0).
    pub fn decay_at(&self, step: u64) -> f64 {
        let warm = 1.0 - (1.0 + step as f64 / self.inv_gamma).powf(-self.power);
        warm.clamp(0.0, self.decay)
    }

    /// The half-life of the average at the end of a run of `total` steps, in steps: what is older has less
    /// than half of the weight. 0 if the average is switched off.
    ///
    /// It takes the last step's decay for all, so while the decay still warms up it is a little too long.
    pub fn half_life_steps(&self, total: u64) -> f64 {
        match self.decay_at(total.saturating_sub(1)) {
            0.0 => 0.0,
            decay => -std::f64::consts::LN_2 / decay.ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_warms_up_to_its_bound() {
        let ema = EmaConfig::default();
        assert_eq!(ema.decay_at(0), 0.0);
        assert!((ema.decay_at(15) - 0.875).abs() < 1e-12);
        assert_eq!(ema.decay_at(10_000_000), 0.9999);
    }

    #[test]
    fn half_life_is_that_of_the_last_steps() {
        let ema = EmaConfig::default();
        assert!((ema.half_life_steps(10_000_000) - 6931.1).abs() < 0.1);
        // 1 - 1000^-0.75 = 0.9944
        assert!((ema.half_life_steps(1000) - 122.9).abs() < 0.1);
        let off = EmaConfig { decay: 0.0, ..ema };
        assert_eq!(off.half_life_steps(1000), 0.0);
        assert_eq!(ema.half_life_steps(0), 0.0);
    }
}
