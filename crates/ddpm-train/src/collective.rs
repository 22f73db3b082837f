//! What the ranks of a run do together.
//!
//! A rank is one device's copy of the training state, in a thread ([`threads`]) or a process (`mpi`). Every rank runs the
//! same loop; where it needs the others it calls its [`Collective`]. All of them must make the same calls in the same
//! order, since a rank that does not come leaves the others waiting. So an error of one rank is never returned before
//! the others know of it: it travels with a step's gradients ([`gradients`]) or through [`agree`] and [`on_first`].

pub(crate) mod gpus;
pub(crate) mod gradients;
#[cfg(feature = "mpi")]
pub mod mpi;
pub(crate) mod on_devices;
pub(crate) mod on_processes;
pub(crate) mod replicas;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
pub(crate) mod tree;

use std::fmt::Debug;
use std::time::Duration;

use burn::tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Fault, TrainError};

/// All ranks of a run, as one of them sees them.
///
/// # Errors   of every call: [`TrainError::Ranks`] if the others cannot be reached
pub trait Collective: Debug + Send {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Piece i of `send`, of `size` equal ones, goes to rank i; returns this rank's piece of each rank's, in their order.
    fn all_to_all(&mut self, send: Vec<f32>) -> Result<Vec<f32>, TrainError>;

    /// Every rank's numbers, equally many each, in the order of the ranks.
    fn all_gather(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError>;

    /// The sum of every rank's numbers, in whatever order is fastest; the same on all ranks.
    fn all_reduce(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError>;

    /// What rank `root` gives; the others give nothing.
    fn broadcast(&mut self, bytes: Vec<u8>, root: usize) -> Result<Vec<u8>, TrainError>;

    /// Waits until this rank may compute; `exclusive` if no other rank of this process may meanwhile.
    fn begin_turn(&mut self, exclusive: bool) -> Result<(), TrainError>;

    /// Lets the next rank compute.
    fn end_turn(&mut self);

    /// The devices of all ranks, in their order, if they are in this process.
    fn devices(&self) -> Option<&[Device]> {
        None
    }

    /// How long a rank waits for the others' gradients.
    fn timeout(&self) -> Duration {
        Duration::MAX
    }

    /// What a rank does that has waited so long: the error that it ends with, unless it ends the process at once.
    fn give_up(&self) -> TrainError {
        TrainError::Ranks {
            problem: "no answer from the other ranks".to_owned(),
        }
    }

    /// Whether this is rank 0, which alone writes and reports.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }
}

/// A run of one rank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Solo;

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_to_all(&mut self, send: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        Ok(send)
    }

    fn all_gather(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        Ok(own)
    }

    fn all_reduce(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        Ok(own)
    }

    fn broadcast(&mut self, bytes: Vec<u8>, _root: usize) -> Result<Vec<u8>, TrainError> {
        Ok(bytes)
    }

    fn begin_turn(&mut self, _exclusive: bool) -> Result<(), TrainError> {
        Ok(())
    }

    fn end_turn(&mut self) {}
}

/// `own` on every rank, or on every rank the error of the first one that has one.
///
/// # Errors   this rank's own, or [`TrainError::OtherRank`] with the reason of the first that failed
pub(crate) fn agree<T>(
    ranks: &mut dyn Collective,
    own: Result<T, TrainError>,
) -> Result<T, TrainError> {
    let said = own
        .as_ref()
        .err()
        .map(|error| (error.kind(), error.to_string()));
    match first_failure(ranks, said)? {
        Some(error) if !matches!(error, TrainError::OtherRank { rank, .. } if rank == ranks.rank()) => {
            Err(error)
        }
        _ => own,
    }
}

/// The failure of the first rank that has one, as [`TrainError::OtherRank`], on every rank; `own` says what is at fault
/// and why.
///
/// # Errors   [`TrainError::Ranks`]
pub fn first_failure(
    ranks: &mut dyn Collective,
    own: Option<(Fault, String)>,
) -> Result<Option<TrainError>, TrainError> {
    let failed = ranks.all_gather(vec![f32::from(u8::from(own.is_some()))])?;
    match failed.iter().position(|&failed| failed != 0.0) {
        None => Ok(None),
        Some(rank) => reason(ranks, own, rank).map(Some),
    }
}

/// What rank 0 makes of `task`, on every rank; the others wait.
///
/// # Errors   those of `task`, on the others as [`TrainError::OtherRank`]
pub fn on_first<T: Serialize + DeserializeOwned>(
    ranks: &mut dyn Collective,
    task: impl FnOnce() -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    if ranks.size() == 1 {
        return task();
    }
    let own = ranks.is_first().then(task).transpose();
    let bytes = match &own {
        Ok(value) => serde_json::to_vec(value).map_err(|error| TrainError::Ranks {
            problem: format!("what rank 0 has to say has no JSON form: {error}"),
        })?,
        Err(_) => Vec::new(),
    };
    // An error of rank 0 is a message of no bytes, after which comes the reason.
    let bytes = ranks.broadcast(bytes, 0)?;
    match own {
        Ok(Some(value)) => Ok(value),
        Ok(None) if !bytes.is_empty() => read(&bytes),
        own => {
            let error = own.err();
            let said = error
                .as_ref()
                .map(|error| (error.kind(), error.to_string()));
            let reason = reason(ranks, said, 0)?;
            Err(error.unwrap_or(reason))
        }
    }
}

/// Tells all ranks why rank `failed` failed.
fn reason(
    ranks: &mut dyn Collective,
    own: Option<(Fault, String)>,
    failed: usize,
) -> Result<TrainError, TrainError> {
    let said = match own.filter(|_| ranks.rank() == failed) {
        Some(own) => serde_json::to_vec(&own).unwrap_or_default(),
        None => Vec::new(),
    };
    let (kind, message) = read(&ranks.broadcast(said, failed)?)?;
    Ok(TrainError::OtherRank {
        rank: failed,
        kind,
        message,
    })
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TrainError> {
    serde_json::from_slice(bytes).map_err(|error| TrainError::Ranks {
        problem: format!("another rank runs another version of this program ({error})"),
    })
}
