//! Pseudo linear multistep.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Level, Process, Spacing, Stop};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// DDIM steps with an average of the last four ε̂ (Liu et al. 2022, eq. 12; PLMS of latent diffusion).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pndm {
    /// The first three steps are pseudo Runge–Kutta steps of four evaluations instead of shorter averages.
    pub runge_kutta: bool,
    /// What is averaged.
    pub average: Averaged,
}

/// What PLMS averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaged {
    /// ε̂, as in the paper.
    #[default]
    Eps,
    /// v̂, as in diffusers for networks that predict v.
    V,
}

impl Method for Pndm {
    fn about(&self) -> About {
        About {
            good_for: "ε-networks of tables at 20 to 50 steps, as older programs sampled them",
            order: 4,
            evaluations: Evaluations::OneAndMoreAtFirst(match self.runge_kutta {
                true => 9,
                false => 1,
            }),
            usual_steps: 50,
            stochastic: false,
            source: "Liu et al. 2022",
        }
    }

    fn check(&self, process: &Process, grid: &Grid) -> Result<(), DiffusionError> {
        let steps = grid.legs().len();
        let least = if self.runge_kutta { 4 } else { 2 };
        let problem = match process {
            Process::Flow(_) => "extrapolates ε, which says nothing of the image where the process flow begins, at noise \
                                 alone; take lms, which extrapolates the velocity"
                .to_owned(),
            _ if steps < least => format!(
                "needs {least} steps or more for its averages, not {steps}; raise the number of steps"
            ),
            _ => return Ok(()),
        };
        Err(DiffusionError::Sampler {
            sampler: "pndm",
            problem,
        })
    }

    fn table_spacing(&self) -> Spacing {
        Spacing::Leading {}
    }

    fn start(&self, _: &Process, grid: &Grid) -> Box<dyn Step> {
        Box::new(Plms {
            rules: *self,
            stops: grid.legs().iter().map(|leg| leg.from).collect(),
            history: Vec::new(),
        })
    }
}

struct Plms {
    rules: Pndm,
    /// Where the legs begin.
    stops: Vec<Stop>,
    /// What is averaged, the newest first.
    history: Vec<Tensor<4>>,
}

impl Step for Plms {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let (from, to) = (leg.from.level, leg.to.level);
        let newest = self.ask(walk, &x, leg.from)?;
        if self.rules.runge_kutta && walk.step() < 3 {
            let next = self.runge_kutta(walk, &x, leg, &newest)?;
            self.history.insert(0, newest);
            return Ok(next);
        }
        self.history.insert(0, newest.clone());
        self.history.truncate(4);
        let weights: &[f64] = match self.history.len() {
            1 => {
                let next = self.next(walk, leg);
                let ahead = self.transfer(&x, &newest, from, to);
                let second = self.ask(walk, &ahead, Stop { level: to, ..next })?;
                let from = match next.level == to {
                    true => from,
                    // As diffusers does: from as far above the next place as the leg is long.
                    false => walk.process().level(next.time + leg.from.time - leg.to.time),
                };
                return Ok(self.transfer(&x, &((newest + second) * 0.5), from, next.level));
            }
            2 => &[3.0 / 2.0, -1.0 / 2.0],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        Ok(self.transfer(&x, &weighted(&self.history, weights), from, to))
    }
}

impl Plms {
    /// Where the next leg begins: where this one ends, but beside it where strides are of another length.
    fn next(&self, walk: &Walk<'_>, leg: Leg) -> Stop {
        self.stops.get(walk.step() + 1).copied().unwrap_or(leg.to)
    }

    /// What is averaged, at one place.
    fn ask(
        &self,
        walk: &mut Walk<'_>,
        x: &Tensor<4>,
        at: Stop,
    ) -> Result<Tensor<4>, DiffusionError> {
        let estimate = walk.denoise(x, at)?;
        let Level { signal, noise } = at.level;
        Ok(match self.rules.average {
            Averaged::Eps => estimate.eps(x, at.level),
            Averaged::V => {
                let eps = estimate.eps(x, at.level);
                combine(signal, &eps, -noise, &estimate.x0)
            }
        })
    }

    /// DDIM's step by an average.
    fn transfer(&self, x: &Tensor<4>, average: &Tensor<4>, from: Level, to: Level) -> Tensor<4> {
        let ratio = to.signal / from.signal;
        let gain = to.noise - ratio * from.noise;
        match self.rules.average {
            Averaged::Eps => combine(ratio, x, gain, average),
            // ε = signal·v + noise·x
            Averaged::V => combine(ratio + gain * from.noise, x, gain * from.signal, average),
        }
    }

    /// The classical average over four places, the middle two of them halfway down.
    fn runge_kutta(
        &self,
        walk: &mut Walk<'_>,
        x: &Tensor<4>,
        leg: Leg,
        first: &Tensor<4>,
    ) -> Result<Tensor<4>, DiffusionError> {
        let (from, next) = (leg.from.level, self.next(walk, leg));
        let half = 0.5 * (leg.from.time - leg.to.time);
        let half = match walk.process().schedule() {
            Some(_) => half.floor(),
            None => half,
        };
        // Whole steps of a table as diffusers has them: an odd stride has two middles, and the network is told the lower.
        let [upper, lower] = [leg.from.time - half, next.time + half].map(|time| Stop {
            time: next.time + half,
            level: walk.process().level(time),
        });
        let second = self.transfer(x, first, from, upper.level);
        let second = self.ask(walk, &second, upper)?;
        let third = self.transfer(x, &second, from, lower.level);
        let third = self.ask(walk, &third, lower)?;
        let fourth = self.transfer(x, &third, from, next.level);
        let fourth = self.ask(walk, &fourth, next)?;
        let all = [first.clone(), second, third, fourth];
        let average = weighted(&all, &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0]);
        Ok(self.transfer(x, &average, from, next.level))
    }
}

fn weighted(all: &[Tensor<4>], weights: &[f64]) -> Tensor<4> {
    let mut sum = all[0].clone() * weights[0];
    for (one, weight) in all.iter().zip(weights).skip(1) {
        sum = combine(1.0, &sum, *weight, one);
    }
    sum
}
