//! How the levels that a sampler visits are spread over a process.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way of spreading levels; the first three are those of Lin et al. 2023, table 2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Spacing {
    /// Multiples of ⌊T/steps⌋ from 0; never visits the last step. Of tables only.
    Leading {},
    /// Equal distances of time between the ends, both included.
    Linspace {},
    /// Equal distances of time from the noisy end down, the last one to the image. Not of EDM, whose σ has no time.
    Trailing {},
    /// Equal distances of σ^(1/ρ) (Karras et al. 2022, eq. 5).
    Karras {
        /// How much the less noisy levels are favoured.
        #[serde(default = "seven")]
        rho: f64,
        /// The last σ above 0; unset: the process's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigma_min: Option<f64>,
        /// The first σ; unset: the process's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigma_max: Option<f64>,
    },
    /// Equal distances of ln σ, which is to say of ln SNR (Lu et al. 2022).
    #[serde(alias = "log_snr")]
    Exponential {
        /// The last σ above 0; unset: the process's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigma_min: Option<f64>,
        /// The first σ; unset: the process's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigma_max: Option<f64>,
    },
    /// ln σ along u^ρ (k-diffusion).
    Polyexponential {
        /// 1 is exponential; above, the less noisy levels are favoured.
        #[serde(default = "one")]
        rho: f64,
        /// The last σ above 0; unset: the process's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigma_min: Option<f64>,
        /// The first σ; unset: the process's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigma_max: Option<f64>,
    },
    /// So many of each equal section of a table, the first section that of the least noise (Nichol & Dhariwal 2021,
    /// `timestep_respacing`).
    Sections {
        /// One number a section.
        counts: Vec<usize>,
    },
    /// These times, in the process's own terms. Where they rise, noise is added again.
    Times {
        /// From the first on; the image comes after the last.
        times: Vec<f64>,
    },
    /// These σ. Where they rise, noise is added again.
    Sigmas {
        /// From the first on; the image comes after the last.
        sigmas: Vec<f64>,
    },
}

fn seven() -> f64 {
    7.0
}

fn one() -> f64 {
    1.0
}

impl Spacing {
    /// The words for those that need no list.
    pub const NAMES: [&str; 6] = [
        "leading",
        "linspace",
        "trailing",
        "karras",
        "exponential",
        "polyexponential",
    ];

    /// The word for it in files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Leading {} => "leading",
            Self::Linspace {} => "linspace",
            Self::Trailing {} => "trailing",
            Self::Karras { .. } => "karras",
            Self::Exponential { .. } => "exponential",
            Self::Polyexponential { .. } => "polyexponential",
            Self::Sections { .. } => "sections",
            Self::Times { .. } => "times",
            Self::Sigmas { .. } => "sigmas",
        }
    }

    /// How many levels a list has.
    #[must_use]
    pub fn listed(&self) -> Option<usize> {
        match self {
            Self::Sections { counts } => Some(counts.iter().sum()),
            Self::Times { times } => Some(times.len()),
            Self::Sigmas { sigmas } => Some(sigmas.len()),
            _ => None,
        }
    }
}

impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
