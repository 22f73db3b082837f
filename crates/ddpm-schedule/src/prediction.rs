//! What a network predicts, and the linear maps among ε, x0 and v.
//!
//! All follow from x_t = √ᾱ·x0 + √(1-ᾱ)·ε (Ho et al. 2020, eq. 4) and
//! v = √ᾱ·ε - √(1-ᾱ)·x0 (Salimans & Ho 2022). Each function returns the pair
//! (c_xt, c_out) with `wanted = c_xt·x_t + c_out·output`, for 0 < ᾱ < 1.
//!
//! At ᾱ = 0 (zero terminal SNR) x_t is pure noise: ε says nothing about x0, and the pairs
//! from [`Prediction::Eps`] to x0 and v are infinite. [`check_objective`] refuses that
//! combination; x0 and v stay finite.

use serde::{Deserialize, Serialize};

use crate::{Schedule, ScheduleError, Spacing};

/// The quantity that a network is trained to output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise ε (Ho et al. 2020).
    #[default]
    Eps,
    /// The image x0.
    X0,
    /// The velocity v (Salimans & Ho 2022).
    V,
}

/// (c_xt, c_out) that give x0 from x_t and an output.
#[must_use]
pub fn x0_coefs(prediction: Prediction, alpha_bar: f64) -> (f64, f64) {
    let (signal, noise) = scales(alpha_bar);
    match prediction {
        Prediction::Eps => (1.0 / signal, -noise / signal),
        Prediction::X0 => (0.0, 1.0),
        Prediction::V => (signal, -noise),
    }
}

/// (c_xt, c_out) that give ε from x_t and an output.
#[must_use]
pub fn eps_coefs(prediction: Prediction, alpha_bar: f64) -> (f64, f64) {
    let (signal, noise) = scales(alpha_bar);
    match prediction {
        Prediction::Eps => (0.0, 1.0),
        Prediction::X0 => (1.0 / noise, -signal / noise),
        Prediction::V => (noise, signal),
    }
}

/// (c_xt, c_out) that give v from x_t and an output.
#[must_use]
pub fn v_coefs(prediction: Prediction, alpha_bar: f64) -> (f64, f64) {
    let (signal, noise) = scales(alpha_bar);
    match prediction {
        Prediction::Eps => (-noise / signal, 1.0 / signal),
        Prediction::X0 => (signal / noise, -1.0 / noise),
        Prediction::V => (0.0, 1.0),
    }
}

/// (c_x0, c_eps) that give the training target from x0 and ε.
#[must_use]
pub fn target_coefs(prediction: Prediction, alpha_bar: f64) -> (f64, f64) {
    let (signal, noise) = scales(alpha_bar);
    match prediction {
        Prediction::Eps => (0.0, 1.0),
        Prediction::X0 => (1.0, 0.0),
        Prediction::V => (-noise, signal),
    }
}

