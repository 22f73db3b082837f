//! diffusers' scheduler classes: which of them are samplers of the process that we have.

use std::path::Path;

use ddpm_schedule::Spacing;
use serde_json::Value;

use super::keys::unsupported;
use crate::error::Result;

/// Which sampler a scheduler is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SchedulerClass {
    /// `DDPMScheduler`: ancestral sampling.
    #[default]
    Ddpm,
    /// `DDIMScheduler`.
    Ddim,
    /// One that we do not have, for networks that DDPM and DDIM can sample from too: its name.
    Other(String),
}

/// Samplers of discrete β tables that we do not have, with what their missing keys mean: whether β goes from 0.00085 to
/// 0.012 instead of 0.0001 to 0.02, and the spacing.
const OTHERS: [(&str, bool, Spacing); 13] = [
    ("DEISMultistepScheduler", false, Spacing::Linspace),
    ("DPMSolverMultistepScheduler", false, Spacing::Linspace),
    ("DPMSolverSDEScheduler", true, Spacing::Linspace),
    ("DPMSolverSinglestepScheduler", false, Spacing::Linspace),
    ("EulerAncestralDiscreteScheduler", false, Spacing::Linspace),
    ("EulerDiscreteScheduler", false, Spacing::Linspace),
    ("HeunDiscreteScheduler", true, Spacing::Linspace),
    ("KDPM2AncestralDiscreteScheduler", true, Spacing::Linspace),
    ("KDPM2DiscreteScheduler", true, Spacing::Linspace),
    ("LMSDiscreteScheduler", false, Spacing::Linspace),
    ("PNDMScheduler", false, Spacing::Leading),
    ("SASolverScheduler", false, Spacing::Linspace),
    ("UniPCMultistepScheduler", false, Spacing::Linspace),
];

/// A scheduler class, and what keys that its file lacks mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) class: SchedulerClass,
    pub(super) beta_ends: [f64; 2],
    pub(super) spacing: Spacing,
}

impl Known {
    /// What a `_class_name` says; a file without one is DDPM's, as the oldest ones are.
    ///
    /// # Errors   [`StoreError::Unsupported`](crate::StoreError) for a process that is no table of β
    pub(super) fn read(path: &Path, name: &Value) -> Result<Self> {
        let known = match name {
            Value::Null => Self::of(None),
            name => name.as_str().and_then(|name| Self::of(Some(name))),
        };
        known.ok_or_else(|| {
            let supported = "a network whose scheduler is DDPMScheduler, DDIMScheduler or another one of a table of betas";
            unsupported(path, "_class_name", name, supported)
        })
    }

    fn of(name: Option<&str>) -> Option<Self> {
        const USUAL: [f64; 2] = [1e-4, 0.02];
        const LATENT: [f64; 2] = [0.000_85, 0.012];
        let ours = |class| Self {
            class,
            beta_ends: USUAL,
            spacing: Spacing::Leading,
        };
        match name {
            None | Some("DDPMScheduler" | "DDPMParallelScheduler") => {
                Some(ours(SchedulerClass::Ddpm))
            }
            Some("DDIMScheduler" | "DDIMParallelScheduler") => Some(ours(SchedulerClass::Ddim)),
            Some(name) => {
                let &(_, latent, spacing) = OTHERS.iter().find(|(known, ..)| *known == name)?;
                Some(Self {
                    class: SchedulerClass::Other(name.to_owned()),
                    beta_ends: if latent { LATENT } else { USUAL },
                    spacing,
                })
            }
        }
    }
}
