//! UniPC: a predictor and, at no further evaluation, a corrector of the same order.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Level, Process};
use serde::{Deserialize, Serialize};

use super::dpm_solver::Estimates;
use super::{About, Evaluations, Method, Step, check};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// UniP-p and UniC-p (Zhao et al. 2023, algorithms 1 and 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unipc {
    /// How many estimates a step uses, 1 to 3.
    pub order: usize,
    /// The paper's B(h).
    pub variant: Variant,
    /// What the estimates are of.
    pub estimates: Estimates,
    /// The last steps are of a lower order.
    pub lower_order_final: bool,
    /// Steps after which nothing is corrected; the first ones, where guidance is strong.
    pub disable_corrector: Vec<usize>,
}

/// B(h) of Zhao et al. 2023, section 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// B₁(h) = h, good for few steps of unconditional sampling.
    Bh1,
    /// B₂(h) = e^h - 1.
    #[default]
    Bh2,
}

impl Default for Unipc {
    fn default() -> Self {
        Self {
            order: 2,
            variant: Variant::Bh2,
            estimates: Estimates::X0,
            lower_order_final: true,
            disable_corrector: Vec::new(),
        }
    }
}

impl Method for Unipc {
    fn about(&self) -> About {
        About {
            good_for: "the best of 5 to 10 steps",
            order: self.order,
            evaluations: Evaluations::One,
            usual_steps: 10,
            stochastic: false,
            source: "Zhao et al. 2023",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        check("sampler.order", self.order, (1..=3).contains(&self.order), "from 1 to 3")
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(PredictorCorrector {
            rules: self.clone(),
            history: Vec::new(),
            last: None,
        })
    }
}

struct PredictorCorrector {
    rules: Unipc,
    /// λ and the estimate there, the newest first.
    history: Vec<(f64, Tensor<4>)>,
    /// Where the last step began, and its order.
    last: Option<(Tensor<4>, Level, usize)>,
}

impl Step for PredictorCorrector {
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
        let skips = walk.step().checked_sub(1);
        let skips = skips.is_some_and(|last| self.rules.disable_corrector.contains(&last));
        let x = match self.last.take() {
            Some((start, level, order)) if !skips => {
                self.solve(&start, level, from, order, Some(&newest))
            }
            _ => x,
        };
        self.history.insert(0, (from.lambda(), newest));
        self.history.truncate(self.rules.order);
        // There λ is infinite, and every order's step is x̂0.
        if to.is_clean() {
            return Ok(estimate.x0);
        }
        let left = walk.of() - walk.step();
        let order = match self.rules.lower_order_final {
            true => self.history.len().min(left),
            false => self.history.len(),
        };
        let next = self.solve(&x, from, to, order, None);
        self.last = Some((x, from, order));
        Ok(next)
    }
}

impl PredictorCorrector {
    /// From a level to another by the last `order` estimates; with the estimate of the end, which corrects it.
    fn solve(
        &self,
        x: &Tensor<4>,
        from: Level,
        to: Level,
        order: usize,
        end: Option<&Tensor<4>>,
    ) -> Tensor<4> {
        let h = to.lambda() - from.lambda();
        // On x̂0 the integral runs over e^-λ, on ε̂ over e^λ.
        let (h_signed, ratio, gain) = match self.rules.estimates {
            Estimates::X0 => (-h, to.noise / from.noise, -to.signal),
            Estimates::Eps => (h, to.signal / from.signal, -to.noise),
        };
        let phi1 = h_signed.exp_m1();
        let b_h = match self.rules.variant {
            Variant::Bh1 => h_signed,
            Variant::Bh2 => phi1,
        };
        let (lambda0, m0) = &self.history[0];
        let nodes: Vec<f64> = self.history[1..order]
            .iter()
            .map(|(lambda, _)| (lambda - lambda0) / h)
            .collect();
        let mut next = combine(ratio, x, gain * phi1, m0);
        let weights = weights(&nodes, h_signed, b_h, end.is_some());
        for ((r, weight), (_, estimate)) in nodes.iter().zip(&weights).zip(&self.history[1..]) {
            let difference = estimate.clone() - m0.clone();
            next = combine(1.0, &next, gain * b_h * weight / r, &difference);
        }
        match (end, weights.last()) {
            (Some(end), Some(weight)) => {
                let difference = end.clone() - m0.clone();
                combine(1.0, &next, gain * b_h * weight, &difference)
            }
            _ => next,
        }
    }
}

/// The paper's a_p (eq. 10): the weights of the divided differences at `nodes`, and at 1 for the corrector.
fn weights(nodes: &[f64], h: f64, b_h: f64, corrects: bool) -> Vec<f64> {
    let order = nodes.len() + 1;
    // The paper takes 1/2 where the system has one unknown.
    match (corrects, order) {
        (false, 1) => return Vec::new(),
        (false, 2) | (true, 1) => return vec![0.5],
        _ => {}
    }
    let size = if corrects { order } else { order - 1 };
    let all: Vec<f64> = nodes.iter().copied().chain([1.0]).take(size).collect();
    let mut phi = h.exp_m1() / h - 1.0;
    let mut factorial = 1.0;
    let mut rows = Vec::new();
    for i in 0..size {
        let powers = all.iter().map(|r| r.powi(i as i32));
        rows.push(powers.chain([phi * factorial / b_h]).collect::<Vec<f64>>());
        factorial *= (i + 2) as f64;
        phi = phi / h - 1.0 / factorial;
    }
    solve(rows)
}

/// The solution of a small linear system, its right side the last column (Gauss, with pivots).
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for i in 0..n {
        let largest = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs()));
        rows.swap(i, largest.unwrap_or(i));
        let pivot = rows[i].clone();
        for (k, row) in rows.iter_mut().enumerate() {
            let factor = row[i] / pivot[i];
            if k != i {
                row.iter_mut().zip(&pivot).for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    rows.iter().enumerate().map(|(i, row)| row[n] / row[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_systems_are_solved() {
        let rows = vec![
            vec![0.0, 2.0, 1.0, 7.0],
            vec![1.0, -1.0, 3.0, 8.0],
            vec![2.0, 0.5, 0.0, 3.0],
        ];
        for (found, expected) in solve(rows).iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }
}
