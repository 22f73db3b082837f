//! q(x' | x, x0), the distribution of a less noisy x', which every reverse step approximates.

use serde::{Deserialize, Serialize};

use crate::Level;

/// Which variance a reverse step draws with (Ho et al. 2020, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VarianceKind {
    /// β̃, right for data of a single point.
    #[default]
    Small,
    /// β, right for data that are standard normal; poor when steps are skipped.
    Large,
    /// Between the two, as the network says (Nichol & Dhariwal 2021, eq. 15).
    Learned,
}

/// Mean coefficients and variances of one step (Ho et al. 2020, eq. 6 and 7; for any process).
///
/// μ̃ = `x0_coef`·x0 + `x_coef`·x
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Posterior {
    /// √ᾱ'·β/(1 - ᾱ) of a variance-preserving process.
    pub x0_coef: f64,
    /// √α·(1 - ᾱ')/(1 - ᾱ).
    pub x_coef: f64,
    /// β̃ = (1 - ᾱ')/(1 - ᾱ)·β; 0 at the last reverse step.
    pub variance_small: f64,
    /// β = 1 - ᾱ/ᾱ'.
    pub variance_large: f64,
    /// ln β̃; -∞ at the last reverse step unless clipped by [`Posterior::table`].
    pub log_variance_small: f64,
    /// ln β.
    pub log_variance_large: f64,
}

impl Posterior {
    /// The posterior of the step `from` a level `to` a less noisy one, which the sampler visits next, however many
    /// it skips; the image itself after the last.
    #[must_use]
    pub fn new(from: Level, to: Level) -> Self {
        // x = ratio·x' + √β·z
        let ratio = from.signal / to.signal;
        let beta = added(from, to);
        let rest = (to.noise / from.noise).powi(2);
        Self {
            x0_coef: to.signal * beta / (from.noise * from.noise),
            x_coef: ratio * rest,
            variance_small: rest * beta,
            variance_large: beta,
            log_variance_small: (rest * beta).ln(),
            log_variance_large: beta.ln(),
        }
    }

    /// The posteriors of a whole chain of levels, from the least noisy on, as a likelihood needs them.
    ///
    /// The first step's β̃ is 0, so its logarithm is taken from the second step, and so is
    /// its large variance (Ho et al. 2020's code; Nichol & Dhariwal 2021, eq. 15). A chain of
    /// one step has no second: β takes its place.
    #[must_use]
    pub fn table(levels: &[Level]) -> Vec<Self> {
        let before = std::iter::once(Level::CLEAN).chain(levels.iter().copied());
        let pairs = levels.iter().zip(before);
        let mut table: Vec<Self> = pairs.map(|(&from, to)| Self::new(from, to)).collect();
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
}

/// β, the variance of the noise that leads up from `to` to `from`.
fn added(from: Level, to: Level) -> f64 {
    let preserving = |level: Level| (level.signal.hypot(level.noise) - 1.0).abs() < 1e-12;
    let ratio = from.signal / to.signal;
    match preserving(from) && preserving(to) {
        // Without the difference of squares, which loses digits where the two are close.
        true => 1.0 - ratio * ratio,
        false => (from.noise - ratio * to.noise) * (from.noise + ratio * to.noise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Schedule, ScheduleConfig, ScheduleKind};

    fn of_table(schedule: &Schedule) -> Vec<Posterior> {
        Posterior::table(&schedule.levels())
    }

    #[test]
    fn mean_and_variance_are_those_of_the_joint_gaussian() {
        // x' = a·x0 + b·ε, x = ratio·x' + √β·z: condition on x by the textbook formula.
        let vp = Level::of_alpha_bar;
        let ve = Level::variance_exploding;
        let flow = |t| Level {
            signal: 1.0 - t,
            noise: t,
        };
        for (from, to) in [
            (vp(0.5), vp(0.9)),
            (vp(1e-3), vp(0.4)),
            (vp(0.998), vp(0.999)),
            (vp(0.0), vp(0.01)),
            (ve(80.0), ve(3.0)),
            (ve(0.3), ve(0.29)),
            (flow(1.0), flow(0.9)),
            (flow(0.4), flow(0.1)),
        ] {
            let ratio = from.signal / to.signal;
            let prior = to.noise * to.noise;
            let beta = from.noise * from.noise - ratio * ratio * prior;
            let gain = ratio * prior / (ratio * ratio * prior + beta);
            let p = Posterior::new(from, to);
            let close =
                |a: f64, b: f64| assert!((a - b).abs() < 1e-12 * b.abs().max(1.0), "{a} {b}");
            close(p.variance_large, beta);
            close(p.x_coef, gain);
            close(p.x0_coef, to.signal * (1.0 - gain * ratio));
            close(p.variance_small, prior * (1.0 - gain * ratio));
        }
    }

    #[test]
    fn the_last_reverse_step_returns_x0_without_noise() {
        let p = Posterior::new(Level::of_alpha_bar(0.999), Level::CLEAN);
        assert!((p.x0_coef - 1.0).abs() < 1e-12);
        assert_eq!((p.x_coef, p.variance_small), (0.0, 0.0));
        assert!(p.variance_large > 0.0);
    }

    #[test]
    fn the_table_clips_only_the_first_step() {
        let schedule = ScheduleConfig::default().build().unwrap();
        let table = of_table(&schedule);
        assert_eq!(table.len(), 1000);
        assert_eq!(table[0].variance_small, 0.0);
        assert_eq!(table[0].log_variance_small, table[1].variance_small.ln());
        assert_eq!(table[0].log_variance_large, table[1].variance_small.ln());
        for (t, p) in table.iter().enumerate().skip(1) {
            assert!((p.variance_large / schedule.beta(t) - 1.0).abs() < 1e-9);
            assert!(p.variance_small < p.variance_large);
            assert_eq!(p.log_variance_small, p.variance_small.ln());
            assert_eq!(p.log_variance_large, p.variance_large.ln());
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
                    for p in of_table(&config.build().unwrap()) {
                        for x in [
                            p.x0_coef,
                            p.x_coef,
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
