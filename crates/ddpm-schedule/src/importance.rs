//! Time steps drawn by how large their losses are.

use serde::{Deserialize, Serialize};

use crate::process::unit;

/// Importance sampling of a table's steps by the second moments of their last losses (Nichol & Dhariwal 2021,
/// section 3.3).
///
/// p_t ∝ √(E L_t²), mixed with a little of the uniform law; a step's loss counts 1/(T·p_t). Until every step has enough
/// losses the law is uniform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Importance {
    /// The last losses of each step, the oldest first.
    losses: Vec<Vec<f64>>,
    history: usize,
    uniform: f64,
}

impl Importance {
    /// The law of a table of `steps` that remembers `history` losses a step, and is uniform with probability `uniform`.
    #[must_use]
    pub fn new(steps: usize, history: usize, uniform: f64) -> Self {
        Self {
            losses: vec![Vec::new(); steps],
            history,
            uniform,
        }
    }

    /// Takes note of the unweighted loss of an image at step `t`; what lies beyond the table is passed over.
    pub fn note(&mut self, t: usize, loss: f64) {
        let Some(losses) = self.losses.get_mut(t) else {
            return;
        };
        if losses.len() == self.history {
            losses.remove(0);
        }
        losses.push(loss);
    }

    /// Whether every step has enough losses.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.losses
            .iter()
            .all(|losses| losses.len() == self.history)
    }

    /// p_t of every step; the sum is 1.
    #[must_use]
    pub fn probabilities(&self) -> Vec<f64> {
        let uniform = 1.0 / self.losses.len() as f64;
        if !self.is_warm() {
            return vec![uniform; self.losses.len()];
        }
        let moment = |losses: &Vec<f64>| {
            let squares: f64 = losses.iter().map(|loss| loss * loss).sum();
            (squares / losses.len() as f64).sqrt()
        };
        let moments: Vec<f64> = self.losses.iter().map(moment).collect();
        let sum: f64 = moments.iter().sum();
        // Losses that are all 0 tell nothing.
        if sum == 0.0 {
            return vec![uniform; self.losses.len()];
        }
        let mixed = |moment: &f64| moment / sum * (1.0 - self.uniform) + self.uniform * uniform;
        moments.iter().map(mixed).collect()
    }

    /// For each of some numbers of 64 random bits a step, and what its loss counts, 1/(T·p_t).
    #[must_use]
    pub fn draw(&self, bits: &[u64]) -> Vec<(usize, f64)> {
        let probabilities = self.probabilities();
        let last = probabilities.len() - 1;
        let step = |&bits: &u64| {
            let (u, mut below) = (unit(bits), 0.0);
            let t = probabilities.iter().position(|p| {
                below += p;
                u < below
            });
            let t = t.unwrap_or(last);
            (t, 1.0 / (probabilities[t] * probabilities.len() as f64))
        };
        bits.iter().map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_losses_are_drawn_more_and_count_less() {
        let mut law = Importance::new(4, 2, 0.1);
        assert_eq!(law.probabilities(), [0.25; 4]);
        for t in 0..4 {
            law.note(t, 9.0);
            law.note(t, 0.0);
            law.note(t, (t + 1) as f64);
        }
        assert!(law.is_warm());
        // √((0 + (t+1)²)/2) ∝ t+1
        for (t, p) in law.probabilities().iter().enumerate() {
            let expected = 0.9 * (t + 1) as f64 / 10.0 + 0.025;
            assert!((p - expected).abs() < 1e-12);
        }
        let n = 10_000;
        let (mut counts, mut weighted) = ([0.0; 4], 0.0);
        let bits: Vec<u64> = (0..n)
            .map(|i| ((f64::from(i) + 0.5) / f64::from(n) * 2f64.powi(64)) as u64)
            .collect();
        for (t, factor) in law.draw(&bits) {
            counts[t] += 1.0;
            weighted += factor / f64::from(n);
        }
        assert!((counts[3] / f64::from(n) - 0.385).abs() < 1e-3);
        assert!((weighted - 1.0).abs() < 1e-3);
    }

    #[test]
    fn steps_beyond_the_table_and_zeros_do_no_harm() {
        let mut law = Importance::new(2, 1, 0.0);
        law.note(7, 1.0);
        law.note(0, 0.0);
        law.note(1, 0.0);
        assert_eq!(law.probabilities(), [0.5, 0.5]);
        assert_eq!(law.draw(&[u64::MAX, 0]), [(1, 1.0), (0, 1.0)]);
    }
}
