//! Snapshots of the tracked averages during training.

use ddpm_store::averages;

use crate::error::TrainError;
use crate::snapshot;
use crate::state::TrainState;
use crate::trainer::{Trainer, due};

impl Trainer {
    /// Whether the run keeps its tracked averages as they are after this step.
    pub(crate) fn averages_due(&self, step: u64) -> bool {
        let config = &self.config;
        let every = config.ema.snapshot_every;
        let every = every.unwrap_or(config.train.checkpoint_every);
        !config.ema.power_function.is_empty()
            && (step == self.recipe.total_steps || due(step, every))
    }

    /// Writes a snapshot of them if one is due; before the checkpoint of this step, so that a run which goes on from a
    /// checkpoint has all snapshots up to there.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back, [`TrainError::Store`] if they cannot be written
    pub(crate) fn keep_averages(&self, state: &TrainState) -> Result<(), TrainError> {
        if !self.averages_due(state.step) {
            return Ok(());
        }
        let mut found = Vec::new();
        for average in &state.tracked {
            found.push((average.sigma_rel, snapshot::tracked(state, average)?));
        }
        let mut numbers = found.iter().flat_map(|(_, tensors)| tensors);
        if numbers.all(|tensor| tensor.data.iter().all(|number| number.is_finite())) {
            averages::save(&self.run, state.step, state.images_seen, &found)?;
        }
        // Otherwise the state is bad, and the checkpoint is refused too.
        Ok(())
    }
}
