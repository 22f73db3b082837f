//! What a network predicts, and the linear maps from its output to x0.
//!
//! Every kind is three coefficients of a [`Level`]: x̂0 = c_skip·x + c_out·F(c_in·x), Karras et al. 2022, eq. 7.
//! The target of training is what F would have to be for x̂0 = x0.

use serde::{Deserialize, Serialize};

use crate::{Level, ScheduleError};

/// The quantity that a network is trained to output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise ε (Ho et al. 2020).
    #[default]
    Eps,
    /// The image x0.
    X0,
    /// v = signal·ε - noise·x0 (Salimans & Ho 2022).
    V,
    /// What is left of x0 after c_skip·x, at unit scale (Karras et al. 2022, table 1).
    Edm,
    /// The velocity ε - x0 of rectified flow (Liu et al. 2022).
    Velocity,
}

/// x̂0 = `c_skip`·x + `c_out`·F(`c_in`·x).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefs {
    /// What x is multiplied by before the network sees it.
    pub c_in: f64,
    /// How much of x is in x̂0.
    pub c_skip: f64,
    /// How much of the output is in x̂0.
    pub c_out: f64,
}

impl Prediction {
    /// The coefficients at a noise level; infinite for ε where there is no signal.
    ///
    /// ε, x0 and v are those of x at unit variance, x/√(signal² + noise²), whatever the process.
    ///
    /// # Units   `sigma_data`: the deviation of the pixels that [`Prediction::Edm`] is scaled for; others ignore it
    #[must_use]
    pub fn coefs(self, level: Level, sigma_data: f64) -> Coefs {
        let Level { signal, noise } = level;
        let norm = norm(level);
        match self {
            Self::Eps => Coefs {
                c_in: 1.0 / norm,
                c_skip: 1.0 / signal,
                c_out: -noise / signal,
            },
            Self::X0 => Coefs {
                c_in: 1.0 / norm,
                c_skip: 0.0,
                c_out: 1.0,
            },
            Self::V => Coefs {
                c_in: 1.0 / norm,
                c_skip: signal / (norm * norm),
                c_out: -noise / norm,
            },
            Self::Edm => {
                // σ² + σ_data² in units of signal², so that pure noise is a number too.
                let scale = noise.hypot(signal * sigma_data);
                Coefs {
                    c_in: 1.0 / scale,
                    c_skip: signal * (sigma_data / scale).powi(2),
                    c_out: noise * sigma_data / scale,
                }
            }
            Self::Velocity => Coefs {
                c_in: 1.0,
                c_skip: 1.0 / (signal + noise),
                c_out: -noise / (signal + noise),
            },
        }
    }

    /// (c_x0, c_eps) that give the training target from x0 and ε.
    #[must_use]
    pub fn target(self, level: Level, sigma_data: f64) -> (f64, f64) {
        let norm = norm(level);
        match self {
            Self::Eps => (0.0, 1.0),
            Self::X0 => (1.0, 0.0),
            Self::V => (-level.noise / norm, level.signal / norm),
            Self::Velocity => (-1.0, 1.0),
            // (x0 - c_skip·x)/c_out with x put in, freed of the division by the noise.
            Self::Edm => {
                let scale = level.noise.hypot(level.signal * sigma_data);
                (
                    level.noise / (scale * sigma_data),
                    -level.signal * sigma_data / scale,
                )
            }
        }
    }

    /// (c_x, c_F) with ε̂ = c_x·x + c_F·F of a network's output F: finite at the image itself, where x̂0 says nothing of
    /// ε, but for [`Prediction::X0`].
    #[must_use]
    pub fn eps_coefs(self, level: Level, sigma_data: f64) -> (f64, f64) {
        // F = to_x0·x0 + to_eps·ε and x = signal·x0 + noise·ε, solved for ε.
        let (to_x0, to_eps) = self.target(level, sigma_data);
        let whole = to_eps * level.signal - to_x0 * level.noise;
        (-to_x0 / whole, level.signal / whole)
    }

