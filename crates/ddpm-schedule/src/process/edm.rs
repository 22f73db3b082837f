//! EDM: σ of noise beside a signal of 1 (Karras et al. 2022, section 2 and table 1).

use serde::{Deserialize, Serialize};

use super::normal::{cdf, quantile};
use crate::ScheduleError;
use crate::weighting::check;

pub(super) const SIGMA_DATA: f64 = 0.5;

/// The range of σ that samplers visit, and the log-normal law that training draws it by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Edm {
    /// The last σ above 0 that samplers visit.
    pub sigma_min: f64,
    /// The σ that they start from.
    pub sigma_max: f64,
    /// The deviation of the data's pixels.
    pub sigma_data: f64,
    /// The mean of ln σ in training.
    pub p_mean: f64,
    /// Its deviation.
    pub p_std: f64,
}

impl Default for Edm {
    fn default() -> Self {
        Self {
            sigma_min: 0.002,
            sigma_max: 80.0,
            sigma_data: SIGMA_DATA,
            p_mean: -1.2,
            p_std: 1.2,
        }
    }
}

impl Edm {
    pub(super) fn checked(self) -> Result<Self, ScheduleError> {
        check(
            "process.sigma_min",
            self.sigma_min,
            self.sigma_min > 0.0,
            "above 0",
        )?;
        let above = self.sigma_max > self.sigma_min;
        check(
            "process.sigma_max",
            self.sigma_max,
            above,
            "above process.sigma_min",
        )?;
        check(
            "process.sigma_data",
            self.sigma_data,
            self.sigma_data > 0.0,
            "above 0",
        )?;
        check("process.p_mean", self.p_mean, true, "a finite number")?;
        check("process.p_std", self.p_std, self.p_std > 0.0, "above 0")?;
        Ok(self)
    }

    pub(super) fn draw(self, u: f64) -> f64 {
        self.sigma(quantile(u))
    }

    /// The σ that training draws for a standard normal number.
    #[must_use]
    pub fn sigma(self, z: f64) -> f64 {
        (self.p_mean + self.p_std * z).exp()
    }

    /// The share of what training draws that lies below σ.
    pub(super) fn share_below(self, sigma: f64) -> f64 {
        cdf((sigma.ln() - self.p_mean) / self.p_std)
    }
}
