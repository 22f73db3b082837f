//! DPM-Solver++ as an SDE.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process, Stop};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step, check, check_noise};
use crate::rows::combine;
use crate::walk::Ancestral;
use crate::{DiffusionError, Walk};

/// Two ancestral steps from the same place, the second with both estimates (k-diffusion's `sample_dpmpp_sde`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpmppSde {
    /// How much fresh noise a step adds: 0 none, 1 as much as DDPM.
    pub eta: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
    /// Where in the step, in λ, the second estimate is made.
    pub r: f64,
    /// The noise of the whole step contains that of its first part, as increments of one Brownian path in σ do
    /// (k-diffusion's own noise); else the two are independent.
    pub one_path: bool,
}

impl Default for DpmppSde {
    fn default() -> Self {
        Self {
            eta: 1.0,
            s_noise: 1.0,
            r: 0.5,
            one_path: true,
        }
    }
}

impl Method for DpmppSde {
    fn about(&self) -> About {
        About {
            good_for: "detailed images in 10 to 20 steps",
            order: 2,
            evaluations: Evaluations::Two,
            usual_steps: 20,
            stochastic: self.eta > 0.0,
            source: "k-diffusion",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        let fine = self.r > 0.0 && self.r <= 1.0;
        check("sampler.r", self.r, fine, "above 0 and at most 1")?;
        check_noise(self.eta, self.s_noise)
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

impl Step for DpmppSde {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let (from, to) = (leg.from.level, leg.to.level);
        let first = walk.denoise(&x, leg.from)?.x0;
        if to.is_clean() {
            return Ok(first);
        }
        let lambda = from.lambda() + self.r * (to.lambda() - from.lambda());
        let middle: Stop = walk.stop(walk.process().at_sigma((-lambda).exp()));
        let part = Leg {
            from: leg.from,
            to: middle,
        };
        let inner = Ancestral::new(walk.process(), part, self.eta);
        let whole = Ancestral::new(walk.process(), leg, self.eta);
        let [z1, z2] = match self.eta == 0.0 {
            true => [None, None],
            false => {
                let (z1, z2) = (walk.noise(&x)?, walk.noise(&x)?);
                let [start, between, end] = [from, middle.level, to].map(|level| level.sigma());
                let share = (start - between) / (start - end);
                let z2 = match self.one_path {
                    true => combine(share.sqrt(), &z1, (1.0 - share).sqrt(), &z2),
                    false => z2,
                };
                [Some(z1), Some(z2)]
            }
        };
        let between = walk.euler(&x, &first, from, inner.down);
        let between = inner.finish(between, middle.level, z1.as_ref(), self.s_noise);
        let second = walk.denoise(&between, middle)?.x0;
        let share = 0.5 / self.r;
        let x0 = combine(1.0 - share, &first, share, &second);
        let x = walk.euler(&x, &x0, from, whole.down);
        Ok(whole.finish(x, to, z2.as_ref(), self.s_noise))
    }
}
