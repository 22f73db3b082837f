//! Euler's method with fresh noise.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step, check_noise};
use crate::walk::Ancestral;
use crate::{DiffusionError, Walk};

/// An Euler step to σ_down, then noise of σ_up (k-diffusion's `sample_euler_ancestral`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EulerAncestral {
    /// How much fresh noise a step adds: 0 none, 1 as much as DDPM.
    pub eta: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
}

impl Default for EulerAncestral {
    fn default() -> Self {
        Self {
            eta: 1.0,
            s_noise: 1.0,
        }
    }
}

impl Method for EulerAncestral {
    fn about(&self) -> About {
        About {
            good_for: "varied images in 20 to 50 steps",
            order: 1,
            evaluations: Evaluations::One,
            usual_steps: 50,
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

impl Step for EulerAncestral {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let x0 = walk.denoise(&x, leg.from)?.x0;
        let ancestral = Ancestral::new(walk.process(), leg, self.eta);
        let x = walk.euler(&x, &x0, leg.from.level, ancestral.down);
        ancestral.draw(walk, x, leg.to.level, self.s_noise)
    }
}
