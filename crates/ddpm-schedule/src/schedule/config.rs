//! What a person writes under `[schedule]`.

use serde::{Deserialize, Serialize};

use super::{Schedule, check_steps, kinds};
use crate::ScheduleError;

/// The shape of a noise schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// β rises linearly (Ho et al. 2020).
    #[default]
    Linear,
    /// √β rises linearly (latent diffusion).
    ScaledLinear,
    /// ᾱ falls as a squared cosine (Nichol & Dhariwal 2021, eq. 17); diffusers' `squaredcos_cap_v2`.
    Cosine,
    /// β is a sigmoid of the step; diffusers' `sigmoid`.
    SigmoidBeta,
    /// ᾱ is a sigmoid of the step (Jabri et al. 2022).
    SigmoidAlphaBar,
    /// β as listed in `betas`.
    Custom,
}

/// A noise schedule as configured; [`ScheduleConfig::build`] validates it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// The shape.
    pub kind: ScheduleKind,
    /// T, from 1 to 10,000.
    pub steps: usize,
    /// The lower end of β; for linear, scaled linear and sigmoid-of-β.
    pub beta_start: f64,
    /// The upper end of β; for linear, scaled linear and sigmoid-of-β.
    pub beta_end: f64,
    /// Multiply both ends by 1000/T, so that a shorter schedule destroys as much signal.
    pub scale_ends: bool,
    /// Where on the sigmoid ᾱ begins; for sigmoid-of-ᾱ.
    pub sigmoid_start: f64,
    /// Where on the sigmoid ᾱ ends; for sigmoid-of-ᾱ.
    pub sigmoid_end: f64,
    /// The width of the sigmoid; for sigmoid-of-ᾱ.
    pub sigmoid_tau: f64,
    /// Every β, `steps` of them; for the kind custom only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<Vec<f64>>,
    /// Rescale so that the last step holds no signal (Lin et al. 2023).
    pub zero_terminal_snr: bool,
    /// Tell the network t·network_steps/T instead of t (Nichol & Dhariwal 2021: 1000, whatever T; `rescale_timesteps` of
    /// their program).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_steps: Option<usize>,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Linear,
            steps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            scale_ends: false,
            sigmoid_start: -3.0,
            sigmoid_end: 3.0,
            sigmoid_tau: 1.0,
            betas: None,
            zero_terminal_snr: false,
            network_steps: None,
        }
    }
}

impl ScheduleConfig {
    /// The table that this configuration describes.
    ///
    /// # Errors
    /// A [`ScheduleError`] that names the key at fault.
    pub fn build(&self) -> Result<Schedule, ScheduleError> {
        check_steps(self.steps)?;
        let betas = self.listed_betas()?;
        let steps = self.steps;
        let mut schedule = Schedule::from_betas(match self.kind {
            ScheduleKind::Linear => {
                let (start, end) = self.beta_ends()?;
                kinds::linear(start, end, steps)
            }
            ScheduleKind::ScaledLinear => {
                let (start, end) = self.beta_ends()?;
                kinds::scaled_linear(start, end, steps)
            }
            ScheduleKind::SigmoidBeta => {
                let (start, end) = self.beta_ends()?;
                kinds::sigmoid_beta(start, end, steps)
            }
            ScheduleKind::Cosine => kinds::cosine(steps),
            ScheduleKind::SigmoidAlphaBar => {
                self.check_sigmoid()?;
                kinds::sigmoid_alpha_bar(
                    self.sigmoid_start,
                    self.sigmoid_end,
                    self.sigmoid_tau,
                    steps,
                )
            }
            ScheduleKind::Custom => betas,
        })?;
        if let Some(told) = self.network_steps {
            check_steps(told).map_err(|_| ScheduleError::Parameter {
                name: "network_steps",
                value: told as f64,
                expected: "from 1 to 10000",
            })?;
            schedule.told = told as f64 / steps as f64;
        }
        match self.zero_terminal_snr {
            true => schedule.with_zero_terminal_snr(),
            false => Ok(schedule),
        }
    }

    /// The first key with a value of its own that the kind does not read.
    #[must_use]
    pub fn unheeded(&self) -> Option<&'static str> {
        let usual = Self::default();
        let (ends, sigmoid) = match self.kind {
            ScheduleKind::Linear | ScheduleKind::ScaledLinear | ScheduleKind::SigmoidBeta => {
                (true, false)
            }
            ScheduleKind::SigmoidAlphaBar => (false, true),
            ScheduleKind::Cosine | ScheduleKind::Custom => (false, false),
        };
        [
            ("beta_start", ends || self.beta_start == usual.beta_start),
            ("beta_end", ends || self.beta_end == usual.beta_end),
            ("scale_ends", ends || !self.scale_ends),
            (
                "sigmoid_start",
                sigmoid || self.sigmoid_start == usual.sigmoid_start,
            ),
            (
                "sigmoid_end",
                sigmoid || self.sigmoid_end == usual.sigmoid_end,
            ),
            (
                "sigmoid_tau",
                sigmoid || self.sigmoid_tau == usual.sigmoid_tau,
            ),
        ]
        .into_iter()
        .find_map(|(key, heeded)| (!heeded).then_some(key))
    }

    fn listed_betas(&self) -> Result<Vec<f64>, ScheduleError> {
        let problem = match (self.kind, &self.betas) {
            (ScheduleKind::Custom, Some(betas)) if betas.len() == self.steps => {
                return Ok(betas.clone());
            }
            (ScheduleKind::Custom, Some(betas)) => format!(
                "schedule.steps is {} but schedule.betas has {} values; set schedule.steps = {1}",
                self.steps,
                betas.len()
            ),
            (ScheduleKind::Custom, None) => "schedule.kind \"custom\" needs schedule.betas, the list of every β".into(),
            (_, Some(_)) => "schedule.betas is used by the kind \"custom\" only; set schedule.kind = \"custom\" or remove schedule.betas".into(),
            (_, None) => return Ok(Vec::new()),
        };
        Err(ScheduleError::Betas { problem })
    }

    fn beta_ends(&self) -> Result<(f64, f64), ScheduleError> {
        let factor = match self.scale_ends {
            true => 1000.0 / self.steps as f64,
            false => 1.0,
        };
        let (start, end) = (self.beta_start * factor, self.beta_end * factor);
        if 0.0 < start && start <= end && end < 1.0 {
            return Ok((start, end));
        }
        let hint = match self.scale_ends {
            true => format!(
                "; scale_ends has multiplied both by 1000/{}, so use more steps or smaller ends",
                self.steps
            ),
            false => String::new(),
        };
        Err(ScheduleError::BetaRange { start, end, hint })
    }

    fn check_sigmoid(&self) -> Result<(), ScheduleError> {
        let parameter = |name, value, expected| {
            Err(ScheduleError::Parameter {
                name,
                value,
                expected,
            })
        };
        if !self.sigmoid_start.is_finite() {
            return parameter("sigmoid_start", self.sigmoid_start, "a finite number");
        }
        if !(self.sigmoid_end.is_finite() && self.sigmoid_end > self.sigmoid_start) {
            return parameter(
                "sigmoid_end",
                self.sigmoid_end,
                "a finite number above sigmoid_start",
            );
        }
        if !(self.sigmoid_tau.is_finite() && self.sigmoid_tau > 0.0) {
            return parameter("sigmoid_tau", self.sigmoid_tau, "a finite number above 0");
        }
        Ok(())
    }
}
