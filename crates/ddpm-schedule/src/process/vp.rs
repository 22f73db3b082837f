//! The continuous variance-preserving SDE: β(t) rises linearly, t in (0, 1] (Song et al. 2021, eq. 32 and appendix C).

use serde::{Deserialize, Serialize};

use crate::weighting::check;
use crate::{Level, ScheduleError};

/// Training draws t from here on: nearer to 0, ε says nothing.
const LEAST_TRAINED: f64 = 1e-5;

/// Networks are told 999·t, so that they are those of a table of 1000 steps.
pub(super) const NETWORK_STEPS: f64 = 999.0;

/// β(t) = `beta_min` + t·(`beta_max` - `beta_min`), ᾱ(t) = exp(-∫β).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vp {
    /// β at t = 0; 0.1 is that of 1000 linear steps from 1e-4.
    pub beta_min: f64,
    /// β at t = 1.
    pub beta_max: f64,
    /// The last t above 0 that samplers visit.
    pub t_min: f64,
}

impl Default for Vp {
    fn default() -> Self {
        Self {
            beta_min: 0.1,
            beta_max: 20.0,
            t_min: 1e-3,
        }
    }
}

impl Vp {
    pub(super) fn checked(self) -> Result<Self, ScheduleError> {
        check(
            "process.beta_min",
            self.beta_min,
            self.beta_min >= 0.0,
            "at least 0",
        )?;
        let above = self.beta_max > self.beta_min;
        check(
            "process.beta_max",
            self.beta_max,
            above,
            "above process.beta_min",
        )?;
        let inside = self.t_min > 0.0 && self.t_min < 1.0;
        check("process.t_min", self.t_min, inside, "between 0 and 1")?;
        Ok(self)
    }

    pub(super) fn draw(self, u: f64) -> f64 {
        LEAST_TRAINED + u * (1.0 - LEAST_TRAINED)
    }

    /// ∫β from 0 to t, which is ln(1 + σ²).
    fn integral(self, t: f64) -> f64 {
        t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))
    }

    pub(super) fn level(self, t: f64) -> Level {
        let integral = self.integral(t);
        Level {
            signal: (-0.5 * integral).exp(),
            noise: (-(-integral).exp_m1()).sqrt(),
        }
    }

    pub(super) fn time(self, sigma: f64) -> f64 {
        if sigma.is_infinite() {
            return 1.0;
        }
        let integral = (sigma * sigma).ln_1p();
        let slope = self.beta_max - self.beta_min;
        let root = (self.beta_min * self.beta_min + 2.0 * slope * integral).sqrt();
        // (root - beta_min)/slope without the difference of numbers that may be close.
        2.0 * integral / (root + self.beta_min)
    }

    /// dσ/dt.
    #[must_use]
    pub fn sigma_rate(self, t: f64) -> f64 {
        let sigma = self.integral(t).exp_m1().sqrt();
        0.5 * (self.beta_min + t * (self.beta_max - self.beta_min)) * (sigma + 1.0 / sigma)
    }
}