fn scales(alpha_bar: f64) -> (f64, f64) {
    (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
}

/// Refuses objectives and starts that a zero-terminal-SNR schedule makes meaningless (Lin et al. 2023, section 3).
///
/// `first` is the step that sampling starts at, which `spacing` chose.
///
/// # Errors
/// With zero terminal SNR: [`ScheduleError::EpsAtZeroSnr`] for ε prediction,
/// [`ScheduleError::SpacingAtZeroSnr`] for any start but the last step.
pub fn check_objective(
    schedule: &Schedule,
    prediction: Prediction,
    spacing: Spacing,
    first: usize,
) -> Result<(), ScheduleError> {
    let last = schedule.len() - 1;
    match (schedule.is_zero_terminal_snr(), prediction) {
        (false, _) => Ok(()),
        (true, Prediction::Eps) => Err(ScheduleError::EpsAtZeroSnr),
        (true, _) if first == last => Ok(()),
        (true, _) => Err(ScheduleError::SpacingAtZeroSnr {
            spacing,
            first,
            last,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ScheduleConfig, timesteps};

    const ALL: [Prediction; 3] = [Prediction::Eps, Prediction::X0, Prediction::V];

    fn apply((a, b): (f64, f64), x: f64, y: f64) -> f64 {
        a * x + b * y
    }

    proptest! {
        /// Every conversion agrees with the definitions, and so every round trip closes.
        #[test]
        fn conversions_agree(alpha_bar in 1e-4f64..0.9999, x0 in -1.0f64..1.0, eps in -4.0f64..4.0) {
            let xt = alpha_bar.sqrt() * x0 + (1.0 - alpha_bar).sqrt() * eps;
            for from in ALL {
                let out = apply(target_coefs(from, alpha_bar), x0, eps);
                prop_assert!((apply(x0_coefs(from, alpha_bar), xt, out) - x0).abs() < 1e-12);
                prop_assert!((apply(eps_coefs(from, alpha_bar), xt, out) - eps).abs() < 1e-12);
                let v = apply(target_coefs(Prediction::V, alpha_bar), x0, eps);
                // From ε or x0 the rounding of x_t is divided by √ᾱ or √(1-ᾱ).
                prop_assert!((apply(v_coefs(from, alpha_bar), xt, out) - v).abs() < 1e-12);
            }
        }

        #[test]
        fn round_trips_close(alpha_bar in 1e-4f64..0.9999, xt in -4.0f64..4.0, out in -4.0f64..4.0) {
            let coefs = |to, from| match to {
                Prediction::Eps => eps_coefs(from, alpha_bar),
                Prediction::X0 => x0_coefs(from, alpha_bar),
                Prediction::V => v_coefs(from, alpha_bar),
            };
            for from in ALL {
                for to in ALL {
                    let there = apply(coefs(to, from), xt, out);
                    let back = apply(coefs(from, to), xt, there);
                    let scale = 1.0 + there.abs();
                    prop_assert!((back - out).abs() < 1e-12 * scale, "{from:?} -> {to:?}: {back} {out}");
                }
            }
        }
    }

    #[test]
    fn at_zero_snr_only_eps_is_lost() {
        assert!(x0_coefs(Prediction::Eps, 0.0).0.is_infinite());
        assert!(v_coefs(Prediction::Eps, 0.0).0.is_infinite());
        assert_eq!(x0_coefs(Prediction::V, 0.0), (0.0, -1.0));
        assert_eq!(eps_coefs(Prediction::V, 0.0), (1.0, 0.0));
        assert_eq!(eps_coefs(Prediction::X0, 0.0), (1.0, -0.0));
    }

    #[test]
    fn zero_terminal_snr_restricts_the_objective() {
        let plain = ScheduleConfig::default();
        let zero = ScheduleConfig {
            zero_terminal_snr: true,
            ..plain.clone()
        }
        .build()
        .unwrap();
        let plain = plain.build().unwrap();
        for prediction in ALL {
            for spacing in [Spacing::Leading, Spacing::Linspace, Spacing::Trailing] {
                for steps in [1, 2, 50, 999, 1000] {
                    let first = timesteps(1000, steps, spacing, 0).unwrap()[0];
                    assert_eq!(check_objective(&plain, prediction, spacing, first), Ok(()));
                    let starts_at_last = match spacing {
                        Spacing::Leading => steps == 1000,
                        Spacing::Linspace => steps > 1,
                        Spacing::Trailing => true,
                    };
                    assert_eq!(
                        check_objective(&zero, prediction, spacing, first).is_ok(),
                        prediction != Prediction::Eps && starts_at_last,
                        "{prediction:?} {spacing} {steps}"
                    );
                }
            }
        }
        let message = check_objective(&zero, Prediction::V, Spacing::Leading, 980)
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "zero terminal SNR needs sampling to start at the last step, 999, but leading spacing starts at 980; \
             set spacing to \"trailing\" or \"linspace\""
        );
    }

    #[test]
    fn names_in_files() {
        assert_eq!(serde_json::to_string(&ALL).unwrap(), r#"["eps","x0","v"]"#);
    }
}
