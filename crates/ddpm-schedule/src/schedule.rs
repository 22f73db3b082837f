//! The noise table of a diffusion: β_t and ᾱ_t = ∏(1 - β_s).

mod config;
mod kinds;

use crate::{Level, ScheduleError};

pub use config::{ScheduleConfig, ScheduleKind};

/// The largest number of steps a schedule may have.
pub const MAX_STEPS: usize = 10_000;

/// β and ᾱ of every step, `t = 0..len`.
///
/// Always true: β in (0, 1) and ᾱ strictly falling in (0, 1). The one exception is the last
/// step of a schedule with zero terminal SNR, where β = 1 and ᾱ = 0.
///
/// The accessors take `t < len()` and panic beyond, as slices do.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    betas: Vec<f64>,
    alpha_bars: Vec<f64>,
    /// What a step is multiplied by when the network is told of it.
    told: f64,
}

impl Schedule {
    /// The schedule of the given β; the last one may be 1 (zero terminal SNR).
    ///
    /// # Errors
    /// [`ScheduleError::Steps`] for none or too many, [`ScheduleError::Beta`] for one outside
    /// (0, 1), [`ScheduleError::Degenerate`] if ᾱ leaves what f64 can tell apart.
    pub fn from_betas(betas: Vec<f64>) -> Result<Self, ScheduleError> {
        let alpha_bars = betas
            .iter()
            .scan(1.0, |alpha_bar, beta| {
                *alpha_bar *= 1.0 - beta;
                Some(*alpha_bar)
            })
            .collect();
        Self::checked(betas, alpha_bars)
    }

    /// The schedule of the given ᾱ, β_t = 1 - ᾱ_t/ᾱ_{t-1}.
    fn from_alpha_bars(alpha_bars: Vec<f64>) -> Result<Self, ScheduleError> {
        let betas = std::iter::once(&1.0)
            .chain(&alpha_bars)
            .zip(&alpha_bars)
            .map(|(previous, alpha_bar)| 1.0 - alpha_bar / previous)
            .collect();
        Self::checked(betas, alpha_bars)
    }

    fn checked(betas: Vec<f64>, alpha_bars: Vec<f64>) -> Result<Self, ScheduleError> {
        check_steps(betas.len())?;
        let last = betas.len() - 1;
        let mut previous = 1.0;
        for (t, (&beta, &alpha_bar)) in betas.iter().zip(&alpha_bars).enumerate() {
            let terminal = t == last && beta == 1.0;
            if !(beta > 0.0 && beta < 1.0 || terminal) {
                return Err(ScheduleError::Beta { t, beta });
            }
            if !(alpha_bar < previous && (alpha_bar > 0.0 || terminal)) {
                return Err(ScheduleError::Degenerate { t, alpha_bar });
            }
            previous = alpha_bar;
        }
        Ok(Self {
            betas,
            alpha_bars,
            told: 1.0,
        })
    }

    /// The same schedule moved and stretched so that its last step holds no signal
    /// (Lin et al. 2023, algorithm 1).
    ///
    /// With r = √ᾱ: r ← (r - r_T)·r_1/(r_1 - r_T), which keeps the first step. A schedule of
    /// one step becomes ᾱ = 0. One that ends at 0 already stays as it is.
    ///
    /// # Errors
    /// [`ScheduleError::Degenerate`] if neighbouring ᾱ fall together.
    pub fn with_zero_terminal_snr(&self) -> Result<Self, ScheduleError> {
        if self.is_zero_terminal_snr() {
            return Ok(self.clone());
        }
        let first = self.sqrt_alpha_bar(0);
        let last = self.sqrt_alpha_bar(self.len() - 1);
        let alpha_bars = match self.len() {
            1 => vec![0.0],
            _ => self
                .alpha_bars
                .iter()
                .map(|alpha_bar| ((alpha_bar.sqrt() - last) * (first / (first - last))).powi(2))
                .collect(),
        };
        Ok(Self {
            told: self.told,
            ..Self::from_alpha_bars(alpha_bars)?
        })
    }

    /// What a network is told of a step: the step itself, or its share of [`ScheduleConfig::network_steps`].
    #[must_use]
    pub fn network_time(&self, step: f64) -> f64 {
        self.told * step
    }

    /// The number of steps T, at least 1.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a schedule has at least one step"
    )]
    #[must_use]
    pub fn len(&self) -> usize {
        self.betas.len()
    }

    /// All β, by step.
    #[must_use]
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// All ᾱ, by step.
    #[must_use]
    pub fn alpha_bars(&self) -> &[f64] {
        &self.alpha_bars
    }

    /// β_t, the variance of the noise that step `t` adds.
    #[must_use]
    pub fn beta(&self, t: usize) -> f64 {
        self.betas[t]
    }

    /// α_t = 1 - β_t.
    #[must_use]
    pub fn alpha(&self, t: usize) -> f64 {
        1.0 - self.betas[t]
    }

    /// ᾱ_t, the share of the data's variance left after step `t`.
    #[must_use]
    pub fn alpha_bar(&self, t: usize) -> f64 {
        self.alpha_bars[t]
    }

    /// √ᾱ_t, the scale of x0 in x_t.
    #[must_use]
    pub fn sqrt_alpha_bar(&self, t: usize) -> f64 {
        self.alpha_bars[t].sqrt()
    }

    /// √(1 - ᾱ_t), the scale of ε in x_t.
    #[must_use]
    pub fn sqrt_one_minus_alpha_bar(&self, t: usize) -> f64 {
        (1.0 - self.alpha_bars[t]).sqrt()
    }

    /// The signal-to-noise ratio ᾱ/(1 - ᾱ); 0 at the end of a zero-terminal-SNR schedule.
    #[must_use]
    pub fn snr(&self, t: usize) -> f64 {
        self.alpha_bars[t] / (1.0 - self.alpha_bars[t])
    }

    /// ln SNR; -∞ at the end of a zero-terminal-SNR schedule.
    #[must_use]
    pub fn log_snr(&self, t: usize) -> f64 {
        self.alpha_bars[t].ln() - (-self.alpha_bars[t]).ln_1p()
    }

    /// Whether the last step holds no signal at all.
    #[must_use]
    pub fn is_zero_terminal_snr(&self) -> bool {
        self.alpha_bars.last() == Some(&0.0)
    }

    /// The noise level of step `t`.
    #[must_use]
    pub fn level(&self, t: usize) -> Level {
        Level::of_alpha_bar(self.alpha_bars[t])
    }

    /// The noise levels of all steps.
    #[must_use]
    pub fn levels(&self) -> Vec<Level> {
        let levels = self.alpha_bars.iter().copied();
        levels.map(Level::of_alpha_bar).collect()
    }
}

fn check_steps(steps: usize) -> Result<(), ScheduleError> {
    match steps {
        1..=MAX_STEPS => Ok(()),
        _ => Err(ScheduleError::Steps {
            steps,
            max: MAX_STEPS,
        }),
    }
}

#[cfg(test)]
mod tests;
