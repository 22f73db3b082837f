//! Averages of the weights: the main one, and power-function averages besides it.

mod law;
pub mod posthoc;
pub mod power;
mod sigma_rels;
mod synthesis;
mod tracked;

use serde::{Deserialize, Serialize};

use crate::config::first_failure;
use crate::error::TrainError;

pub use law::Law;
pub use sigma_rels::SigmaRels;
pub use synthesis::Synthesis;
pub(crate) use tracked::{Moment, Tracked, keep_all, track};

/// The `[ema]` section of a configuration.
///
/// After update k (from 0) the average moves by 1 - d_k towards the weights, with
/// d_k = max(min_decay, min(decay, 1 - (1 + k/inv_gamma)^-power)): a warm-up, so that the initial weights are
/// forgotten soon. Other laws of d_k are to be had by `law`.
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
    /// How d_k changes; all but `warmup` and `ramp` say everything themselves.
    #[serde(deserialize_with = "law::read", skip_serializing_if = "Law::is_usual")]
    pub law: Law,
    /// Updates before the average begins; until then it equals the weights.
    #[serde(skip_serializing_if = "is_zero")]
    pub update_after_step: u64,
    /// σ_rel of power-function averages that are tracked besides, for a synthesis after training (`ddpm ema`).
    #[serde(skip_serializing_if = "SigmaRels::is_none")]
    pub power_function: SigmaRels,
    /// Steps between snapshots of those; without it, `train.checkpoint_every`. The last step has one in any case, and with
    /// 0 it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_every: Option<u64>,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            decay: 0.9999,
            min_decay: 0.0,
            inv_gamma: 1.0,
            power: 0.75,
            law: Law::default(),
            update_after_step: 0,
            power_function: SigmaRels::default(),
            snapshot_every: None,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl EmaConfig {
    /// d_k after update `k` (from 0).
    pub fn decay_at(&self, k: u64) -> f64 {
        let after = self.update_after_step;
        if k < after || (k == after && after > 0) {
            return 0.0;
        }
        let k = k - after;
        let rising = match self.law {
            Law::Ramp {} if k == 0 => return 0.0,
            Law::Ramp {} => (1.0 + k as f64) / (10.0 + k as f64),
            law => match law.decay(k) {
                Some(decay) => return decay,
                None => 1.0 - (1.0 + k as f64 / self.inv_gamma).powf(-self.power),
            },
        };
        rising.min(self.decay).max(self.min_decay)
    }

    /// What d_k does not exceed; once it is that, it stays so.
    fn limit(&self) -> f64 {
        self.law.limit().unwrap_or(self.decay)
    }

    /// How much of the average is still the initial, random weights after `updates` updates: the product of all
    /// decays so far, from 1 down to 0.
    pub fn initial_share(&self, updates: u64) -> f64 {
        let mut share = 1.0;
        for k in 0..updates {
            let decay = self.decay_at(k);
            if decay >= self.limit() {
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
        let shorter = match self.law.limit() {
            None => "lower `ema.decay` and `ema.min_decay`",
            Some(_) => "set a shorter `ema.law`",
        };
        (share >= NOTABLE_SHARE).then(|| {
            format!(
                "after {updates} updates {:.0}% of the averaged weights (EMA) are still the initial, random ones; \
                 train longer, {shorter}, or use the weights that are trained \
                 (`ddpm sample --weights raw`)",
                100.0 * share
            )
        })
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

impl EmaConfig {
    /// # Errors   [`TrainError::Config`] naming the key
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        let usual = Self::default();
        let no_effect = [usual.decay, usual.min_decay, usual.inv_gamma, usual.power].map(|value| {
            format!("has no effect with this `ema.law`; leave it out, or at its default {value}")
        });
        let bounded = self.law.limit().is_none();
        let warms_up = self.law.is_usual();
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let fits = |sigma_rel: f64| sigma_rel > 0.0 && sigma_rel <= power::MAX_SIGMA_REL;
        let (law_fits, law_is) = match self.law {
            Law::Warmup {} | Law::Ramp {} => (true, ""),
            Law::HalfLife {
                steps,
                rampup_ratio,
            } => (
                positive(steps) && rampup_ratio >= 0.0 && rampup_ratio.is_finite(),
                "`steps` must be a positive number, and `rampup_ratio` one or 0 for no ramp",
            ),
            Law::PowerFunction { sigma_rel } => (
                fits(sigma_rel),
                "`sigma_rel` must be above 0 and at most 0.2886",
            ),
        };
        let list = &self.power_function;
        let once = (1..list.len()).all(|i| !list[..i].contains(&list[i]));
        first_failure([
            (
                "ema.decay",
                self.decay.to_string(),
                (0.0..1.0).contains(&self.decay),
                "must be in [0, 1); 0 switches the average off",
            ),
            (
                "ema.min_decay",
                self.min_decay.to_string(),
                (0.0..=self.decay).contains(&self.min_decay),
                "must be between 0 and `ema.decay`",
            ),
            (
                "ema.inv_gamma",
                self.inv_gamma.to_string(),
                positive(self.inv_gamma),
                "must be a positive number",
            ),
            (
                "ema.power",
                self.power.to_string(),
                positive(self.power),
                "must be a positive number",
            ),
            ("ema.law", format!("{:?}", self.law), law_fits, law_is),
            (
                "ema.decay",
                self.decay.to_string(),
                bounded || self.decay == usual.decay,
                &no_effect[0],
            ),
            (
                "ema.min_decay",
                self.min_decay.to_string(),
                bounded || self.min_decay == usual.min_decay,
                &no_effect[1],
            ),
            (
                "ema.inv_gamma",
                self.inv_gamma.to_string(),
                warms_up || self.inv_gamma == usual.inv_gamma,
                &no_effect[2],
            ),
            (
                "ema.power",
                self.power.to_string(),
                warms_up || self.power == usual.power,
                &no_effect[3],
            ),
            (
                "ema.power_function",
                format!("{list:?}"),
                list.iter().all(|&sigma_rel| fits(sigma_rel)) && once,
                "must be different numbers above 0 and at most 0.2886, such as [0.05, 0.1]",
            ),
            (
                "ema.snapshot_every",
                format!("{:?}", self.snapshot_every.unwrap_or_default()),
                self.snapshot_every.is_none() || !list.is_empty(),
                "has no effect without `ema.power_function`, such as [0.05, 0.1]",
            ),
        ])
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

    #[test]
    fn laws_rise_as_they_are_known_to() {
        let of = |law, update_after_step| EmaConfig {
            law,
            update_after_step,
            ..EmaConfig::default()
        };
        let ramp = of(Law::Ramp {}, 0);
        assert_eq!([0, 1, 8].map(|k| ramp.decay_at(k)), [0.0, 2.0 / 11.0, 0.5]);
        assert_eq!(ramp.decay_at(10_000_000), 0.9999);
        let late = of(Law::Warmup {}, 100);
        assert_eq!([0, 99, 100].map(|k| late.decay_at(k)), [0.0; 3]);
        assert_eq!(late.decay_at(115), EmaConfig::default().decay_at(15));
        let steps = 8.0;
        let half = of(
            Law::HalfLife {
                steps,
                rampup_ratio: 0.5,
            },
            0,
        );
        assert_eq!(half.decay_at(1), 0.5);
        assert_eq!(half.decay_at(1000), 0.5f64.powf(0.125));
        assert!((half.half_life_steps(1000) - steps).abs() < 1e-12);
        let power = of(Law::PowerFunction { sigma_rel: 0.1 }, 0);
        assert_eq!(power.decay_at(0), 0.0);
        assert_eq!(power.initial_share(5), 0.0);
        assert!(power.decay_at(1_000_000) > 0.9999);
        for ema in [ramp, late, half, power] {
            ema.validate().unwrap();
            assert_eq!(ema.warning(1000), None);
        }
        assert!(half.warning(1).unwrap().contains("25%"));
        assert!(
            (half.initial_share(3) - (0..3).map(|k| half.decay_at(k)).product::<f64>()).abs()
                < 1e-15
        );
    }

    #[test]
    fn what_has_no_effect_is_refused_and_what_is_usual_is_not_written() {
        let refused = |ema: EmaConfig| ema.validate().unwrap_err().to_string();
        let usual = EmaConfig::default();
        let power = Law::PowerFunction { sigma_rel: 0.1 };
        let decay = EmaConfig {
            law: power,
            decay: 0.5,
            ..usual
        };
        assert!(refused(decay).starts_with("`ema.decay` = 0.5: has no effect"));
        for list in [&[0.3][..], &[0.0], &[0.1, 0.1], &[f64::NAN]] {
            let power_function = SigmaRels::new(list).unwrap();
            let refused = refused(EmaConfig {
                power_function,
                ..usual
            });
            assert!(refused.starts_with("`ema.power_function`"), "{refused}");
        }
        let every = EmaConfig {
            snapshot_every: Some(5),
            ..usual
        };
        assert!(refused(every).contains("without `ema.power_function`"));
        let written = serde_json::to_string(&usual).unwrap();
        assert_eq!(
            written,
            r#"{"decay":0.9999,"min_decay":0.0,"inv_gamma":1.0,"power":0.75}"#
        );
        let all = r#"{"law":"ramp","update_after_step":3,"power_function":[0.05,0.1],"snapshot_every":7}"#;
        let read: EmaConfig = serde_json::from_str(all).unwrap();
        assert_eq!((read.law, read.power_function.len()), (Law::Ramp {}, 2));
        let again = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<EmaConfig>(&again).unwrap(), read);
        assert!(
            serde_json::from_str::<EmaConfig>(r#"{"power_function":[1,2,3,4,5,6,7,8,9]}"#).is_err()
        );
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
