//! Faults on purpose: numbers that go bad, and steps that take long. Without the feature `faults` there are none, and the
//! functions that the step calls return what they are given.

#[cfg(feature = "faults")]
mod injected;

use std::sync::Arc;

use burn::tensor::Tensor;
use ddpm_data::Batch;

use crate::optim::ParamGrads;
use crate::step::TrainState;

#[cfg(feature = "faults")]
pub use injected::{Place, Poison, poison, stall};

/// A step's batch and parameters, before they meet.
pub(crate) fn in_batch(state: TrainState, batch: Arc<Batch>) -> (TrainState, Arc<Batch>) {
    #[cfg(feature = "faults")]
    return injected::in_batch(state, batch);
    #[cfg(not(feature = "faults"))]
    (state, batch)
}

/// The losses of step `step`, from 1, whose micro-batches have so many images.
pub(crate) fn in_losses(step: u64, losses: Tensor<1>, images: &[usize]) -> Tensor<1> {
    #[cfg(feature = "faults")]
    return injected::in_losses(step, losses, images);
    #[cfg(not(feature = "faults"))]
    {
        let _ = (step, images);
        losses
    }
}

/// The gradient of step `step`, from 1.
pub(crate) fn in_gradient(step: u64, grads: ParamGrads) -> ParamGrads {
    #[cfg(feature = "faults")]
    return injected::in_gradient(step, grads);
    #[cfg(not(feature = "faults"))]
    {
        let _ = step;
        grads
    }
}
