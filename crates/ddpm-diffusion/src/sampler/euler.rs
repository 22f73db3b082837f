//! Euler's method.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Prediction, Process};
use serde::{Deserialize, Serialize};

use super::ode::Churn;
use super::{About, Evaluations, Method, Step};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

pub use super::ode::Variable;

/// x' = x + (u' - û)·dx/du, after `s_churn` of noise (Karras et al. 2022, algorithm 2 without its correction).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Euler {
    /// How much noise is added and taken away again, over all steps.
    pub s_churn: f64,
    /// The least σ at which it is.
    pub s_tmin: f64,
    /// The largest.
    pub s_tmax: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
    /// The network sees x before the noise of churn, as in diffusers, instead of after it.
    pub churn_late: bool,
    /// All noise is fresh at every step: x' = signal'·x̂0 + noise'·z (Song et al. 2023, algorithm 1).
    pub renoise: bool,
    /// What the flow is integrated in.
    pub variable: Variable,
}

impl Default for Euler {
    fn default() -> Self {
        Self {
            s_churn: 0.0,
            s_tmin: 0.0,
            s_tmax: f64::MAX,
            s_noise: 1.0,
            churn_late: false,
            renoise: false,
            variable: Variable::Axis,
        }
    }
}

impl Euler {
    fn churn(&self) -> Churn {
        Churn {
            s_churn: self.s_churn,
            s_tmin: self.s_tmin,
            s_tmax: self.s_tmax,
            s_noise: self.s_noise,
        }
    }
}

impl Method for Euler {
    fn about(&self) -> About {
        About {
            good_for: "rectified flow, and as the plain method that others are compared with",
            order: 1,
            evaluations: Evaluations::One,
            usual_steps: 50,
            stochastic: self.s_churn > 0.0 || self.renoise,
            source: "Karras et al. 2022",
        }
    }

    fn check(&self, process: &Process, _: &Grid) -> Result<(), DiffusionError> {
        self.churn().check()?;
        self.variable.check("euler", process)
    }

    fn needs_signal(&self) -> bool {
        false
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

impl Step for Euler {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let leg = self.variable.traced(walk.process(), leg);
        let hat = self.churn().place(walk, leg.from);
        let (x, x0) = match self.churn_late {
            false => {
                let x = self.churn().add(walk, x, leg.from, hat)?;
                let x0 = walk.denoise(&x, hat)?.x0;
                (x, x0)
            }
            true => {
                let estimate = walk.denoise(&x, leg.from)?;
                let x = self.churn().add(walk, x, leg.from, hat)?;
                let x0 = match &estimate.output {
                    _ if hat.level == leg.from.level => estimate.x0,
                    // diffusers takes v̂ for that of the level before the noise.
                    Some(output) if output.prediction == Prediction::V => {
                        let before = leg.from.level;
                        let x = x.clone() * (before.signal / hat.level.signal);
                        output.x0(&x, before)
                    }
                    Some(output) => output.x0(&x, hat.level),
                    None => estimate.x0,
                };
                (x, x0)
            }
        };
        let (from, to) = (hat.level, leg.to.level);
        if self.renoise && !to.is_clean() {
            let z = walk.noise(&x)?;
            return Ok(combine(to.signal, &x0, to.noise, &z));
        }
        Ok(match self.variable {
            Variable::Axis => walk.euler(&x, &x0, from, to),
            variable => {
                let slope = variable.slope(walk, &x, &x0, from);
                variable.along(walk.process(), &x, &slope, from, to)
            }
        })
    }
}
