//! Rectified flow: x = (1 - t)·x0 + t·ε, t = 0 the image, t = 1 noise (Liu et al. 2022; Lipman et al. 2023).

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use super::normal::quantile;
use crate::weighting::check;
use crate::{Level, ScheduleError, named};

/// Networks are told 1000·t.
pub(super) const NETWORK_STEPS: f64 = 1000.0;

/// How training draws t, and how sampling spreads it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flow {
    /// s of t' = s·t/(1 + (s - 1)·t), in training and in sampling; above 1 there is more of the noisy times, as
    /// larger images need (Esser et al. 2024, section 5.3.2).
    pub shift: f64,
    /// The law of t before the shift.
    #[serde(deserialize_with = "named::deserialize")]
    pub times: TimeLaw,
    /// The last t above 0, before the shift, that the spacing linspace visits.
    pub t_min: f64,
}

/// How t is distributed in training (Esser et al. 2024, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TimeLaw {
    /// Every t alike.
    Uniform {},
    /// sigmoid(`mean` + `std`·z).
    LogitNormal {
        /// Below 0 there is more of the less noisy times.
        #[serde(default)]
        mean: f64,
        /// The width.
        #[serde(default = "one")]
        std: f64,
    },
    /// 1 - u - `scale`·(cos²(π·u/2) - 1 + u).
    Mode {
        /// The strength: 0 is uniform; from -1 to 2/(π - 2).
        #[serde(default = "usual_mode")]
        scale: f64,
    },
}

fn one() -> f64 {
    1.0
}

fn usual_mode() -> f64 {
    1.29
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            shift: 1.0,
            times: TimeLaw::Uniform {},
            t_min: 1e-3,
        }
    }
}

impl Flow {
    pub(super) fn checked(self) -> Result<Self, ScheduleError> {
        check("process.shift", self.shift, self.shift > 0.0, "above 0")?;
        let inside = self.t_min > 0.0 && self.t_min < 1.0;
        check("process.t_min", self.t_min, inside, "between 0 and 1")?;
        match self.times {
            TimeLaw::Uniform {} => {}
            TimeLaw::LogitNormal { mean, std } => {
                check("process.times.mean", mean, true, "a finite number")?;
                check("process.times.std", std, std > 0.0, "above 0")?;
            }
            TimeLaw::Mode { scale } => {
                // Where t falls with u all along (Esser et al. 2024, eq. 20).
                let most = 1.0 / (FRAC_PI_2 - 1.0);
                let inside = (-1.0..=most).contains(&scale);
                check(
                    "process.times.scale",
                    scale,
                    inside,
                    "from -1 to 2/(π - 2) = 1.75",
                )?;
            }
        }
        Ok(self)
    }

    /// t of u in (0, 1).
    #[must_use]
    pub fn draw(self, u: f64) -> f64 {
        match self.times {
            TimeLaw::LogitNormal { .. } => self.of_normal(quantile(u)),
            TimeLaw::Uniform {} => self.shifted(u),
            TimeLaw::Mode { scale } => self.shifted(mode(u, scale)),
        }
    }

    /// t of a standard normal number, by the logit-normal law; other laws take it for its quantile.
    #[must_use]
    pub fn of_normal(self, z: f64) -> f64 {
        match self.times {
            TimeLaw::LogitNormal { mean, std } => self.shifted(sigmoid(mean + std * z)),
            _ => self.draw(super::normal::cdf(z)),
        }
    }

    /// s·t/(1 + (s - 1)·t).
    #[must_use]
    pub fn shifted(self, t: f64) -> f64 {
        self.shift * t / (1.0 + (self.shift - 1.0) * t)
    }

    pub(super) fn level(t: f64) -> Level {
        Level {
            signal: 1.0 - t,
            noise: t,
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn mode(u: f64, scale: f64) -> f64 {
    let cos = (FRAC_PI_2 * u).cos();
    1.0 - u - scale * (cos * cos - 1.0 + u)
}
