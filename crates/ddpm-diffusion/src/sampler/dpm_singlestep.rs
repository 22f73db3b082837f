//! DPM-Solver and DPM-Solver++, single step.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Level, Process};
use serde::{Deserialize, Serialize};

use super::dpm_solver::{Estimates, Solver};
use super::exponential::Exponential;
use super::{About, Evaluations, Method, Step, check};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// Steps of two or three legs, whose inner places are those of the grid (Lu et al. 2022, algorithms 1 and 2, as in
/// diffusers): a leg of order k starts anew from where its group began, with the k estimates since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpmSinglestep {
    /// The legs of a group, 1 to 3.
    pub order: usize,
    /// What the estimates are of.
    pub estimates: Estimates,
    /// How they enter.
    pub solver: Solver,
    /// What is left after whole groups is taken by lower orders; else it must be nothing.
    pub lower_order_final: bool,
}

impl Default for DpmSinglestep {
    fn default() -> Self {
        Self {
            order: 2,
            estimates: Estimates::X0,
            solver: Solver::Midpoint,
            lower_order_final: true,
        }
    }
}

impl Method for DpmSinglestep {
    fn about(&self) -> About {
        About {
            good_for: "guided sampling in 15 to 25 evaluations",
            order: self.order,
            evaluations: Evaluations::One,
            usual_steps: 20,
            stochastic: false,
            source: "Lu et al. 2022",
        }
    }

    fn check(&self, _: &Process, grid: &Grid) -> Result<(), DiffusionError> {
        check("sampler.order", self.order, (1..=3).contains(&self.order), "from 1 to 3")?;
        let steps = grid.legs().len();
        let whole = steps.is_multiple_of(self.order) && !ends_at_image(grid);
        match self.lower_order_final || whole {
            true => Ok(()),
            false => Err(DiffusionError::Sampler {
                sampler: "dpm_singlestep",
                problem: format!(
                    "makes groups of {} steps that do not end at the image itself; set \
                     sample.sampler.lower_order_final = true",
                    self.order
                ),
            }),
        }
    }

    fn start(&self, _: &Process, grid: &Grid) -> Box<dyn Step> {
        Box::new(Group {
            rules: *self,
            orders: self.orders(grid),
            start: None,
            history: Vec::new(),
        })
    }
}

fn ends_at_image(grid: &Grid) -> bool {
    grid.legs().last().is_some_and(|leg| leg.to.level.is_clean())
}

impl DpmSinglestep {
    /// The order of every leg: 1, 2, …, order, and again; at the end what diffusers has.
    fn orders(&self, grid: &Grid) -> Vec<usize> {
        let (steps, order) = (grid.legs().len(), self.order);
        let mut orders: Vec<usize> = (0..steps).map(|i| i % order + 1).collect();
        if self.lower_order_final {
            match (order, steps % order) {
                // The last group gives way to one of order less by one, and a single leg.
                (3, 0) | (2, 0) => orders[steps - 1] = 1,
                _ => {}
            }
        }
        if ends_at_image(grid) {
            orders[steps - 1] = 1;
        }
        orders
    }
}

struct Group {
    rules: DpmSinglestep,
    orders: Vec<usize>,
    /// Where the group began.
    start: Option<(Tensor<4>, Level)>,
    /// λ and the estimate there, the oldest of the group first.
    history: Vec<(f64, Tensor<4>)>,
}

impl Step for Group {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let (from, to) = (leg.from.level, leg.to.level);
        let estimate = walk.denoise(&x, leg.from)?;
        let order = self.orders[walk.step()];
        if order == 1 {
            self.start = None;
            self.history.clear();
        }
        let (start, level) = self.start.get_or_insert_with(|| (x.clone(), from)).clone();
        let newest = match self.rules.estimates {
            Estimates::X0 => estimate.x0.clone(),
            Estimates::Eps => estimate.eps(&x, from),
        };
        self.history.push((from.lambda(), newest));
        if to.is_clean() {
            return Ok(estimate.x0);
        }
        Ok(self.lead(&start, level, to))
    }
}

impl Group {
    /// From the beginning of the group to a level, by all estimates since.
    fn lead(&self, start: &Tensor<4>, from: Level, to: Level) -> Tensor<4> {
        let step = match self.rules.estimates {
            Estimates::X0 => Exponential::on_x0(from, to, 0.0),
            Estimates::Eps => Exponential::on_eps(from, to),
        };
        let h = to.lambda() - from.lambda();
        let (lambda, base) = &self.history[0];
        let next = combine(step.x, start, step.d0, base);
        // (m - base)/r, r the share of the step that lies between them.
        let difference = |i: usize| {
            let (at, estimate) = &self.history[i];
            let r = (at - lambda) / h;
            (r, (estimate.clone() - base.clone()) * (1.0 / r))
        };
        match self.history.len() {
            1 => next,
            2 => {
                let gain = match self.rules.solver {
                    Solver::Midpoint => 0.5 * step.d0,
                    Solver::Heun => step.d1,
                };
                combine(1.0, &next, gain, &difference(1).1)
            }
            _ => {
                let ((r1, first), (r0, second)) = (difference(1), difference(2));
                match self.rules.solver {
                    Solver::Midpoint => combine(1.0, &next, step.d1, &second),
                    Solver::Heun => {
                        let d1 = combine(r0 / (r0 - r1), &first, -r1 / (r0 - r1), &second);
                        let d2 = (second - first) * (2.0 / (r0 - r1));
                        let next = combine(1.0, &next, step.d1, &d1);
                        combine(1.0, &next, step.d2, &d2)
                    }
                }
            }
        }
    }
}
