//! What a person writes under `[process]`.

use serde::{Deserialize, Serialize};

use super::{Edm, Flow, Process, Vp};
use crate::{ScheduleConfig, ScheduleError};

/// A process as configured; [`ProcessConfig::build`] validates it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProcessConfig {
    /// The table of `[schedule]`.
    Discrete {},
    /// The continuous variance-preserving SDE.
    Vp(Vp),
    /// EDM's σ.
    Edm(Edm),
    /// Rectified flow.
    Flow(Flow),
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self::Discrete {}
    }
}

impl ProcessConfig {
    /// The process; `schedule` is read by the discrete one.
    ///
    /// # Errors   a [`ScheduleError`] that names the key at fault, a schedule beside a process that has none among them
    pub fn build(&self, schedule: &ScheduleConfig) -> Result<Process, ScheduleError> {
        if *self != (Self::Discrete {}) && *schedule != ScheduleConfig::default() {
            return Err(ScheduleError::Unused {
                section: "schedule",
                why: "it is the table of the process \"discrete\"; remove it, or set process.kind = \"discrete\"",
            });
        }
        Ok(match *self {
            Self::Discrete {} => Process::Discrete(schedule.build()?),
            Self::Vp(vp) => Process::Vp(vp.checked()?),
            Self::Edm(edm) => Process::Edm(edm.checked()?),
            Self::Flow(flow) => Process::Flow(flow.checked()?),
        })
    }
}
