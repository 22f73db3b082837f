//! A sampler with every choice made.

use ddpm_schedule::{Prediction, Respaced, RespacedStep, ScheduleError, VarianceKind};

use crate::DiffusionError;

/// A sampler and its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// Ancestral sampling.
    Ddpm {
        /// The variance of its noise.
        variance: VarianceKind,
    },
    /// DDIM.
    Ddim {
        /// From 0 (deterministic) to 1.
        eta: f64,
    },
}

/// Which steps to visit and how to take them; one plan serves any number of batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    respaced: Respaced,
    prediction: Prediction,
    sampler: Sampler,
    clip: Option<f64>,
    keep_eps: bool,
}

impl Plan {
    /// A plan over any choice of steps; [`SampleConfig::plan`](crate::SampleConfig::plan) makes the usual ones.
    ///
    /// `clip` clamps x̂0 to ± that many pixels of [-1, 1].
    ///
    /// # Errors   [`DiffusionError::Config`] unless 0 ≤ η ≤ 1 and the clipping range is above 0, [`DiffusionError::Schedule`] for ε prediction from a step without signal
    pub fn new(
        respaced: Respaced,
        prediction: Prediction,
        sampler: Sampler,
        clip: Option<f64>,
    ) -> Result<Self, DiffusionError> {
        if let Some(range) = clip
            && !(range.is_finite() && range > 0.0)
        {
            return Err(DiffusionError::Config {
                key: "clip_range",
                got: range.to_string(),
                expected: "a number above 0 (clip = false turns clipping off)",
            });
        }
        if prediction == Prediction::Eps && respaced.steps()[0].alpha_bar == 0.0 {
            return Err(ScheduleError::EpsAtZeroSnr.into());
        }
        match sampler {
            Sampler::Ddim { eta } if !(0.0..=1.0).contains(&eta) => Err(DiffusionError::Config {
                key: "eta",
                got: eta.to_string(),
                expected: "from 0 (deterministic) to 1 (as noisy as DDPM)",
            }),
            Sampler::Ddim { .. } | Sampler::Ddpm { .. } => Ok(Self {
                respaced,
                prediction,
                sampler,
                clip,
                keep_eps: false,
            }),
        }
    }

    /// The same plan, whose steps take the network's own ε̂ even where x̂0 was clipped (DDIM with diffusers'
    /// `use_clipped_model_output` off).
    #[must_use]
    pub fn keeping_eps(self, keep_eps: bool) -> Self {
        Self { keep_eps, ..self }
    }

    /// The visited steps, from the noisiest down; their number is the network evaluations an image.
    #[must_use]
    pub fn steps(&self) -> &[RespacedStep] {
        self.respaced.steps()
    }

    /// What the network outputs.
    #[must_use]
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The sampler.
    #[must_use]
    pub fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// To what x̂0 is clamped, if it is.
    #[must_use]
    pub fn clip(&self) -> Option<f64> {
        self.clip
    }

    /// Whether ε̂ stays the network's where x̂0 is clipped.
    #[must_use]
    pub fn keeps_eps(&self) -> bool {
        self.keep_eps
    }
}
