//! Whether all ranks still have the same weights.

use blake3::Hasher;
use ddpm_unet::params;

use super::{Collective, agree};
use crate::error::TrainError;
use crate::step::TrainState;

/// How far apart weights may be in relation to their size: devices of different make may round each update differently,
/// by 1e-7 of it, but a gradient that was not summed shows within a few updates.
const ROUNDING: f64 = 1e-3;

/// Whether the weights of all ranks are the same, bit for bit. It reads them back once.
///
/// # Errors   [`TrainError::ReplicaDiverged`] if they differ by more than rounding, [`TrainError::Ranks`]
pub(crate) fn check(ranks: &mut dyn Collective, state: &TrainState) -> Result<bool, TrainError> {
    if ranks.size() == 1 {
        return Ok(true);
    }
    let own = weights(state);
    let bytes = |x: &f32| x.to_le_bytes();
    let mut hasher = Hasher::new();
    hasher.update(&own.iter().flat_map(bytes).collect::<Vec<u8>>());
    // Two bytes a number, which f32 holds exactly.
    let digest = hasher.finalize();
    let pairs = digest.as_bytes().chunks_exact(2);
    let digest: Vec<f32> = pairs
        .map(|x| f32::from(u16::from_le_bytes([x[0], x[1]])))
        .collect();
    let digests = ranks.all_gather(digest)?;
    let length = digests.len() / ranks.size();
    if digests
        .chunks_exact(length)
        .all(|digest| *digest == digests[..length])
    {
        return Ok(true);
    }
    let theirs = match ranks.is_first() {
        true => own.iter().flat_map(bytes).collect(),
        false => Vec::new(),
    };
    let first = ranks.broadcast(theirs, 0)?;
    let first = first
        .chunks_exact(4)
        .map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
    let distance = distance(first, &own);
    let near = match distance.is_nan() || distance > ROUNDING {
        true => Err(TrainError::ReplicaDiverged {
            rank: ranks.rank(),
            step: state.step,
            distance,
        }),
        false => Ok(false),
    };
    agree(ranks, near)
}

/// All weights, one after the other.
fn weights(state: &TrainState) -> Vec<f32> {
    let exported = params::export(&state.model).into_iter();
    exported
        .flat_map(|(_, data)| data.iter::<f32>().collect::<Vec<_>>())
        .collect()
}

/// ‖own - first‖ / ‖first‖.
fn distance(first: impl Iterator<Item = f32>, own: &[f32]) -> f64 {
    let (mut apart, mut size) = (0.0, 0.0);
    for (first, own) in first.zip(own) {
        let (first, own) = (f64::from(first), f64::from(*own));
        apart += (own - first).powi(2);
        size += first.powi(2);
    }
    (apart / size).sqrt()
}
