//! Whether all ranks still have the same weights.

use blake3::{Hash, Hasher};
use burn::tensor::TensorData;
use ddpm_unet::params;

use super::no_state;
use super::peer::Peer;
use crate::error::TrainError;
use crate::state::TrainState;

/// How far apart weights may be in relation to their size: devices of different make may round each update differently,
/// by 1e-7 of it, but a gradient that was not added up shows within a few updates.
const ROUNDING: f64 = 1e-3;

/// Whether the weights of all ranks are the same, bit for bit. It reads them back once.
///
/// # Errors   [`TrainError::Apart`] if they differ by more than rounding, [`TrainError::Device`]
pub(super) fn check(state: &TrainState, peers: &mut [Peer]) -> Result<bool, TrainError> {
    if peers.is_empty() {
        return Ok(true);
    }
    let answers: Vec<_> = peers
        .iter_mut()
        .map(|peer| peer.ask(|seat| Some(digest(&weights(seat.state.as_ref()?)))))
        .collect();
    let own = weights(state);
    let digest = digest(&own);
    let digests: Vec<Option<Hash>> = answers.into_iter().map(super::peer::Answer::wait).collect();
    let mut same = true;
    for ((device, peer), theirs) in (2..).zip(peers).zip(digests) {
        if theirs == Some(digest) {
            continue;
        }
        same = false;
        let theirs = peer.ask(|seat| seat.state.as_ref().map(weights)).wait();
        let distance = distance(&own, &theirs.ok_or_else(no_state)?);
        if distance.is_nan() || distance > ROUNDING {
            return Err(TrainError::Apart {
                device,
                step: state.step,
                distance,
            });
        }
    }
    Ok(same)
}

fn weights(state: &TrainState) -> Vec<TensorData> {
    let exported = params::export(&state.model).into_iter();
    exported.map(|(_, data)| data).collect()
}

fn digest(weights: &[TensorData]) -> Hash {
    let mut hasher = Hasher::new();
    for data in weights {
        hasher.update(data.as_bytes());
    }
    hasher.finalize()
}

/// ‖theirs - own‖ / ‖own‖ over all weights together.
fn distance(own: &[TensorData], theirs: &[TensorData]) -> f64 {
    let (mut apart, mut size) = (0.0, 0.0);
    for (own, theirs) in own.iter().zip(theirs) {
        for (own, theirs) in own.iter::<f64>().zip(theirs.iter::<f64>()) {
            apart += (theirs - own).powi(2);
            size += own.powi(2);
        }
    }
    (apart / size).sqrt()
}