    /// (∂x̂0/∂F)², by which a weight on the error of x0 becomes one on that of the output.
    #[must_use]
    pub fn gain(self, level: Level, sigma_data: f64) -> f64 {
        self.coefs(level, sigma_data).c_out.powi(2)
    }

    /// Refuses a network that says nothing of the image at a level that sampling or training visits.
    ///
    /// # Errors   [`ScheduleError::EpsAtZeroSnr`] for ε prediction of pure noise (Lin et al. 2023, section 3)
    pub fn check(self, noisiest: Level) -> Result<(), ScheduleError> {
        match self == Self::Eps && noisiest.signal == 0.0 {
            true => Err(ScheduleError::EpsAtZeroSnr),
            false => Ok(()),
        }
    }
}

/// √(signal² + noise²): 1 of a variance-preserving process, exactly.
fn norm(level: Level) -> f64 {
    let norm = level.signal.hypot(level.noise);
    match (norm - 1.0).abs() < 1e-12 {
        true => 1.0,
        false => norm,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Prediction; 5] = [
        Prediction::Eps,
        Prediction::X0,
        Prediction::V,
        Prediction::Edm,
        Prediction::Velocity,
    ];

    proptest! {
        /// The target, put where the network's output goes, gives x0 back: at any level of any process.
        #[test]
        fn targets_lead_to_x0(
            signal in 0.01f64..1.0, noise in 0.001f64..80.0, preserving: bool,
            x0 in -1.0f64..1.0, eps in -4.0f64..4.0, sigma_data in 0.1f64..2.0,
        ) {
            let level = match preserving {
                true => Level::of_alpha_bar(signal),
                false => Level { signal, noise },
            };
            let x = level.signal * x0 + level.noise * eps;
            for prediction in ALL {
                let (c_x0, c_eps) = prediction.target(level, sigma_data);
                let coefs = prediction.coefs(level, sigma_data);
                let back = coefs.c_skip * x + coefs.c_out * (c_x0 * x0 + c_eps * eps);
                prop_assert!((back - x0).abs() < 1e-9, "{prediction:?}: {back} {x0}");
            }
        }
    }

    #[test]
    fn variance_preserving_inputs_are_not_scaled() {
        for alpha_bar in [0.0, 1e-5, 0.3, 0.9999] {
            let level = Level::of_alpha_bar(alpha_bar);
            for prediction in [Prediction::Eps, Prediction::X0, Prediction::V] {
                assert_eq!(prediction.coefs(level, 0.5).c_in, 1.0);
            }
        }
    }

    #[test]
    fn edm_is_as_in_the_paper() {
        for sigma in [0.002f64, 0.5, 80.0] {
            let coefs = Prediction::Edm.coefs(Level::variance_exploding(sigma), 0.5);
            let sum = sigma * sigma + 0.25;
            assert!((coefs.c_in - 1.0 / sum.sqrt()).abs() < 1e-14);
            assert!((coefs.c_skip - 0.25 / sum).abs() < 1e-14);
            assert!((coefs.c_out - 0.5 * sigma / sum.sqrt()).abs() < 1e-14);
        }
    }

    #[test]
    fn at_pure_noise_only_eps_is_lost() {
        let noise = Level::of_alpha_bar(0.0);
        for prediction in ALL {
            let coefs = prediction.coefs(noise, 0.5);
            let finite = coefs.c_skip.is_finite() && coefs.c_out.is_finite();
            assert_eq!(finite, prediction != Prediction::Eps);
            assert_eq!(
                prediction.check(noise).is_ok(),
                prediction != Prediction::Eps
            );
            assert!(prediction.check(Level::of_alpha_bar(0.1)).is_ok());
        }
    }

    #[test]
    fn names_in_files() {
        assert_eq!(
            serde_json::to_string(&ALL).unwrap(),
            r#"["eps","x0","v","edm","velocity"]"#
        );
    }
}
