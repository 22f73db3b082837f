//! What a person writes under `[sample]`.

use ddpm_schedule::{
    Prediction, Respaced, Schedule, Spacing, VarianceKind, check_objective, timesteps,
};
use serde::{Deserialize, Serialize};

use crate::{DiffusionError, Plan, Sampler};

/// How many steps DDIM takes unless told.
const DEFAULT_DDIM_STEPS: usize = 50;

/// Which sampler draws the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Ancestral sampling (Ho et al. 2020, algorithm 2).
    #[default]
    Ddpm,
    /// DDIM (Song et al. 2021), deterministic unless `eta` is above 0.
    Ddim,
}

/// The `[sample]` section of a configuration; [`SampleConfig::plan`] validates it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleConfig {
    /// The sampler.
    pub sampler: SamplerKind,
    /// Network evaluations an image; unset: all T for DDPM, 50 for DDIM (at most T).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// How much fresh noise DDIM adds, from 0 (none) to 1 (as much as DDPM); DDPM has no use for it.
    pub eta: f64,
    /// The variance of DDPM's noise; DDIM has no use for it.
    pub variance: VarianceKind,
    /// Use the large variance even when steps are skipped, where it makes noisy images.
    pub allow_large_respaced: bool,
    /// Clamp the predicted image at every step.
    pub clip: bool,
    /// To ± this, in pixels of [-1, 1].
    pub clip_range: f64,
    /// How the steps are spread; unset: leading, or trailing where the schedule ends without signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// Added to every time step of the leading spacing.
    #[serde(skip_serializing_if = "is_default")]
    pub offset: usize,
    /// DDIM as diffusers has it; DDPM has no use for it.
    #[serde(skip_serializing_if = "is_default")]
    pub ddim: DdimRules,
    /// How many images, unless told elsewhere.
    pub count: usize,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            sampler: SamplerKind::Ddpm,
            steps: None,
            eta: 0.0,
            variance: VarianceKind::Small,
            allow_large_respaced: false,
            clip: true,
            clip_range: 1.0,
            spacing: None,
            offset: 0,
            ddim: DdimRules::default(),
            count: 64,
        }
    }
}

/// Where other programs' DDIM differs from ours; all off is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DdimRules {
    /// Every step spans ⌊T/steps⌋ time steps, whichever is visited next.
    pub fixed_stride: bool,
    /// The last step ends at the first time step's ᾱ instead of 1.
    pub to_first: bool,
    /// ε̂ stays the network's where x̂0 is clipped.
    pub keep_eps: bool,
}

