//! How far a run is.

use crate::loss_scale::LossScale;
use crate::step::{StepConfig, TrainState};
use crate::train_network::TrainNetwork;

/// The counters of a [`TrainState`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Position {
    /// Optimiser steps done.
    pub(crate) step: u64,
    /// Images trained on.
    pub(crate) images_seen: u64,
    /// Updates made.
    pub(crate) updates: u64,
    /// What the loss is scaled by.
    pub(crate) loss_scale: LossScale,
}

impl Position {
    /// After a step of so many images and its update.
    pub(crate) fn updated(mut self, config: &StepConfig, rows: u64) -> Self {
        if config.precision.scales_loss() {
            self.loss_scale.updated();
        }
        Self {
            updates: self.updates + 1,
            ..self.skipped(rows)
        }
    }

    /// After a step of so many images whose update was skipped.
    pub(crate) fn skipped(self, rows: u64) -> Self {
        Self {
            step: self.step + 1,
            images_seen: self.images_seen + rows,
            ..self
        }
    }
}

impl<N: TrainNetwork> TrainState<N> {
    /// Where it is.
    pub(crate) fn position(&self) -> Position {
        Position {
            step: self.step,
            images_seen: self.images_seen,
            updates: self.updates,
            loss_scale: self.loss_scale,
        }
    }

    /// The same network elsewhere in the run.
    #[must_use]
    pub(crate) fn at(self, position: Position) -> Self {
        Self {
            step: position.step,
            images_seen: position.images_seen,
            updates: position.updates,
            loss_scale: position.loss_scale,
            ..self
        }
    }
}
