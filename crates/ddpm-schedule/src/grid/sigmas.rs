//! Spacings that are given by σ.

use super::refuse;
use crate::{ScheduleError, Spacing};

/// `n` values of σ from the noisiest down, between `[least, most]` unless the spacing says its own ends.
///
/// # Errors   [`ScheduleError::Timesteps`] for ends or exponents that make no falling row
pub(super) fn sigmas(
    spacing: &Spacing,
    n: usize,
    [least, most]: [f64; 2],
) -> Result<Vec<f64>, ScheduleError> {
    let ends = |sigma_min: &Option<f64>, sigma_max: &Option<f64>| {
        let (low, high) = (sigma_min.unwrap_or(least), sigma_max.unwrap_or(most));
        let falls = 0.0 < low && low < high && high.is_finite();
        match falls || (n == 1 && high > 0.0 && high.is_finite()) {
            true => Ok((low, high)),
            false => refuse(format!(
                "{spacing} spacing from σ {high} down to {low}: take 0 < sigma_min < sigma_max"
            )),
        }
    };
    let positive = |rho: f64| match rho > 0.0 && rho.is_finite() {
        true => Ok(rho),
        false => refuse(format!(
            "{spacing} spacing with rho {rho}: rho must be above 0"
        )),
    };
    // From 0 to 1.
    let ramp = (0..n).map(|i| match n {
        1 => 0.0,
        _ => i as f64 / (n - 1) as f64,
    });
    Ok(match spacing {
        Spacing::Karras {
            rho,
            sigma_min,
            sigma_max,
        } => {
            let (low, high) = ends(sigma_min, sigma_max)?;
            let rho = positive(*rho)?;
            let [a, b] = [high, low].map(|sigma| sigma.powf(1.0 / rho));
            exact(ramp.map(|u| (a + u * (b - a)).powf(rho)), low, high)
        }
        Spacing::Exponential {
            sigma_min,
            sigma_max,
        } => {
            let (low, high) = ends(sigma_min, sigma_max)?;
            let at = |u: f64| high.ln() + u * (low.ln() - high.ln());
            exact(ramp.map(|u| at(u).exp()), low, high)
        }
        Spacing::Polyexponential {
            rho,
            sigma_min,
            sigma_max,
        } => {
            let (low, high) = ends(sigma_min, sigma_max)?;
            let rho = positive(*rho)?;
            let at = |u: f64| (1.0 - u).powf(rho) * (high.ln() - low.ln()) + low.ln();
            exact(ramp.map(|u| at(u).exp()), low, high)
        }
        Spacing::Sigmas { sigmas } => {
            if let Some(bad) = sigmas
                .iter()
                .find(|sigma| !(**sigma > 0.0 && sigma.is_finite()))
            {
                return refuse(format!("the list of σ has {bad}; take numbers above 0"));
            }
            sigmas.clone()
        }
        Spacing::Leading {}
        | Spacing::Linspace {}
        | Spacing::Trailing {}
        | Spacing::Sections { .. }
        | Spacing::Times { .. } => {
            return refuse(format!("{spacing} spacing is not given by σ"));
        }
    })
}

/// The row with its ends freed of rounding.
fn exact(row: impl Iterator<Item = f64>, low: f64, high: f64) -> Vec<f64> {
    let mut row: Vec<f64> = row.collect();
    let last = row.len() - 1;
    row[last] = low;
    row[0] = high;
    row
}
