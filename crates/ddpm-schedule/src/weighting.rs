//! How much the error at each noise level counts in the loss.

use serde::{Deserialize, Serialize};

use crate::{Level, Prediction, ScheduleError};

/// The weight on the squared error of the network's output, as a function of the signal-to-noise ratio.
///
/// In TOML either a name, `weighting = "min_snr"`, or a table, `weighting = { kind = "min_snr", gamma = 5.0 }`;
/// parameters that are not given take the papers' values.
///
/// A weight w on the error of x0 is the same loss as w·(∂x̂0/∂F)² on that of the output F: w/SNR on ε,
/// w/(SNR + 1) on v.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Weighting {
    /// 1, whatever is predicted (Ho et al. 2020, eq. 14).
    Simple {},
    /// min(SNR, γ) on x0 (Hang et al. 2023, section 3.4).
    MinSnr {
        /// Where the weight stops growing; above 0.
        #[serde(default = "five")]
        gamma: f64,
        /// ε's weight min(1, γ/SNR) whatever is predicted, as the authors' program has it for v.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        as_eps: bool,
    },
    /// SNR·γ/(SNR + γ) on x0, min-SNR without its corner; k-diffusion's is γ = 1/σ_data² (Crowson et al. 2024).
    SoftMinSnr {
        /// Where the weight stops growing; above 0.
        #[serde(default = "five")]
        gamma: f64,
    },
    /// (k + SNR)^-γ on ε (Choi et al. 2022, eq. 8, over the simple loss).
    P2 {
        /// Keeps the weight finite where there is no signal; above 0.
        #[serde(default = "one")]
        k: f64,
        /// The strength; at least 0.
        #[serde(default = "one")]
        gamma: f64,
    },
    /// SNR on x0, which is 1 on ε.
    Snr {},
    /// max(SNR, 1) on x0 (Salimans & Ho 2022, section 4).
    TruncatedSnr {},
    /// SNR + 1/σ_data² on x0, which is 1 on EDM's output (Karras et al. 2022, table 1).
    Edm {},
}

fn five() -> f64 {
    5.0
}

fn one() -> f64 {
    1.0
}

impl Default for Weighting {
    fn default() -> Self {
        Self::Simple {}
    }
}

impl Weighting {
    /// The weight on the output's squared error at a level.
    ///
    /// Where there is no signal these are the limits: min-SNR gives 1 on ε, 0 on x0 and v.
    #[must_use]
    pub fn weight(&self, level: Level, prediction: Prediction, sigma_data: f64) -> f64 {
        if let Self::Simple {} = self {
            return 1.0;
        }
        let snr = level.snr();
        match prediction {
            _ if matches!(self, Self::MinSnr { as_eps: true, .. }) => self.on_eps(snr, sigma_data),
            Prediction::Eps => self.on_eps(snr, sigma_data),
            _ => self.on_x0(snr, sigma_data) * prediction.gain(level, sigma_data),
        }
    }

    fn on_x0(&self, snr: f64, sigma_data: f64) -> f64 {
        match *self {
            Self::Simple {} => 1.0,
            Self::MinSnr { gamma, .. } => snr.min(gamma),
            Self::SoftMinSnr { gamma } => snr * gamma / (snr + gamma),
            Self::P2 { k, gamma } => (k + snr).powf(-gamma) * snr,
            Self::Snr {} => snr,
            Self::TruncatedSnr {} => snr.max(1.0),
            Self::Edm {} => snr + sigma_data.powi(-2),
        }
    }

    /// `on_x0`/SNR.
    fn on_eps(&self, snr: f64, sigma_data: f64) -> f64 {
        match *self {
            Self::Simple {} => 1.0,
            // γ/0 is +∞, so the minimum is the limit 1.
            Self::MinSnr { gamma, .. } => (gamma / snr).min(1.0),
            Self::SoftMinSnr { gamma } => gamma / (snr + gamma),
            Self::P2 { k, gamma } => (k + snr).powf(-gamma),
            Self::Snr {} => 1.0,
            Self::TruncatedSnr {} => (1.0 / snr).max(1.0),
            Self::Edm {} => 1.0 + 1.0 / (snr * sigma_data * sigma_data),
        }
    }

    /// Whether pure noise counts for nothing.
    #[must_use]
    pub fn is_zero_at_pure_noise(&self, prediction: Prediction, sigma_data: f64) -> bool {
        self.weight(Level::of_alpha_bar(0.0), prediction, sigma_data) == 0.0
    }

    /// Refuses parameters without meaning.
    ///
    /// # Errors
    /// [`ScheduleError::Coefficient`] naming the parameter.
    pub fn check(&self) -> Result<(), ScheduleError> {
        match *self {
            Self::MinSnr { gamma, .. } | Self::SoftMinSnr { gamma } => {
                check("weighting.gamma", gamma, gamma > 0.0, "above 0")
            }
            Self::P2 { k, gamma } => {
                check("weighting.k", k, k > 0.0, "above 0")?;
                check("weighting.gamma", gamma, gamma >= 0.0, "at least 0")
            }
            Self::Simple {} | Self::Snr {} | Self::TruncatedSnr {} | Self::Edm {} => Ok(()),
        }
    }
}

/// # Errors   [`ScheduleError::Coefficient`] unless `holds` and the value is finite
pub(crate) fn check(
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
