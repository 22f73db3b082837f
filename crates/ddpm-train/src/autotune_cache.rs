//! The autotune cache: the kernels that a GPU was found fastest with, kept in the run.

use ddpm_kernels::tuning;
use ddpm_store::{RunDir, RunWriter, StoreError};

/// What was last written of the choices made in this process.
#[derive(Debug, Default)]
pub(crate) struct AutotuneCache {
    written: Option<String>,
}

/// Takes over the choices of a run. They save time and change no result beyond rounding: where they cannot be
/// read, kernels are timed anew.
pub fn load(run: &RunDir) {
    let taken = match run.read_tuning() {
        Ok(None) => return,
        Ok(Some(text)) => tuning::import(&text),
        Err(error) => Err(error.to_string()),
    };
    if let Err(problem) = taken {
        tracing::warn!(
            "{}: {problem}; the kernels are timed anew",
            run.tuning_json().display()
        );
    }
}

impl AutotuneCache {
    /// Writes the choices if there are new ones.
    pub(crate) fn save(&mut self, run: &RunWriter) -> Result<(), StoreError> {
        let choices = tuning::export();
        if let Some(text) = &choices
            && self.written != choices
        {
            run.write_tuning(text)?;
            self.written = choices;
        }
        Ok(())
    }
}
