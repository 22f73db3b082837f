//! Linear multistep.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process};
use serde::{Deserialize, Serialize};

use super::ode::Variable;
use super::{About, Evaluations, Method, Step, check};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// x' = x + ∫ of the polynomial through the last slopes (Adams & Bashforth; k-diffusion's `sample_lms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lms {
    /// How many slopes the polynomial goes through, 1 to 4.
    pub order: usize,
}

impl Default for Lms {
    fn default() -> Self {
        Self { order: 4 }
    }
}

impl Method for Lms {
    fn about(&self) -> About {
        About {
            good_for: "smooth spacings such as karras at 20 steps or more",
            order: self.order,
            evaluations: Evaluations::One,
            usual_steps: 25,
            stochastic: false,
            source: "k-diffusion",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        check("sampler.order", self.order, (1..=4).contains(&self.order), "from 1 to 4")
    }

    fn needs_signal(&self) -> bool {
        false
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(Multistep {
            order: self.order,
            history: Vec::new(),
        })
    }
}

struct Multistep {
    order: usize,
    /// u and the slope there, the newest first.
    history: Vec<(f64, Tensor<4>)>,
}

impl Step for Multistep {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let leg = Variable::Axis.traced(walk.process(), leg);
        let (from, to) = (leg.from.level, leg.to.level);
        let x0 = walk.denoise(&x, leg.from)?.x0;
        let axis = walk.process().axis();
        let slope = walk.slope(&x, &x0, from);
        self.history.insert(0, (axis.at(from), slope));
        self.history.truncate(self.order);
        let nodes: Vec<f64> = self.history.iter().map(|(u, _)| *u).collect();
        let weights = adams_bashforth(&nodes, axis.at(to));
        // y' = y + Σ w·slope, times the scale of the new level.
        let scale = axis.scale(to);
        let mut next = x * (scale / axis.scale(from));
        for ((_, slope), weight) in self.history.iter().zip(weights) {
            next = combine(1.0, &next, scale * weight, slope);
        }
        Ok(next)
    }
}

/// ∫ from `nodes[0]` to `end` of each Lagrange polynomial of the nodes: exact up to six of them (Gauss & Legendre).
fn adams_bashforth(nodes: &[f64], end: f64) -> Vec<f64> {
    let root = (0.6f64).sqrt();
    let half = 0.5 * (end - nodes[0]);
    let middle = 0.5 * (end + nodes[0]);
    let points = [(-root, 5.0 / 9.0), (0.0, 8.0 / 9.0), (root, 5.0 / 9.0)];
    (0..nodes.len())
        .map(|j| {
            let lagrange = |u: f64| {
                let others = nodes.iter().enumerate().filter(|(k, _)| *k != j);
                others.map(|(_, node)| (u - node) / (nodes[j] - node)).product::<f64>()
            };
            let sum = points.iter().map(|(at, weight)| weight * lagrange(middle + half * at));
            half * sum.sum::<f64>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_integrate_polynomials() {
        let nodes = [3.0, 4.5, 5.0, 9.0];
        let weights = adams_bashforth(&nodes, 1.0);
        for power in 0..4 {
            let sum: f64 = nodes.iter().zip(&weights).map(|(u, w)| w * u.powi(power)).sum();
            let exact = (1.0 - 3f64.powi(power + 1)) / f64::from(power + 1);
            assert!((sum - exact).abs() < 1e-9, "{power}: {sum} {exact}");
        }
    }
}
