//! What a person writes under `[sample]`.

use ddpm_schedule::{GridConfig, GridRules, Process, Spacing, VarianceKind, named};
use serde::{Deserialize, Serialize};

use crate::guidance::GuidanceConfig;
use crate::plan::{Hold, Meaning};
use crate::sampler::{ddim, ddpm};
use crate::{DiffusionError, Plan, Sampler};

/// The `[sample]` section of a configuration; [`SampleConfig::plan`] validates it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct SampleConfig {
    /// The sampler and its options.
    pub sampler: Sampler,
    /// Steps; unset: what is usual for the sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// How they are spread; unset: what is usual for process and sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// Added to every time step of the leading spacing.
    #[serde(skip_serializing_if = "is_default")]
    pub offset: usize,
    /// Where other programs spread steps differently.
    #[serde(skip_serializing_if = "is_default")]
    pub grid: GridRules,
    /// Clamp the predicted image at every step.
    pub clip: bool,
    /// To ± this, in pixels of [-1, 1].
    pub clip_range: f64,
    /// Dynamic thresholding instead of clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<ThresholdConfig>,
    /// Guidance, of networks that are told classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<GuidanceConfig>,
    /// How many images, unless told elsewhere.
    pub count: usize,
}

/// Dynamic thresholding (Saharia et al. 2022, section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThresholdConfig {
    /// The quantile of |x̂0| over each image that becomes 1.
    pub ratio: f64,
    /// The largest that is divided by.
    pub most: f64,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self {
            ratio: 0.995,
            most: 1.0,
        }
    }
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            sampler: Sampler::default(),
            steps: None,
            spacing: None,
            offset: 0,
            grid: GridRules::default(),
            clip: true,
            clip_range: 1.0,
            threshold: None,
            guidance: None,
            count: 64,
        }
    }
}

/// The section as it is written, with the keys that samplers' options had beside it before they had tables of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(deserialize_with = "named::deserialize")]
    sampler: Sampler,
    steps: Option<usize>,
    #[serde(deserialize_with = "named::deserialize_some")]
    spacing: Option<Spacing>,
    offset: usize,
    grid: GridRules,
    clip: bool,
    clip_range: f64,
    threshold: Option<ThresholdConfig>,
    guidance: Option<GuidanceConfig>,
    count: usize,
    eta: Option<f64>,
    variance: Option<VarianceKind>,
    allow_large_respaced: Option<bool>,
    ddim: Option<OldDdim>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OldDdim {
    fixed_stride: bool,
    to_first: bool,
    keep_eps: bool,
}

impl Default for Written {
    fn default() -> Self {
        let SampleConfig {
            sampler,
            steps,
            spacing,
            offset,
            grid,
            clip,
            clip_range,
            threshold,
            guidance,
            count,
        } = SampleConfig::default();
        Self {
            sampler,
            steps,
            spacing,
            offset,
            grid,
            clip,
            clip_range,
            threshold,
            guidance,
            count,
            eta: None,
            variance: None,
            allow_large_respaced: None,
            ddim: None,
        }
    }
}

impl TryFrom<Written> for SampleConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut config = Self {
            sampler: written.sampler,
            steps: written.steps,
            spacing: written.spacing,
            offset: written.offset,
            grid: written.grid,
            clip: written.clip,
            clip_range: written.clip_range,
            threshold: written.threshold,
            guidance: written.guidance,
            count: written.count,
        };
        match &mut config.sampler {
            Sampler::Ddpm(ddpm) => {
                ddpm.variance = written.variance.or(ddpm.variance);
                ddpm.allow_large_respaced |= written.allow_large_respaced.unwrap_or_default();
            }
            Sampler::Ddim(ddim) => {
                ddim.eta = written.eta.unwrap_or(ddim.eta);
                let old = written.ddim.unwrap_or_default();
                ddim.keep_eps |= old.keep_eps;
                config.grid.fixed_stride |= old.fixed_stride;
                config.grid.to_first |= old.to_first;
            }
            // Files of before know no other sampler.
            other => {
                for (key, given) in [
                    ("eta", written.eta.is_some()),
                    ("variance", written.variance.is_some()),
                    (
                        "allow_large_respaced",
                        written.allow_large_respaced.is_some(),
                    ),
                    ("ddim", written.ddim.is_some()),
                ] {
                    if given {
                        let name = other.name();
                        return Err(format!(
                            "`{key}` beside the sampler \"{name}\": options of a sampler stand in its table, \
                             sampler = {{ kind = \"{name}\", … }}"
                        ));
                    }
                }
            }
        }
        Ok(config)
    }
}

/// Whether a key may be left unwritten: what was written before there was such a key stays as it was.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SampleConfig {
    /// Everything that a sampler needs to know of this section, a process and a network's output.
    ///
    /// # Errors   [`DiffusionError::Config`] for a value without meaning, [`DiffusionError::Sampler`] for a sampler that
    /// does not serve the process, [`DiffusionError::Schedule`] for an impossible number of steps or a prediction that
    /// the process cannot serve
    pub fn plan(
        &self,
        process: &Process,
        meaning: impl Into<Meaning>,
    ) -> Result<Plan, DiffusionError> {
        if self.count == 0 {
            return Err(DiffusionError::Config {
                key: "count",
                got: "0".into(),
                expected: "at least 1",
            });
        }
        let spacing = self
            .spacing
            .clone()
            .unwrap_or_else(|| self.usual_spacing(process));
        let grid = GridConfig {
            spacing,
            steps: self.steps.unwrap_or_else(|| self.usual_steps(process)),
            offset: self.offset,
            rules: self.grid.clone(),
        };
        let hold = match self.threshold {
            Some(ThresholdConfig { ratio, most }) => Hold::Threshold { ratio, most },
            None if self.clip => Hold::Clip(self.clip_range),
            None => Hold::Free,
        };
        let meaning = meaning.into();
        // Before the grid, whose objection to zero terminal SNR would be the lesser one.
        meaning.prediction.check(process.noisiest())?;
        let grid = grid.build(process)?;
        let plan = Plan::new(process.clone(), meaning, grid, self.sampler.clone(), hold)?;
        plan.guided(self.guidance)
    }

    fn usual_steps(&self, process: &Process) -> usize {
        let table = process.schedule().map(ddpm_schedule::Schedule::len);
        match self.sampler.about().usual_steps {
            0 => table.unwrap_or(ALL_STEPS),
            steps => steps.min(table.unwrap_or(steps)),
        }
    }

    fn usual_spacing(&self, process: &Process) -> Spacing {
        match process {
            Process::Edm(_) => Spacing::Karras {
                rho: 7.0,
                sigma_min: None,
                sigma_max: None,
            },
            Process::Discrete(schedule) => {
                // The leading steps never reach the last one, where such a table's signal ends.
                match schedule.is_zero_terminal_snr() {
                    true => Spacing::Trailing {},
                    false => self.sampler.table_spacing(),
                }
            }
            Process::Vp(_) | Process::Flow(_) => Spacing::Trailing {},
        }
    }

    /// The DDIM options, where that is the sampler.
    #[must_use]
    pub fn ddim(&self) -> Option<&ddim::Ddim> {
        match &self.sampler {
            Sampler::Ddim(ddim) => Some(ddim),
            _ => None,
        }
    }

    /// The DDPM options, where that is the sampler.
    #[must_use]
    pub fn ddpm(&self) -> Option<&ddpm::Ddpm> {
        match &self.sampler {
            Sampler::Ddpm(ddpm) => Some(ddpm),
            _ => None,
        }
    }
}

/// What stands for all steps of a process that has no table.
const ALL_STEPS: usize = 1000;
