//! DPM-Solver++(2S) with fresh noise.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step, check_noise};
use crate::rows::combine;
use crate::walk::Ancestral;
use crate::{DiffusionError, Walk};

/// A second-order single step in λ to σ_down, then noise of σ_up (k-diffusion's `sample_dpmpp_2s_ancestral`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpmpp2sAncestral {
    /// How much fresh noise a step adds: 0 none, 1 as much as DDPM.
    pub eta: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
}

impl Default for Dpmpp2sAncestral {
    fn default() -> Self {
        Self {
            eta: 1.0,
            s_noise: 1.0,
        }
    }
}

impl Method for Dpmpp2sAncestral {
    fn about(&self) -> About {
        About {
            good_for: "varied images with few artefacts in 15 to 30 steps",
            order: 2,
            evaluations: Evaluations::Two,
            usual_steps: 20,
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

impl Step for Dpmpp2sAncestral {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let from = leg.from.level;
        let ancestral = Ancestral::new(walk.process(), leg, self.eta);
        let x0 = walk.denoise(&x, leg.from)?.x0;
        if ancestral.down.is_clean() {
            let x = walk.euler(&x, &x0, from, ancestral.down);
            return ancestral.draw(walk, x, leg.to.level, self.s_noise);
        }
        // Halfway in λ, which is at the geometric mean of σ.
        let middle = (from.sigma() * ancestral.down.sigma()).sqrt();
        let middle = walk.process().at_sigma(middle);
        let between = walk.euler(&x, &x0, from, middle);
        let second = walk.denoise(&between, walk.stop(middle))?.x0;
        let down = ancestral.down;
        let rest = down.noise / from.noise;
        let x = combine(rest, &x, down.signal - rest * from.signal, &second);
        ancestral.draw(walk, x, leg.to.level, self.s_noise)
    }
}
