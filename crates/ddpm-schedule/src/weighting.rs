//! How much the error at each noise level counts in the loss.

mod config;

use crate::{Prediction, ScheduleError};

/// Hang et al. 2023, section 4.
const DEFAULT_MIN_SNR_GAMMA: f64 = 5.0;
/// Choi et al. 2022, section 4.
const DEFAULT_P2_K: f64 = 1.0;
const DEFAULT_P2_GAMMA: f64 = 1.0;

/// The weight on the squared error of the predicted quantity, as a function of the signal-to-noise ratio.
///
/// In TOML either a name, `weighting = "min_snr"`, or a table, `weighting = { kind = "min_snr", gamma = 5.0 }`;
/// parameters that are left out take the papers' values, γ = 5 for min-SNR, k = γ = 1 for P2.
///
/// At equal x_t the squared errors of ε, x0 and v are in the ratio SNR : 1 : SNR + 1, so a
/// weight w on ε is the same loss as w·SNR on x0 and w·SNR/(SNR + 1) on v.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Weighting {
    /// 1, whatever is predicted (Ho et al. 2020, eq. 14).
    #[default]
    Simple,
    /// min(SNR, γ) on x0 and its equivalents on ε and v (Hang et al. 2023, section 3.4).
    MinSnr {
        /// Where the weight stops growing; above 0.
        gamma: f64,
    },
    /// (k + SNR)^-γ on ε and its equivalents on x0 and v (Choi et al. 2022, eq. 8, over the simple loss).
    P2 {
        /// Keeps the weight finite where there is no signal; above 0.
        k: f64,
        /// The strength; at least 0.
        gamma: f64,
    },
}

impl Weighting {
    /// The weight at a signal-to-noise ratio `snr >= 0`.
    ///
    /// At SNR = 0 these are the limits: min-SNR gives 1 on ε, 0 on x0 and v.
    #[must_use]
    pub fn weight(&self, snr: f64, prediction: Prediction) -> f64 {
        match (self, prediction) {
            (Self::Simple, _) => 1.0,
            // γ/0 is +∞, so the minimum is the limit 1.
            (Self::MinSnr { gamma }, Prediction::Eps) => (gamma / snr).min(1.0),
            (Self::MinSnr { gamma }, Prediction::X0) => snr.min(*gamma),
            (Self::MinSnr { gamma }, Prediction::V) => snr.min(*gamma) / (snr + 1.0),
            (Self::P2 { k, gamma }, Prediction::Eps) => (k + snr).powf(-gamma),
            (Self::P2 { k, gamma }, Prediction::X0) => (k + snr).powf(-gamma) * snr,
            (Self::P2 { k, gamma }, Prediction::V) => (k + snr).powf(-gamma) * (snr / (snr + 1.0)),
        }
    }

    /// Refuses parameters without meaning.
    ///
    /// # Errors
    /// [`ScheduleError::Coefficient`] naming the parameter.
    pub fn check(&self) -> Result<(), ScheduleError> {
        match *self {
            Self::Simple => Ok(()),
            Self::MinSnr { gamma } => check("weighting.gamma", gamma, gamma > 0.0, "above 0"),
            Self::P2 { k, gamma } => {
                check("weighting.k", k, k > 0.0, "above 0")?;
                check("weighting.gamma", gamma, gamma >= 0.0, "at least 0")
            }
        }
    }
}

fn check(
    name: &'static str,
    value: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), ScheduleError> {
    match holds && value.is_finite() {
        true => Ok(()),
        false => Err(ScheduleError::Coefficient {
            name,
            value,
            expected,
        }),
    }
}

#[cfg(test)]
mod tests;
