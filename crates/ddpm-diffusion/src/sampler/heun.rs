//! Heun's method.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process};
use serde::{Deserialize, Serialize};

use super::ode::Churn;
use super::{About, Evaluations, Method, Step, check};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

pub use super::ode::Variable;

/// Two slopes a step: x' = x̂ + h·((1 - 1/2α)·d + 1/2α·d'), d' at û + α·h (Karras et al. 2022, algorithms 1 to 3).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Heun {
    /// How much noise is added and taken away again, over all steps.
    pub s_churn: f64,
    /// The least σ at which it is.
    pub s_tmin: f64,
    /// The largest.
    pub s_tmax: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
    /// Where in the step the second slope is taken: 1 is Heun's method, 2/3 Ralston's, 1/2 the midpoint.
    pub alpha: f64,
    /// What the flow is integrated in.
    pub variable: Variable,
}

impl Default for Heun {
    fn default() -> Self {
        Self {
            s_churn: 0.0,
            s_tmin: 0.0,
            s_tmax: f64::MAX,
            s_noise: 1.0,
            alpha: 1.0,
            variable: Variable::Axis,
        }
    }
}

impl Heun {
    fn churn(&self) -> Churn {
        Churn {
            s_churn: self.s_churn,
            s_tmin: self.s_tmin,
            s_tmax: self.s_tmax,
            s_noise: self.s_noise,
        }
    }
}

impl Method for Heun {
    fn about(&self) -> About {
        About {
            good_for: "EDM's networks, 18 to 40 steps with karras spacing; churn corrects errors at many steps",
            order: 2,
            evaluations: Evaluations::Two,
            usual_steps: 18,
            stochastic: self.s_churn > 0.0,
            source: "Karras et al. 2022",
        }
    }

    fn check(&self, process: &Process, _: &Grid) -> Result<(), DiffusionError> {
        let fine = self.alpha > 0.0 && self.alpha <= 1.0;
        check("sampler.alpha", self.alpha, fine, "above 0 and at most 1")?;
        self.churn().check()?;
        self.variable.check("heun", process)
    }

    fn needs_signal(&self) -> bool {
        false
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

impl Step for Heun {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let variable = self.variable;
        let leg = variable.traced(walk.process(), leg);
        let hat = self.churn().place(walk, leg.from);
        let x = self.churn().add(walk, x, leg.from, hat)?;
        let (from, to) = (hat.level, leg.to.level);
        let x0 = walk.denoise(&x, hat)?.x0;
        let slope = variable.slope(walk, &x, &x0, from);
        // At the image itself there is no slope.
        if to.is_clean() {
            return Ok(variable.along(walk.process(), &x, &slope, from, to));
        }
        let between = match self.alpha == 1.0 {
            true => leg.to,
            false => {
                let process = walk.process();
                let [start, end] = [from, to].map(|level| variable.at(process, level));
                walk.stop(variable.level(process, start + self.alpha * (end - start)))
            }
        };
        let ahead = variable.along(walk.process(), &x, &slope, from, between.level);
        let x0 = walk.denoise(&ahead, between)?.x0;
        let second = variable.slope(walk, &ahead, &x0, between.level);
        let share = 0.5 / self.alpha;
        let slope = combine(1.0 - share, &slope, share, &second);
        Ok(variable.along(walk.process(), &x, &slope, from, to))
    }
}
