//! The forward process: images drown in noise.

use burn::tensor::Tensor;
use ddpm_schedule::Level;

use crate::DiffusionError;
use crate::rows::{check_count, check_like, combine_rows};

/// Noisy images x = signal·x0 + noise·ε (Ho et al. 2020, eq. 4, for any process).
///
/// # Shapes   `x0`, `eps`: `[batch, channels, height, width]`; `levels`: one an image; returns the same as `x0`
/// # Units    pixels in [-1, 1]
/// # Errors   [`DiffusionError::Shape`] or [`DiffusionError::Batch`] if these do not fit together
pub fn q_sample(
    x0: Tensor<4>,
    eps: Tensor<4>,
    levels: &[Level],
) -> Result<Tensor<4>, DiffusionError> {
    check_like("eps", &eps, x0.dims())?;
    check_count("levels", levels.len(), x0.dims()[0])?;
    let coefs = levels.iter().map(|level| (level.signal, level.noise));
    Ok(combine_rows(x0, eps, coefs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{ramp, values};

    #[test]
    fn each_image_gets_its_own_level() {
        let (x0, eps) = (ramp([3, 2, 2, 2], -1.0), ramp([3, 2, 2, 2], 0.3));
        let levels = [
            Level::of_alpha_bar(0.9),
            Level::variance_exploding(3.0),
            Level {
                signal: 0.25,
                noise: 0.75,
            },
        ];
        let xt = values(q_sample(x0.clone(), eps.clone(), &levels).unwrap());
        for (i, ((xt, x0), eps)) in xt.iter().zip(values(x0)).zip(values(eps)).enumerate() {
            let Level { signal, noise } = levels[i / 8];
            let expected = signal * f64::from(x0) + noise * f64::from(eps);
            assert!(
                (f64::from(*xt) - expected).abs() < 1e-6,
                "{i}: {xt} {expected}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = || ramp([2, 1, 2, 2], 0.0);
        let level = Level::of_alpha_bar(0.5);
        for (eps, levels, words) in [
            (
                ramp([2, 1, 2, 3], 0.0),
                vec![level; 2],
                "eps has the shape [2, 1, 2, 3]",
            ),
            (x(), vec![level], "1 levels were given for a batch of 2"),
        ] {
            let message = q_sample(x(), eps, &levels).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
