//! The learning rate over the steps of a run.

use serde::{Deserialize, Serialize};

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays.
    #[default]
    Constant,
    /// It falls linearly to 0 at the end of the run.
    Linear,
    /// It falls along half a cosine to 0 at the end of the run (Loshchilov & Hutter 2017, without restarts).
    Cosine,
}

/// Learning rate of optimiser step `step` (from 0) of `total`.
///
/// It rises linearly from 0 at step 0 to `peak` at step `warmup`, then follows `decay` to `total`.
pub fn learning_rate(peak: f64, warmup: u64, decay: Decay, step: u64, total: u64) -> f64 {
    if step < warmup {
        return peak * step as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
    let progress = progress.min(1.0);
    match decay {
        Decay::Constant => peak,
        Decay::Linear => peak * (1.0 - progress),
        Decay::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_and_decay() {
        let at = |decay, step| learning_rate(2.0, 10, decay, step, 110);
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            assert_eq!(at(decay, 0), 0.0);
            assert_eq!(at(decay, 5), 1.0);
            assert_eq!(at(decay, 10), 2.0);
        }
        assert_eq!(at(Decay::Constant, 110), 2.0);
        assert_eq!(at(Decay::Linear, 60), 1.0);
        assert!((at(Decay::Cosine, 60) - 1.0).abs() < 1e-12);
        assert!((at(Decay::Cosine, 35) - (1.0 + 0.5f64.sqrt())).abs() < 1e-12);
        // A resumed run may be longer than planned: the rate does not rise again.
        assert_eq!(at(Decay::Cosine, 500), 0.0);
        assert_eq!(learning_rate(1.0, 0, Decay::Constant, 0, 1), 1.0);
    }
}
