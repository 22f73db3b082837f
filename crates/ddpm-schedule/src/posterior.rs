//! q(x_prev | x_t, x0), the distribution that every reverse step approximates.

use serde::{Deserialize, Serialize};

/// Which fixed variance a reverse step draws with (Ho et al. 2020, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VarianceKind {
    /// β̃_t, right for data of a single point.
    #[default]
    Small,
    /// β_t, right for data that are standard normal; poor when steps are skipped.
    Large,
}

/// Mean coefficients and variances of one step (Ho et al. 2020, eq. 6 and 7).
///
/// μ̃ = `x0_coef`·x0 + `xt_coef`·x_t
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Posterior {
    /// √ᾱ_prev·β/(1 - ᾱ).
    pub x0_coef: f64,
    /// √α·(1 - ᾱ_prev)/(1 - ᾱ).
    pub xt_coef: f64,
    /// β̃ = (1 - ᾱ_prev)/(1 - ᾱ)·β; 0 at the last reverse step.
    pub variance_small: f64,
    /// β = 1 - ᾱ/ᾱ_prev.
    pub variance_large: f64,
    /// ln β̃; -∞ at the last reverse step unless clipped by [`Posterior::table`].
    pub log_variance_small: f64,
    /// ln of the large variance.
    pub log_variance_large: f64,
}

impl Posterior {
    /// The posterior of the step from ᾱ to ᾱ_prev, `0 <= alpha_bar < alpha_bar_prev <= 1`.
    ///
    /// `alpha_bar_prev` belongs to the next step that the sampler visits, however many it skips; 1 after the last.
    #[must_use]
    pub fn new(alpha_bar: f64, alpha_bar_prev: f64) -> Self {
        let alpha = alpha_bar / alpha_bar_prev;
        let beta = 1.0 - alpha;
        let variance_small = (1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * beta;
        Self {
            x0_coef: alpha_bar_prev.sqrt() * beta / (1.0 - alpha_bar),
            xt_coef: alpha.sqrt() * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar),
            variance_small,
            variance_large: beta,
            log_variance_small: variance_small.ln(),
            log_variance_large: beta.ln(),
        }
    }

    /// The posteriors of a whole chain of (ᾱ, ᾱ_prev), in rising order of step, as a likelihood needs them.
    ///
    /// The first step's β̃ is 0, so its logarithm is taken from the second step, and so is
    /// its large variance (Ho et al. 2020's code; Nichol & Dhariwal 2021, eq. 15). A chain of
    /// one step has no second: β takes its place.
    #[must_use]
    pub fn table(pairs: &[(f64, f64)]) -> Vec<Self> {
        let mut table: Vec<Self> = pairs.iter().map(|&(a, prev)| Self::new(a, prev)).collect();
        let stand_in = match table.as_slice() {
            [] => return table,
            [only] => only.variance_large,
            [_, second, ..] => second.variance_small,
        };
        let first = &mut table[0];
        first.variance_large = stand_in;
        first.log_variance_large = stand_in.ln();
        first.log_variance_small = stand_in.ln();
        table
    }

    /// The variance of a kind.
    #[must_use]
    pub fn variance(&self, kind: VarianceKind) -> f64 {
        match kind {
            VarianceKind::Small => self.variance_small,
            VarianceKind::Large => self.variance_large,
        }
    }

    /// The logarithm of the variance of a kind.
    #[must_use]
    pub fn log_variance(&self, kind: VarianceKind) -> f64 {
        match kind {
            VarianceKind::Small => self.log_variance_small,
            VarianceKind::Large => self.log_variance_large,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleConfig, ScheduleKind};

    #[test]
    fn mean_and_variance_are_those_of_the_joint_gaussian() {
        // x_prev = a·x0 + b·ε, x_t = √α·x_prev + √β·z: condition on x_t by the textbook formula.
        for (alpha_bar, alpha_bar_prev) in [(0.5, 0.9), (1e-3, 0.4), (0.998, 0.999), (0.0, 0.01)] {
            let alpha: f64 = alpha_bar / alpha_bar_prev;
            let prior = 1.0 - alpha_bar_prev;
            let gain = alpha.sqrt() * prior / (alpha * prior + 1.0 - alpha);
            let p = Posterior::new(alpha_bar, alpha_bar_prev);
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
            close(p.xt_coef, gain);
            close(
                p.x0_coef,
                alpha_bar_prev.sqrt() * (1.0 - gain * alpha.sqrt()),
            );
            close(p.variance_small, prior * (1.0 - gain * alpha.sqrt()));
        }
    }

    #[test]
    fn the_last_reverse_step_returns_x0_without_noise() {
        let p = Posterior::new(0.999, 1.0);
        assert!((p.x0_coef - 1.0).abs() < 1e-12);
        assert_eq!((p.xt_coef, p.variance_small), (0.0, 0.0));
        assert!(p.variance_large > 0.0);
    }

    #[test]
    fn the_table_clips_only_the_first_step() {
        let schedule = ScheduleConfig::default().build().unwrap();
        let table = schedule.posteriors();
        assert_eq!(table.len(), 1000);
        assert_eq!(table[0].variance_small, 0.0);
        assert_eq!(table[0].log_variance_small, table[1].variance_small.ln());
        assert_eq!(table[0].log_variance_large, table[1].variance_small.ln());
        for (t, p) in table.iter().enumerate().skip(1) {
            assert!((p.variance_large / schedule.beta(t) - 1.0).abs() < 1e-9);
            assert!(p.variance_small < p.variance_large);
            assert_eq!(
                p.log_variance(VarianceKind::Small),
                p.variance(VarianceKind::Small).ln()
            );
            assert_eq!(
                p.log_variance(VarianceKind::Large),
                p.variance(VarianceKind::Large).ln()
            );
        }
    }

    #[test]
    fn one_step_and_zero_terminal_snr_are_finite() {
        for kind in [ScheduleKind::Linear, ScheduleKind::Cosine] {
            for steps in [1, 2, 50] {
                for zero_terminal_snr in [false, true] {
                    let config = ScheduleConfig {
                        kind,
                        steps,
                        zero_terminal_snr,
                        ..Default::default()
                    };
                    for p in config.build().unwrap().posteriors() {
                        for x in [
                            p.x0_coef,
                            p.xt_coef,
                            p.variance_small,
                            p.log_variance_small,
                            p.log_variance_large,
                        ] {
                            assert!(x.is_finite(), "{config:?}: {p:?}");
                        }
                    }
                }
            }
        }
        assert_eq!(Posterior::table(&[]), vec![]);
    }
}
