//! What a person writes under `[sample.guidance]`.

use ddpm_schedule::Level;
use serde::{Deserialize, Serialize};

use crate::DiffusionError;

/// How far guidance leads, and where.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuidanceConfig {
    /// s: 0 is the guide alone, 1 the network alone, above 1 leads away from the guide. The w of Ho & Salimans is
    /// s - 1.
    pub scale: f64,
    /// φ, from 0 to 1: how far the deviation of each image's output is brought back to the network's own (Lin et al.
    /// 2023, section 3.4).
    #[serde(skip_serializing_if = "is_default")]
    pub rescale: f64,
    /// Whether only what is orthogonal to the network's own output is added (Sadat et al. 2024).
    #[serde(skip_serializing_if = "is_default")]
    pub orthogonal: bool,
    /// At which steps; elsewhere the network alone is asked.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: Interval,
}

impl Default for GuidanceConfig {
    fn default() -> Self {
        Self {
            scale: 1.0,
            rescale: 0.0,
            orthogonal: false,
            interval: Interval::default(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Steps with guidance (Kynkäänniemi et al. 2024): all evaluations of a step go by where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interval {
    /// low < σ ≤ high, in σ = noise/signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<[f64; 2]>,
    /// int(first·n) ≤ step < int(last·n) of n steps, as shares from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<[f64; 2]>,
}

impl Interval {
    /// Whether it holds step `step` of `of`, which begins at `from`.
    #[must_use]
    pub fn holds(&self, step: usize, of: usize, from: Level) -> bool {
        let by_sigma = self
            .sigma
            .is_none_or(|[low, high]| low < from.sigma() && from.sigma() <= high);
        let by_step = self.steps.is_none_or(|[first, last]| {
            let at = |share: f64| (share * of as f64) as usize;
            at(first) <= step && step < at(last)
        });
        by_sigma && by_step
    }
}

impl GuidanceConfig {
    /// Whether it changes anything.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.scale != 1.0
    }

    /// # Errors   [`DiffusionError::Config`] naming the key
    pub fn check(&self) -> Result<(), DiffusionError> {
        let refuse =
            |key, got: String, expected| Err(DiffusionError::Config { key, got, expected });
        if !self.scale.is_finite() {
            return refuse("guidance.scale", self.scale.to_string(), "a number");
        }
        if !(0.0..=1.0).contains(&self.rescale) {
            let got = self.rescale.to_string();
            return refuse("guidance.rescale", got, "from 0 to 1");
        }
        if let Some([low, high]) = self.interval.sigma
            && !(0.0 <= low && low < high)
        {
            let expected = "two levels of σ, the lower one first";
            return refuse(
                "guidance.interval.sigma",
                format!("[{low}, {high}]"),
                expected,
            );
        }
        if let Some([first, last]) = self.interval.steps
            && !(0.0 <= first && first < last && last <= 1.0)
        {
            let expected = "two shares of the steps from 0 to 1, the lower one first";
            return refuse(
                "guidance.interval.steps",
                format!("[{first}, {last}]"),
                expected,
            );
        }
        Ok(())
    }
}
