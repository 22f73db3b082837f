//! Rank 0's training state on all ranks.

use std::path::Path;

use ddpm_unet::Model;
use serde::{Deserialize, Serialize};

use super::{Collective, agree};
use crate::error::TrainError;
use crate::snapshot::{self, Progress, SavedState};
use crate::step::TrainState;

/// What a state is besides tensors.
#[derive(Serialize, Deserialize)]
struct Counters {
    step: u64,
    images_seen: u64,
    progress: Progress,
}

/// Replaces the state of every rank, with the progress of its run, by that of rank 0.
///
/// # Errors   [`TrainError::Device`] if tensors cannot be read or written, [`TrainError::Ranks`]
pub(crate) fn broadcast(
    ranks: &mut dyn Collective,
    state: TrainState,
    saved: &SavedState,
    progress: Progress,
) -> Result<(TrainState, Progress), TrainError> {
    if ranks.size() == 1 {
        return Ok((state, progress));
    }
    let tracked: Vec<f64> = state
        .tracked
        .iter()
        .map(|average| average.sigma_rel)
        .collect();
    let device = state.device();
    // Every rank has tensors of the same names and shapes; only their numbers travel.
    let exported = snapshot::save(&state, saved, 0);
    let mut checkpoint = agree(ranks, exported)?;
    let counters = Counters {
        step: state.step,
        images_seen: state.images_seen,
        progress,
    };
    let mut told = Vec::new();
    if ranks.is_first() {
        told = serde_json::to_vec(&counters).map_err(|error| TrainError::Ranks {
            problem: format!("the state has no JSON form: {error}"),
        })?;
    }
    let counters: Counters = super::read(&ranks.broadcast(told, 0)?)?;
    let tensors = [
        &mut checkpoint.weights,
        &mut checkpoint.ema,
        &mut checkpoint.optimiser,
    ];
    for tensor in tensors.into_iter().flatten() {
        let own = match ranks.is_first() {
            true => tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            false => Vec::new(),
        };
        let bytes = ranks.broadcast(own, 0)?;
        let numbers = bytes
            .chunks_exact(4)
            .map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
        if !ranks.is_first() {
            tensor.data = numbers.collect();
        }
    }
    if ranks.is_first() {
        return agree(ranks, Ok((state, counters.progress)));
    }
    (checkpoint.step, checkpoint.images_seen) = (counters.step, counters.images_seen);
    let updates = counters.progress.updates.unwrap_or(counters.step);
    // The old weights are not needed any more, but the network is.
    let model: Model = state.model;
    // The path is named in errors about what is missing, which cannot be here.
    let restored = snapshot::restore(
        Path::new("rank 0"),
        checkpoint,
        updates,
        &tracked,
        model,
        &device,
    );
    let mut state = agree(ranks, restored)?;
    state.loss_scale = counters.progress.loss_scale;
    state.learned = counters.progress.learned.clone();
    Ok((state, counters.progress))
}