/// Whether a key may be left unwritten: what was written before there was such a key stays as it was.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SampleConfig {
    /// Everything that a sampler needs to know of this section, a schedule and a network's prediction.
    ///
    /// Warns, and takes the small variance, where the large one meets skipped steps unasked
    /// (Nichol & Dhariwal 2021, section 4: FID 46 instead of 11 at 100 of 1000 steps).
    ///
    /// # Errors   [`DiffusionError::Config`] for a value without meaning, [`DiffusionError::Schedule`] for an impossible number of steps or an objective that the schedule cannot serve
    pub fn plan(
        &self,
        schedule: &Schedule,
        prediction: Prediction,
    ) -> Result<Plan, DiffusionError> {
        self.check()?;
        let total = schedule.len();
        let spacing = self
            .spacing
            .unwrap_or(match schedule.is_zero_terminal_snr() {
                true => Spacing::Trailing,
                false => Spacing::Leading,
            });
        let steps = self.steps.unwrap_or(match self.sampler {
            SamplerKind::Ddpm => total,
            SamplerKind::Ddim => DEFAULT_DDIM_STEPS.min(total),
        });
        let visited = timesteps(total, steps, spacing, self.offset)?;
        let first = visited.first().copied().unwrap_or_default();
        check_objective(schedule, prediction, spacing, first)?;
        let respaced = match (self.sampler, self.ddim.fixed_stride) {
            (SamplerKind::Ddim, true) => {
                Respaced::strided(schedule, visited, total / steps, self.end(schedule))?
            }
            _ => Respaced::new(schedule, visited)?,
        };
        let sampler = match self.sampler {
            SamplerKind::Ddpm => Sampler::Ddpm {
                variance: self.variance_for(steps, total),
            },
            SamplerKind::Ddim => Sampler::Ddim { eta: self.eta },
        };
        let clip = self.clip.then_some(self.clip_range);
        let plan = Plan::new(respaced, prediction, sampler, clip)?;
        Ok(plan.keeping_eps(self.ddim.keep_eps))
    }

    /// ᾱ after DDIM's last step.
    fn end(&self, schedule: &Schedule) -> f64 {
        match self.ddim.to_first {
            true => schedule.alpha_bar(0),
            false => 1.0,
        }
    }

    fn variance_for(&self, steps: usize, total: usize) -> VarianceKind {
        if self.variance == VarianceKind::Large && steps < total && !self.allow_large_respaced {
            tracing::warn!(
                steps,
                total,
                "the large variance makes noisy images when steps are skipped; using the small one (sample.allow_large_respaced = true keeps the large one)"
            );
            return VarianceKind::Small;
        }
        self.variance
    }

    fn check(&self) -> Result<(), DiffusionError> {
        let refuse =
            |key, got: String, expected| Err(DiffusionError::Config { key, got, expected });
        if self.count == 0 {
            return refuse("count", "0".into(), "at least 1");
        }
        if self.ddim.to_first && !self.ddim.fixed_stride {
            let expected = "false unless sample.ddim.fixed_stride is true";
            return refuse("ddim.to_first", "true".into(), expected);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ddpm_schedule::ScheduleConfig;

    use super::*;

    fn schedule(steps: usize, zero_terminal_snr: bool) -> Schedule {
        ScheduleConfig {
            steps,
            zero_terminal_snr,
            ..Default::default()
        }
        .build()
        .unwrap()
    }

    fn visited(config: &SampleConfig, schedule: &Schedule) -> Vec<usize> {
        config
            .plan(schedule, Prediction::V)
            .unwrap()
            .steps()
            .iter()
            .map(|step| step.t)
            .collect()
    }

    #[test]
    fn defaults_depend_on_sampler_and_schedule() {
        let ddpm = SampleConfig::default();
        let ddim = SampleConfig {
            sampler: SamplerKind::Ddim,
            ..Default::default()
        };
        assert_eq!(visited(&ddpm, &schedule(1000, false)).len(), 1000);
        assert_eq!(visited(&ddim, &schedule(1000, false))[..2], [980, 960]);
        assert_eq!(visited(&ddim, &schedule(1000, true))[..2], [999, 979]);
        assert_eq!(visited(&ddim, &schedule(20, false)).len(), 20);
        assert_eq!(visited(&ddpm, &schedule(1, false)), [0]);
        let moved = SampleConfig { offset: 7, ..ddim };
        assert_eq!(visited(&moved, &schedule(1000, false))[..2], [987, 967]);
        // Both start at the last step, as zero terminal SNR needs.
        for (spacing, steps) in [(Spacing::Linspace, Some(10)), (Spacing::Leading, None)] {
            let config = SampleConfig {
                spacing: Some(spacing),
                steps,
                ..Default::default()
            };
            assert_eq!(visited(&config, &schedule(100, true))[0], 99);
        }
    }

    #[test]
    fn large_variance_gives_way_when_steps_are_skipped() {
        let schedule = schedule(100, false);
        for (steps, allow_large_respaced, expected) in [
            (None, false, VarianceKind::Large),
            (Some(100), false, VarianceKind::Large),
            (Some(99), false, VarianceKind::Small),
            (Some(99), true, VarianceKind::Large),
        ] {
            let config = SampleConfig {
                variance: VarianceKind::Large,
                steps,
                allow_large_respaced,
                ..Default::default()
            };
            let plan = config.plan(&schedule, Prediction::Eps).unwrap();
            assert_eq!(
                plan.sampler(),
                Sampler::Ddpm { variance: expected },
                "{steps:?}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        let base = SampleConfig::default;
        let ddim = || SampleConfig {
            sampler: SamplerKind::Ddim,
            ..base()
        };
        for (config, zero, prediction, words) in [
            (
                SampleConfig { count: 0, ..base() },
                false,
                Prediction::V,
                "sample.count is 0",
            ),
            (
                SampleConfig {
                    clip_range: 0.0,
                    ..base()
                },
                false,
                Prediction::V,
                "sample.clip_range is 0",
            ),
            (
                SampleConfig {
                    clip_range: f64::NAN,
                    ..base()
                },
                false,
                Prediction::V,
                "sample.clip_range is NaN",
            ),
            (
                SampleConfig { eta: 1.5, ..ddim() },
                false,
                Prediction::V,
                "sample.eta is 1.5",
            ),
            (
                SampleConfig {
                    steps: Some(0),
                    ..base()
                },
                false,
                Prediction::V,
                "0 sampling steps",
            ),
            (
                SampleConfig {
                    steps: Some(101),
                    ..ddim()
                },
                false,
                Prediction::V,
                "must be ≤ 100",
            ),
            (base(), true, Prediction::Eps, "zero terminal SNR"),
            (
                SampleConfig {
                    spacing: Some(Spacing::Leading),
                    steps: Some(50),
                    ..base()
                },
                true,
                Prediction::V,
                "trailing",
            ),
            (
                SampleConfig {
                    offset: 2,
                    ..base()
                },
                false,
                Prediction::V,
                "use fewer steps",
            ),
            (
                SampleConfig {
                    ddim: DdimRules {
                        to_first: true,
                        ..Default::default()
                    },
                    ..ddim()
                },
                false,
                Prediction::V,
                "sample.ddim.to_first",
            ),
        ] {
            let message = config
                .plan(&schedule(100, zero), prediction)
                .unwrap_err()
                .to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn files() {
        let parsed: SampleConfig =
            serde_json::from_str(r#"{"sampler": "ddim", "spacing": "trailing", "steps": 7}"#)
                .unwrap();
        let expected = SampleConfig {
            sampler: SamplerKind::Ddim,
            spacing: Some(Spacing::Trailing),
            steps: Some(7),
            ..Default::default()
        };
        assert_eq!(parsed, expected);
        let written = serde_json::to_string(&parsed).unwrap();
        assert_eq!(
            serde_json::from_str::<SampleConfig>(&written).unwrap(),
            parsed
        );
        assert!(
            !serde_json::to_string(&SampleConfig::default())
                .unwrap()
                .contains("null")
        );
        let message = serde_json::from_str::<SampleConfig>(r#"{"sampler": "dpm"}"#)
            .unwrap_err()
            .to_string();
        assert!(message.contains("ddim"), "{message}");
    }
}
