//! Ancestral sampling.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Posterior, Process, Spacing, VarianceKind};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step};
use crate::rows::combine;
use crate::{DiffusionError, Meaning, VarianceOutput, Walk};

/// x' ~ q(x' | x, x̂0) with a variance of choice (Ho et al. 2020, algorithm 2; learned: Nichol & Dhariwal 2021, eq. 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ddpm {
    /// The variance of the noise; unset: learned where the network has learned one, else small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance: Option<VarianceKind>,
    /// Use the large variance even when steps are skipped, where it makes noisy images.
    pub allow_large_respaced: bool,
}

impl Ddpm {
    /// The variance that is drawn with: the large one is a trap when steps are skipped (Nichol & Dhariwal 2021,
    /// section 4: FID 46 instead of 11 at 100 of 1000 steps).
    #[must_use]
    pub fn variance_used(&self, process: &Process, grid: &Grid) -> Option<VarianceKind> {
        let all = process.schedule().is_some_and(|schedule| grid.legs().len() >= schedule.len());
        let large = self.variance == Some(VarianceKind::Large);
        match large && !all && !self.allow_large_respaced {
            true => Some(VarianceKind::Small),
            false => self.variance,
        }
    }
}

impl Method for Ddpm {
    fn about(&self) -> About {
        About {
            good_for: "the samples that the likelihood is about, at all steps; slow",
            order: 0,
            evaluations: Evaluations::One,
            usual_steps: 0,
            stochastic: true,
            source: "Ho et al. 2020",
        }
    }

    fn check(&self, process: &Process, grid: &Grid) -> Result<(), DiffusionError> {
        if self.variance_used(process, grid) != self.variance {
            tracing::warn!(
                steps = grid.legs().len(),
                "the large variance makes noisy images when steps are skipped; using the small one \
                 (sample.sampler.allow_large_respaced = true keeps the large one)"
            );
        }
        Ok(())
    }

    fn check_meaning(&self, meaning: Meaning) -> Result<(), DiffusionError> {
        let learned = meaning.variance != VarianceOutput::None;
        match self.variance == Some(VarianceKind::Learned) && !learned {
            true => Err(no_variance()),
            false => Ok(()),
        }
    }

    fn table_spacing(&self) -> Spacing {
        Spacing::Leading {}
    }

    fn needs_signal(&self) -> bool {
        false
    }

    fn start(&self, process: &Process, grid: &Grid) -> Box<dyn Step> {
        Box::new(Ancestral(self.variance_used(process, grid)))
    }
}

struct Ancestral(Option<VarianceKind>);

impl Step for Ancestral {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let estimate = walk.denoise(&x, leg.from)?;
        let posterior = Posterior::new(leg.from.level, leg.to.level);
        let mean = combine(posterior.x0_coef, &estimate.x0, posterior.x_coef, &x);
        // No noise is added at the last step, whatever the variance.
        if leg.to.level.is_clean() {
            return Ok(mean);
        }
        let variance = match (self.0, estimate.variance) {
            (None | Some(VarianceKind::Learned), Some(learned)) => {
                let z = walk.noise(&x)?;
                let [small, large] = [posterior.log_variance_small, posterior.log_variance_large];
                return Ok(mean + (learned.log_at(small, large) * 0.5).exp() * z);
            }
            (Some(VarianceKind::Learned), None) => return Err(no_variance()),
            (None | Some(VarianceKind::Small), _) => posterior.variance_small,
            (Some(VarianceKind::Large), _) => posterior.variance_large,
        };
        Ok(mean + walk.noise(&x)? * variance.sqrt())
    }
}

fn no_variance() -> DiffusionError {
    DiffusionError::Sampler {
        sampler: "ddpm",
        problem: "is to draw with a learned variance, and this network has learned none; set \
                  sample.sampler.variance to \"small\" or \"large\""
            .into(),
    }
}
