//! What a person writes under `[objective]`.

use ddpm_schedule::{Posterior, Prediction, Process, VarianceKind, Weighting, named};
use serde::{Deserialize, Serialize};

use super::{ErrorKind, Objective};
use crate::DiffusionError;
use crate::bound::LEAST_PROBABILITY;
use crate::plan::VarianceOutput;

/// The `[objective]` section of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// What the network outputs; unset: what is usual for the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// How the error is weighted by noise level.
    #[serde(deserialize_with = "named::deserialize")]
    pub weighting: Weighting,
    /// What an error counts.
    #[serde(
        deserialize_with = "named::deserialize",
        skip_serializing_if = "is_default"
    )]
    pub error: ErrorKind,
    /// The variance of the reverse step, which the network may learn: then it has twice the channels.
    #[serde(skip_serializing_if = "is_default")]
    pub variance: Variance,
    /// The variational bound in the loss; unset: what the variance needs to be learned.
    #[serde(
        deserialize_with = "named::deserialize_some",
        skip_serializing_if = "Option::is_none"
    )]
    pub bound: Option<Bound>,
    /// The deviation of noise that all pixels of a channel share, added to ε (Guttenberg 2023; 0.1 is usual).
    #[serde(skip_serializing_if = "is_default")]
    pub offset_noise: f64,
    /// The deviation of further noise in what the network is shown, but not in what it is to output (Ning et al. 2023;
    /// 0.1 is usual).
    #[serde(skip_serializing_if = "is_default")]
    pub input_perturbation: f64,
    /// How often the network is told what it expected at the same step, from 0 (never: it takes no such input) to 1
    /// (Chen et al. 2023; 0.5 is usual).
    #[serde(skip_serializing_if = "is_default")]
    pub self_condition: f64,
    /// Steps of a table drawn by how large their losses were, instead of equally often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceConfig>,
    /// The uncertainty of each noise level, learned beside the network, that its errors are divided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertainty: Option<UncertaintyConfig>,
}

/// Importance sampling of time steps (Nichol & Dhariwal 2021, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportanceConfig {
    /// How many losses of each step are remembered; until there are as many, steps are drawn equally often.
    pub history: usize,
    /// How often a step is drawn as if all were alike.
    pub uniform: f64,
}

impl Default for ImportanceConfig {
    fn default() -> Self {
        Self {
            history: 10,
            uniform: 0.001,
        }
    }
}

/// The learned uncertainty of noise levels (Karras et al. 2024, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UncertaintyConfig {
    /// How many Fourier features of ln(σ)/4 its logarithm is a linear function of.
    pub channels: usize,
    /// The learning rate of that function.
    pub lr: f64,
}

impl Default for UncertaintyConfig {
    fn default() -> Self {
        Self {
            channels: 128,
            lr: 0.01,
        }
    }
}

/// The variance of the reverse step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// β̃.
    #[default]
    FixedSmall,
    /// β.
    FixedLarge,
    /// Between the two, on a logarithmic scale (Nichol & Dhariwal 2021, eq. 15).
    LearnedRange,
    /// Its logarithm.
    Learned,
}

/// The variational bound in the loss (Nichol & Dhariwal 2021, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Bound {
    /// Not in it.
    None {},
    /// Beside the weighted error, where it moves the variance alone.
    Hybrid {
        /// What a bit per dimension counts; unset: T/1000, as in OpenAI's rescaled loss.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<f64>,
        /// Whose rules hold where programs differ.
        #[serde(default, skip_serializing_if = "is_default")]
        rules: BoundRules,
    },
    /// Instead of the weighted error.
    Vlb {
        /// What a bit per dimension counts.
        #[serde(default = "one")]
        weight: f64,
    },
}

/// Where programs differ in the bound of the first time step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoundRules {
    /// Its small variance is that of the second step, probabilities are at least 1e-12 (improved-diffusion).
    #[default]
    Openai,
    /// Its small variance is 1e-20, probabilities are at least 1e-15 (denoising-diffusion-pytorch).
    Lucidrains,
}

impl BoundRules {
    fn first_variance(self) -> Option<f64> {
        match self {
            Self::Openai => None,
            Self::Lucidrains => Some(1e-20),
        }
    }

    fn least_probability(self) -> f64 {
        match self {
            Self::Openai => LEAST_PROBABILITY,
            Self::Lucidrains => 1e-15,
        }
    }
}

