//! The forward process: images drown in noise.

use burn::tensor::Tensor;
use ddpm_schedule::Schedule;

use crate::{
    DiffusionError,
    rows::{check_like, check_steps, combine_rows},
};

/// Noisy images x_t = √ᾱ_t·x0 + √(1-ᾱ_t)·ε (Ho et al. 2020, eq. 4).
///
/// # Shapes   `x0`, `eps`: `[batch, channels, height, width]`; `t`: one step an image; returns the same as `x0`
/// # Units    pixels in [-1, 1]; `t` in `0..T`
/// # Errors   [`DiffusionError::Shape`], [`DiffusionError::Batch`] or [`DiffusionError::Step`] if these do not fit together
pub fn q_sample(
    x0: Tensor<4>,
    eps: Tensor<4>,
    t: &[usize],
    schedule: &Schedule,
) -> Result<Tensor<4>, DiffusionError> {
    check_like("eps", &eps, x0.dims())?;
    check_steps(t, x0.dims()[0], schedule)?;
    Ok(combine_rows(x0, eps, t, schedule, |alpha_bar| {
        (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
    }))
}

#[cfg(test)]
mod tests {
    use ddpm_schedule::ScheduleConfig;

    use super::*;
    use crate::test_support::{ramp, values};

    #[test]
    fn each_image_gets_its_own_step() {
        let schedule = ScheduleConfig::default().build().unwrap();
        let (x0, eps) = (ramp([3, 2, 2, 2], -1.0), ramp([3, 2, 2, 2], 0.3));
        let t = [0, 500, 999];
        let xt = values(q_sample(x0.clone(), eps.clone(), &t, &schedule).unwrap());
        for (i, ((xt, x0), eps)) in xt.iter().zip(values(x0)).zip(values(eps)).enumerate() {
            let a = schedule.alpha_bar(t[i / 8]);
            let expected = a.sqrt() * f64::from(x0) + (1.0 - a).sqrt() * f64::from(eps);
            assert!(
                (f64::from(*xt) - expected).abs() < 1e-6,
                "{i}: {xt} {expected}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let schedule = ScheduleConfig {
            steps: 10,
            ..Default::default()
        }
        .build()
        .unwrap();
        let x = || ramp([2, 1, 2, 2], 0.0);
        for (eps, t, words) in [
            (
                ramp([2, 1, 2, 3], 0.0),
                vec![0, 0],
                "eps has the shape [2, 1, 2, 3]",
            ),
            (x(), vec![0], "1 time steps were given for a batch of 2"),
            (x(), vec![0, 10], "time step 10 lies beyond"),
        ] {
            let message = q_sample(x(), eps, &t, &schedule).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
