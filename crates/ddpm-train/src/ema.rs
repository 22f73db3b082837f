//! Exponential moving average of the weights.

use serde::{Deserialize, Serialize};

/// The `[ema]` section of a configuration.
///
/// After update k (from 0) the average moves by 1 - d_k towards the weights, with
/// d_k = max(min_decay, min(decay, 1 - (1 + k/inv_gamma)^-power)): a warm-up, so that the initial weights are
/// forgotten soon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// The largest decay; 0 makes the average equal to the weights.
    pub decay: f64,
    /// The smallest decay; equal to `decay` there is no warm-up, and the initial weights stay for long.
    pub min_decay: f64,
    /// Stretches the warm-up, in steps.
    pub inv_gamma: f64,
    /// How fast the decay approaches 1: 3/4 suits runs of up to a million steps, 2/3 longer ones.
    pub power: f64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            decay: 0.9999,
            min_decay: 0.0,
            inv_gamma: 1.0,
            power: 0.75,
        }
    }
}

impl EmaConfig {
    /// d_k after the update of optimiser step `step` (from 0).
    pub fn decay_at(&self, step: u64) -> f64 {
        let warm = 1.0 - (1.0 + step as f64 / self.inv_gamma).powf(-self.power);
        warm.min(self.decay).max(self.min_decay)
    }

    /// How much of the average is still the initial, random weights after `updates` updates: the product of all
    /// decays so far, from 1 down to 0.
    pub fn initial_share(&self, updates: u64) -> f64 {
        let mut share = 1.0;
        for k in 0..updates {
            let decay = self.decay_at(k);
            if decay >= self.decay {
                // The warm-up is over: the rest is one power.
                return share * decay.powf((updates - k) as f64);
            }
            share *= decay;
            if share == 0.0 {
                break;
            }
        }
        share
    }

    /// The sentence that a picture or a file made of an average as young as this needs, if it needs one.
    pub fn warning(&self, updates: u64) -> Option<String> {
        let share = self.initial_share(updates);
        (share >= NOTABLE_SHARE).then(|| {
            format!(
                "after {updates} updates {:.0}% of the averaged weights (EMA) are still the initial, random ones; \
                 train longer, lower `ema.decay` and `ema.min_decay`, or use the weights that are trained \
                 (`ddpm sample --weights raw`)",
                100.0 * share
            )
        })
    }
}

/// Initial weights in the average that show in the pictures.
const NOTABLE_SHARE: f64 = 0.01;

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
    fn the_share_of_the_initial_weights_is_the_product_of_the_decays() {
        let warm = EmaConfig::default();
        assert_eq!(warm.initial_share(0), 1.0);
        // The first update of a warm-up forgets everything.
        assert_eq!(warm.initial_share(1), 0.0);
        let constant = EmaConfig {
            decay: 0.999,
            min_decay: 0.999,
            ..warm
        };
        let slow = EmaConfig {
            decay: 0.99,
            min_decay: 0.5,
            ..warm
        };
        for ema in [constant, slow] {
            for updates in [1, 3, 10, 700] {
                let product: f64 = (0..updates).map(|k| ema.decay_at(k)).product();
                let share = ema.initial_share(updates);
                assert!(
                    (share - product).abs() <= 1e-12 * product,
                    "{updates}: {share} {product}"
                );
            }
        }
        assert!(constant.warning(693).unwrap().contains("50%"));
        assert_eq!(constant.warning(10_000), None);
        assert_eq!(warm.warning(1), None);
        assert!(warm.warning(0).unwrap().contains("100%"));
    }
}
