//! The probability flow as an ODE in one of several variables, and EDM's churn.

use burn::tensor::Tensor;
use ddpm_schedule::{Axis, Leg, Level, Process, Stop};
use serde::{Deserialize, Serialize};

use super::check;
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// What the flow is integrated in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// σ, or t of rectified flow: there the flow is straightest.
    #[default]
    Axis,
    /// σ² (the variance-exploding SDE of Song et al. 2021).
    Variance,
    /// t of the process vp, in x itself (the variance-preserving SDE of Song et al. 2021).
    Time,
}

impl Variable {
    /// # Errors   [`DiffusionError::Sampler`] for a time that the process does not have
    pub(super) fn check(
        self,
        sampler: &'static str,
        process: &Process,
    ) -> Result<(), DiffusionError> {
        match (self, process) {
            (Self::Axis | Self::Variance, _) | (Self::Time, Process::Vp(_)) => Ok(()),
            (Self::Time, _) => Err(DiffusionError::Sampler {
                sampler,
                problem: format!(
                    "can integrate in time on the process vp alone, not on {}; set sample.sampler.variable = \"axis\"",
                    process.name()
                ),
            }),
        }
    }

    /// A leg that begins beside pure noise where the variable is infinite there: all but t of rectified flow are.
    pub(super) fn traced(self, process: &Process, leg: Leg) -> Leg {
        let finite = self == Self::Axis && process.axis() == Axis::Flow;
        let level = match finite || leg.from.level.signal > 0.0 {
            true => leg.from.level,
            false => leg.from.level.with_signal(),
        };
        Leg {
            from: Stop { level, ..leg.from },
            ..leg
        }
    }

    /// The variable's value.
    pub(super) fn at(self, process: &Process, level: Level) -> f64 {
        match self {
            Self::Axis => process.axis().at(level),
            Self::Variance => level.sigma().powi(2),
            // Exactly, whatever the β.
            Self::Time if level.is_clean() => 0.0,
            Self::Time => process.time(level),
        }
    }

    /// The level at a value.
    pub(super) fn level(self, process: &Process, value: f64) -> Level {
        match self {
            Self::Axis => process.on_axis(value),
            Self::Variance => process.at_sigma(value.sqrt()),
            Self::Time => process.level(value),
        }
    }

    fn scale(self, process: &Process, level: Level) -> f64 {
        match self {
            Self::Axis => process.axis().scale(level),
            Self::Variance => level.signal,
            Self::Time => 1.0,
        }
    }

    /// d(x/scale)/d(variable).
    pub(super) fn slope(
        self,
        walk: &Walk<'_>,
        x: &Tensor<4>,
        x0: &Tensor<4>,
        level: Level,
    ) -> Tensor<4> {
        match self {
            Self::Axis => walk.slope(x, x0, level),
            Self::Variance => {
                // dσ/dσ² = 1/2σ
                let sigma = level.sigma();
                let rate = 0.5 / (sigma * sigma);
                combine(rate / level.signal, x, -rate, x0)
            }
            Self::Time => {
                let rate = match walk.process() {
                    Process::Vp(vp) => vp.sigma_rate(walk.process().time(level)),
                    _ => f64::NAN,
                };
                // dx/dt = (σ̇/σ + ṡ/s)·x - s·σ̇/σ·x̂0 with s = 1/√(1+σ²) (Karras et al. 2022, eq. 81).
                let sigma = level.sigma();
                let relative = rate / sigma;
                let shrink = -sigma * rate * level.signal * level.signal;
                combine(relative + shrink, x, -relative * level.signal, x0)
            }
        }
    }

    /// x moved along a slope.
    pub(super) fn along(
        self,
        process: &Process,
        x: &Tensor<4>,
        slope: &Tensor<4>,
        from: Level,
        to: Level,
    ) -> Tensor<4> {
        let scale = self.scale(process, to);
        let step = self.at(process, to) - self.at(process, from);
        combine(scale / self.scale(process, from), x, scale * step, slope)
    }
}

/// Noise that is added before a step and taken away by it (Karras et al. 2022, algorithm 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Churn {
    pub(super) s_churn: f64,
    pub(super) s_tmin: f64,
    pub(super) s_tmax: f64,
    pub(super) s_noise: f64,
}

impl Churn {
    pub(super) fn check(self) -> Result<(), DiffusionError> {
        let Self {
            s_churn,
            s_tmin,
            s_tmax,
            s_noise,
        } = self;
        let fine = s_churn >= 0.0 && s_churn.is_finite();
        check(
            "sampler.s_churn",
            s_churn,
            fine,
            "at least 0 (0 is deterministic)",
        )?;
        check("sampler.s_tmin", s_tmin, s_tmin >= 0.0, "at least 0, a σ")?;
        check(
            "sampler.s_tmax",
            s_tmax,
            s_tmax >= s_tmin,
            "at least sampler.s_tmin, a σ",
        )?;
        super::check_noise(0.0, s_noise)
    }

    /// Where the step begins after the noise: at σ·(1 + γ).
    pub(super) fn place(self, walk: &Walk<'_>, from: Stop) -> Stop {
        let sigma = from.level.sigma();
        let inside = (self.s_tmin..=self.s_tmax).contains(&sigma);
        let gamma = (self.s_churn / walk.of() as f64).min(std::f64::consts::SQRT_2 - 1.0);
        match inside && gamma > 0.0 && sigma.is_finite() {
            true => walk.stop(walk.process().at_sigma(sigma * (1.0 + gamma))),
            false => from,
        }
    }

    /// x with that noise.
    pub(super) fn add(
        self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        from: Stop,
        hat: Stop,
    ) -> Result<Tensor<4>, DiffusionError> {
        match hat.level == from.level {
            true => Ok(x),
            false => walk.renoise(x, from.level, hat.level, self.s_noise),
        }
    }
}
