//! The midpoint method in ln σ with fresh noise.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process};
use serde::{Deserialize, Serialize};

use super::dpm2::midpoint;
use super::{About, Evaluations, Method, Step, check_noise};
use crate::walk::Ancestral;
use crate::{DiffusionError, Walk};

/// A midpoint step to σ_down, then noise of σ_up (k-diffusion's `sample_dpm_2_ancestral`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpm2Ancestral {
    /// How much fresh noise a step adds: 0 none, 1 as much as DDPM.
    pub eta: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
}

impl Default for Dpm2Ancestral {
    fn default() -> Self {
        Self {
            eta: 1.0,
            s_noise: 1.0,
        }
    }
}

impl Method for Dpm2Ancestral {
    fn about(&self) -> About {
        About {
            good_for: "varied images, more exact than euler_ancestral at twice the cost",
            order: 2,
            evaluations: Evaluations::Two,
            usual_steps: 25,
            stochastic: self.eta > 0.0,
            source: "k-diffusion",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        check_noise(self.eta, self.s_noise)
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

impl Step for Dpm2Ancestral {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let ancestral = Ancestral::new(walk.process(), leg, self.eta);
        let x = midpoint(walk, &x, leg, ancestral.down)?;
        ancestral.draw(walk, x, leg.to.level, self.s_noise)
    }
}
