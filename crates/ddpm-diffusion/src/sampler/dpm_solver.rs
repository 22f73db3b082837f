//! DPM-Solver and DPM-Solver++, multistep.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Level, Process};
use serde::{Deserialize, Serialize};

use super::exponential::Exponential;
use super::{About, Evaluations, Method, Step, check, check_noise};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// An exponential integrator in λ with the last one to three estimates (Lu et al. 2022, DPM-Solver++ 2M and 3M;
/// η = 1: its SDE variants, k-diffusion's `dpmpp_2m_sde` and `dpmpp_3m_sde`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpmSolver {
    /// How many estimates a step uses, 1 to 3.
    pub order: usize,
    /// What they are of.
    pub estimates: Estimates,
    /// How the second estimate enters a step of order 2.
    pub solver: Solver,
    /// A step of order 3 weighs the second difference as Newton's polynomial has it. The published code (and every
    /// program since) gives it half of that, and converges with order 2.
    pub newton: bool,
    /// 0 is the ODE, 1 the SDE.
    pub eta: f64,
    /// The deviation of the SDE's noise.
    pub s_noise: f64,
    /// The last steps are of a lower order where there are fewer than 15.
    pub lower_order_final: bool,
    /// The last step is of order 1, however many there are.
    pub euler_at_final: bool,
}

/// What an exponential integrator takes for smooth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimates {
    /// x̂0: DPM-Solver++, which stays stable where guidance is strong or x̂0 is clipped.
    #[default]
    X0,
    /// ε̂: DPM-Solver.
    Eps,
}

/// Two second-order steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    /// The estimate at the middle of the step.
    #[default]
    Midpoint,
    /// The line through both estimates, integrated.
    Heun,
}

impl Default for DpmSolver {
    fn default() -> Self {
        Self {
            order: 2,
            estimates: Estimates::X0,
            solver: Solver::Midpoint,
            newton: false,
            eta: 0.0,
            s_noise: 1.0,
            lower_order_final: true,
            euler_at_final: false,
        }
    }
}

impl Method for DpmSolver {
    fn about(&self) -> About {
        About {
            good_for: "good images in 10 to 25 steps on any process",
            order: self.order,
            evaluations: Evaluations::One,
            usual_steps: 20,
            stochastic: self.eta > 0.0,
            source: "Lu et al. 2022",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        check("sampler.order", self.order, (1..=3).contains(&self.order), "from 1 to 3")?;
        check_noise(self.eta, self.s_noise)?;
        let fine = self.eta == 0.0 || self.estimates == Estimates::X0;
        check("sampler.eta", self.eta, fine, "0 where sampler.estimates is \"eps\"")
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(Multistep {
            rules: *self,
            history: Vec::new(),
        })
    }
}

struct Multistep {
    rules: DpmSolver,
    /// λ and the estimate there, the newest first.
    history: Vec<(f64, Tensor<4>)>,
}

impl Step for Multistep {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let (from, to) = (leg.from.level, leg.to.level);
        let estimate = walk.denoise(&x, leg.from)?;
        let newest = match self.rules.estimates {
            Estimates::X0 => estimate.x0.clone(),
            Estimates::Eps => estimate.eps(&x, from),
        };
        self.history.insert(0, (from.lambda(), newest));
        self.history.truncate(self.rules.order);
        // There λ is infinite, and every order's step is x̂0.
        if to.is_clean() {
            return Ok(estimate.x0);
        }
        let next = self.lead(&x, from, to, self.order(walk));
        let step = Exponential::on_x0(from, to, self.rules.eta);
        match self.rules.eta == 0.0 {
            true => Ok(next),
            false => Ok(combine(1.0, &next, self.rules.s_noise * step.noise, &walk.noise(&x)?)),
        }
    }
}

impl Multistep {
    fn order(&self, walk: &Walk<'_>) -> usize {
        let left = walk.of() - walk.step();
        let known = self.history.len();
        if left == 1 && self.rules.euler_at_final {
            return 1;
        }
        match self.rules.lower_order_final && walk.of() < 15 {
            true => known.min(left),
            false => known,
        }
    }

    /// The deterministic part of a step.
    fn lead(&self, x: &Tensor<4>, from: Level, to: Level, order: usize) -> Tensor<4> {
        let step = match self.rules.estimates {
            Estimates::X0 => Exponential::on_x0(from, to, self.rules.eta),
            Estimates::Eps => Exponential::on_eps(from, to),
        };
        let h = to.lambda() - from.lambda();
        let (lambda0, m0) = &self.history[0];
        let mut next = combine(step.x, x, step.d0, m0);
        if order == 1 {
            return next;
        }
        // Divided differences in units of h.
        let (lambda1, m1) = &self.history[1];
        let r0 = (lambda0 - lambda1) / h;
        let first = (m0.clone() - m1.clone()) * (1.0 / r0);
        if order == 2 {
            let gain = match self.rules.solver {
                Solver::Midpoint => 0.5 * step.d0,
                Solver::Heun => step.d1,
            };
            return combine(1.0, &next, gain, &first);
        }
        let (lambda2, m2) = &self.history[2];
        let r1 = (lambda1 - lambda2) / h;
        let second = (m1.clone() - m2.clone()) * (1.0 / r1);
        let bend = first.clone() - second;
        let d1 = combine(1.0, &first, r0 / (r0 + r1), &bend);
        next = combine(1.0, &next, step.d1, &d1);
        let weight = if self.rules.newton { 2.0 } else { 1.0 };
        combine(1.0, &next, weight * step.d2 / (r0 + r1), &bend)
    }
}
