//! A few steps of a run, measured beside a progress line.

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_train::{Probe, TrainError, Validated, probe};

use crate::terminal::{Progress, Update};

/// Measures `steps` steps; none begins after `budget`.
///
/// # Errors   those of [`probe`]
pub fn measure(
    validated: &Validated,
    dataset: Arc<Dataset>,
    devices: &[Device],
    steps: usize,
    budget: Duration,
    quiet: bool,
) -> Result<Probe, TrainError> {
    let mut progress: Option<Progress> = None;
    probe(
        validated,
        dataset,
        devices,
        steps,
        budget,
        &mut |done, of| {
            progress
                .get_or_insert_with(|| Progress::start(0, of as u64, quiet))
                .update(Update {
                    step: done as u64,
                    ..Update::default()
                });
        },
    )
}
