//! Diffusion exponential integrator.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step, check};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// The polynomial in ln σ through the last ε̂, integrated over σ (Zhang & Chen 2023, log-ρ variant).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deis {
    /// How many ε̂ the polynomial goes through, 1 to 3.
    pub order: usize,
    /// The last steps are of a lower order where there are fewer than 15.
    pub lower_order_final: bool,
}

impl Default for Deis {
    fn default() -> Self {
        Self {
            order: 2,
            lower_order_final: true,
        }
    }
}

impl Method for Deis {
    fn about(&self) -> About {
        About {
            good_for: "10 to 20 steps",
            order: self.order,
            evaluations: Evaluations::One,
            usual_steps: 20,
            stochastic: false,
            source: "Zhang & Chen 2023",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        check("sampler.order", self.order, (1..=3).contains(&self.order), "from 1 to 3")
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(Multistep {
            rules: *self,
            history: Vec::new(),
        })
    }
}

struct Multistep {
    rules: Deis,
    /// σ and ε̂ there, the newest first.
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
        self.history.insert(0, (from.sigma(), estimate.eps(&x, from)));
        self.history.truncate(self.rules.order);
        if to.is_clean() {
            return Ok(estimate.x0);
        }
        let left = walk.of() - walk.step();
        let short = self.rules.lower_order_final && walk.of() < 15;
        let order = match short {
            true => self.history.len().min(left),
            false => self.history.len(),
        };
        let nodes: Vec<f64> = self.history[..order].iter().map(|(sigma, _)| *sigma).collect();
        let weights = weights(&nodes, to.sigma());
        let mut next = x * (to.signal / from.signal);
        for ((_, eps), weight) in self.history.iter().zip(weights) {
            next = combine(1.0, &next, to.signal * weight, eps);
        }
        Ok(next)
    }
}

/// ∫ from `nodes[0]` to `end` over σ of each Lagrange polynomial in ln σ of the nodes.
fn weights(nodes: &[f64], end: f64) -> Vec<f64> {
    let ln: Vec<f64> = nodes.iter().map(|sigma| sigma.ln()).collect();
    let integral = |antiderivative: &dyn Fn(f64) -> f64| antiderivative(end) - antiderivative(nodes[0]);
    match ln[..] {
        [_] => vec![end - nodes[0]],
        [a, b] => {
            // ∫(ln σ - c) = σ·(ln σ - 1 - c)
            let part = |c: f64| integral(&|sigma: f64| sigma * (sigma.ln() - 1.0 - c));
            vec![part(b) / (a - b), part(a) / (b - a)]
        }
        _ => {
            // ∫(ln σ - c)(ln σ - d) = σ·(l² - (2 + c + d)·l + 2 + c + d + c·d), l = ln σ
            let part = |c: f64, d: f64| {
                integral(&|sigma: f64| {
                    let l = sigma.ln();
                    sigma * (l * l - (2.0 + c + d) * l + 2.0 + c + d + c * d)
                })
            };
            let [a, b, c] = [ln[0], ln[1], ln[2]];
            vec![
                part(b, c) / ((a - b) * (a - c)),
                part(a, c) / ((b - a) * (b - c)),
                part(a, b) / ((c - a) * (c - b)),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_integrate_what_the_polynomials_are() {
        let nodes = [2.0f64, 3.5, 7.0];
        let end = 0.7f64;
        let exact = |power: i32, sigma: f64| {
            let l = sigma.ln();
            match power {
                0 => sigma,
                1 => sigma * (l - 1.0),
                _ => sigma * (l * l - 2.0 * l + 2.0),
            }
        };
        for order in 1..=3usize {
            let weights = weights(&nodes[..order], end);
            for power in 0..order as i32 {
                let sum: f64 = nodes.iter().zip(&weights).map(|(s, w)| w * s.ln().powi(power)).sum();
                let expected = exact(power, end) - exact(power, nodes[0]);
                assert!((sum - expected).abs() < 1e-10, "{order} {power}: {sum} {expected}");
            }
        }
    }
}