fn one() -> f64 {
    1.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Variance {
    /// What the network outputs besides.
    #[must_use]
    pub fn output(self) -> VarianceOutput {
        match self {
            Self::FixedSmall | Self::FixedLarge => VarianceOutput::None,
            Self::LearnedRange => VarianceOutput::Range,
            Self::Learned => VarianceOutput::Log,
        }
    }

    /// Whether the network has twice the channels, the second half for the variance.
    #[must_use]
    pub fn is_learned(self) -> bool {
        self.output() != VarianceOutput::None
    }

    /// The variance where none is learned.
    #[must_use]
    pub fn kind(self) -> VarianceKind {
        match self {
            Self::FixedSmall => VarianceKind::Small,
            Self::FixedLarge => VarianceKind::Large,
            Self::LearnedRange | Self::Learned => VarianceKind::Learned,
        }
    }
}

impl ObjectiveConfig {
    /// What the network outputs.
    #[must_use]
    pub fn prediction(&self, process: &Process) -> Prediction {
        self.prediction.unwrap_or(process.usual_prediction())
    }

    /// The objective that this section describes, on a process.
    ///
    /// # Errors   [`DiffusionError::Schedule`] if a parameter of the weighting has no meaning,
    /// [`DiffusionError::Objective`] for parameters that have none or that the process does not serve
    pub fn build(&self, process: &Process) -> Result<Objective, DiffusionError> {
        self.weighting.check()?;
        self.error.check()?;
        let at_least_0 = "a number of at least 0";
        for (key, value) in [
            ("offset_noise", self.offset_noise),
            ("input_perturbation", self.input_perturbation),
        ] {
            check(key, value, value >= 0.0 && value.is_finite(), at_least_0)?;
        }
        let inside = (0.0..=1.0).contains(&self.self_condition);
        check("self_condition", self.self_condition, inside, "from 0 to 1")?;
        let learned = self.variance.is_learned();
        let bound = match self.bound {
            Some(bound) => bound,
            None if learned => Bound::Hybrid {
                weight: None,
                rules: BoundRules::Openai,
            },
            None => Bound::None {},
        };
        if learned && bound == (Bound::None {}) {
            return refuse(
                "bound",
                "none",
                "\"hybrid\" or \"vlb\", without which no variance is learned",
            );
        }
        if !learned && matches!(bound, Bound::Hybrid { .. }) {
            return refuse(
                "bound",
                "hybrid",
                "\"vlb\" or \"none\" where objective.variance is fixed: there it moves nothing",
            );
        }
        let weight = match (bound, process) {
            (Bound::None {}, _) => None,
            (_, Process::Vp(_) | Process::Edm(_) | Process::Flow(_)) => {
                return refuse(
                    "variance",
                    process.name(),
                    "fixed_small without a bound: its terms are of the steps of the process \"discrete\"",
                );
            }
            (Bound::Hybrid { weight: None, .. }, Process::Discrete(table)) => {
                Some(table.len() as f64 / 1000.0)
            }
            (
                Bound::Hybrid {
                    weight: Some(weight),
                    ..
                }
                | Bound::Vlb { weight },
                _,
            ) => Some(weight),
        };
        if let Some(weight) = weight {
            check(
                "bound.weight",
                weight,
                weight > 0.0 && weight.is_finite(),
                "a number above 0",
            )?;
        }
        self.check_learned(process, weight.is_some())?;
        let rules = match bound {
            Bound::Hybrid { rules, .. } => rules,
            _ => BoundRules::Openai,
        };
        let table = process.schedule().map(|schedule| {
            let mut table = Posterior::table(&schedule.levels());
            if let Some(variance) = rules.first_variance() {
                table[0].log_variance_small = variance.ln();
            }
            table
        });
        Ok(Objective {
            config: Self {
                prediction: Some(self.prediction(process)),
                bound: learned.then_some(bound).or(self.bound),
                ..*self
            },
            prediction: self.prediction(process),
            sigma_data: process.sigma_data(),
            least_probability: rules.least_probability(),
            alone: matches!(bound, Bound::Vlb { .. }),
            bound: weight.and_then(|weight| Some((process.schedule()?.clone(), table?, weight))),
        })
    }
}

impl ObjectiveConfig {
    fn check_learned(&self, process: &Process, has_bound: bool) -> Result<(), DiffusionError> {
        if let Some(ImportanceConfig { history, uniform }) = self.importance {
            if process.schedule().is_none() {
                return refuse(
                    "importance",
                    process.name(),
                    "unset: it draws the steps of a table, which only the process \"discrete\" has",
                );
            }
            let some = (1..=1000).contains(&history);
            check("importance.history", history as f64, some, "from 1 to 1000")?;
            let share = (0.0..=1.0).contains(&uniform);
            check("importance.uniform", uniform, share, "from 0 to 1")?;
        }
        if let Some(UncertaintyConfig { channels, lr }) = self.uncertainty {
            if has_bound {
                return refuse(
                    "uncertainty",
                    "set",
                    "unset beside a variational bound, which is no error to be divided by it",
                );
            }
            let some = (1..=1 << 16).contains(&channels);
            check(
                "uncertainty.channels",
                channels as f64,
                some,
                "from 1 to 65536",
            )?;
            let positive = lr > 0.0 && lr.is_finite();
            check("uncertainty.lr", lr, positive, "a number above 0")?;
        }
        Ok(())
    }
}

pub(super) fn check(
    key: &'static str,
    value: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), DiffusionError> {
    match holds {
        true => Ok(()),
        false => refuse(key, &value.to_string(), expected),
    }
}

fn refuse<T>(key: &'static str, got: &str, expected: &'static str) -> Result<T, DiffusionError> {
    Err(DiffusionError::Objective {
        key,
        got: got.to_owned(),
        expected,
    })
}
