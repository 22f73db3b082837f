//! DDIM.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process, Spacing, solver::ddim_step};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step, check};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// x' = √ᾱ'·x̂0 + √(1-ᾱ'-σ²)·ε̂ + σ·z (Song et al. 2021, eq. 12).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ddim {
    /// How much fresh noise a step adds, from 0 (none) to 1 (as much as DDPM).
    pub eta: f64,
    /// ε̂ stays the network's where x̂0 is clipped (diffusers without `use_clipped_model_output`).
    pub keep_eps: bool,
}

impl Method for Ddim {
    fn about(&self) -> About {
        About {
            good_for: "20 to 100 steps, the same image at any number of them",
            order: 1,
            evaluations: Evaluations::One,
            usual_steps: 50,
            stochastic: self.eta > 0.0,
            source: "Song et al. 2021",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        let fine = (0.0..=1.0).contains(&self.eta);
        check("sampler.eta", self.eta, fine, "from 0 (deterministic) to 1 (as noisy as DDPM)")
    }

    fn table_spacing(&self) -> Spacing {
        Spacing::Leading {}
    }

    fn needs_signal(&self) -> bool {
        false
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

impl Step for Ddim {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let estimate = walk.denoise(&x, leg.from)?;
        let step = ddim_step(leg.from.level, leg.to.level, self.eta)?;
        let next = match step.eps == 0.0 {
            true => estimate.x0 * step.x0,
            false => {
                let eps = match self.keep_eps {
                    true => estimate.network_eps(&x, leg.from.level),
                    false => estimate.eps(&x, leg.from.level),
                };
                combine(step.x0, &estimate.x0, step.eps, &eps)
            }
        };
        Ok(match step.noise == 0.0 {
            true => next,
            false => next + walk.noise(&x)? * step.noise,
        })
    }
}
