//! The midpoint method in ln σ.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Level, Process};
use serde::{Deserialize, Serialize};

use super::ode::{Churn, Variable};
use super::{About, Evaluations, Method, Step};
use crate::{DiffusionError, Walk};

/// x' = x̂ + (u' - û)·d', d' at √(û·u') (k-diffusion's `sample_dpm_2`, after Lu et al. 2022).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpm2 {
    /// How much noise is added and taken away again, over all steps.
    pub s_churn: f64,
    /// The least σ at which it is.
    pub s_tmin: f64,
    /// The largest.
    pub s_tmax: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
}

impl Default for Dpm2 {
    fn default() -> Self {
        Self {
            s_churn: 0.0,
            s_tmin: 0.0,
            s_tmax: f64::MAX,
            s_noise: 1.0,
        }
    }
}

impl Dpm2 {
    fn churn(&self) -> Churn {
        Churn {
            s_churn: self.s_churn,
            s_tmin: self.s_tmin,
            s_tmax: self.s_tmax,
            s_noise: self.s_noise,
        }
    }
}

impl Method for Dpm2 {
    fn about(&self) -> About {
        About {
            good_for: "an alternative to heun with the same cost",
            order: 2,
            evaluations: Evaluations::Two,
            usual_steps: 18,
            stochastic: self.s_churn > 0.0,
            source: "Lu et al. 2022; k-diffusion",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        self.churn().check()
    }

    fn needs_signal(&self) -> bool {
        false
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

impl Step for Dpm2 {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let leg = Variable::Axis.traced(walk.process(), leg);
        let hat = self.churn().place(walk, leg.from);
        let x = self.churn().add(walk, x, leg.from, hat)?;
        midpoint(walk, &x, Leg { from: hat, ..leg }, leg.to.level)
    }
}

/// A midpoint step along a leg's beginning to a level `to`, which may lie below the leg's end.
pub(super) fn midpoint(
    walk: &mut Walk<'_>,
    x: &Tensor<4>,
    leg: Leg,
    to: Level,
) -> Result<Tensor<4>, DiffusionError> {
    let from = leg.from.level;
    let x0 = walk.denoise(x, leg.from)?.x0;
    if to.is_clean() {
        return Ok(x0);
    }
    let slope = walk.slope(x, &x0, from);
    let axis = walk.process().axis();
    let middle = walk.process().on_axis((axis.at(from) * axis.at(to)).sqrt());
    let between = walk.along(x, &slope, from, middle);
    let x0 = walk.denoise(&between, walk.stop(middle))?.x0;
    let slope = walk.slope(&between, &x0, middle);
    Ok(walk.along(x, &slope, from, to))
}
