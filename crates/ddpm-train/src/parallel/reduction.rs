//! How the ranks' gradients are added up.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ddpm_kernels::{has_collectives, sum_over};

use super::no_state;
use super::peer::{Answer, Peer};
use crate::error::TrainError;
use crate::optim::ParamGrads;
use crate::state::read;

/// How the ranks' gradients are added up.
#[derive(Debug)]
pub(super) enum Reduction {
    /// On the host, in the order of the ranks: the same bits every time.
    OnHost,
    /// By the devices among themselves; these are all of them, in the order of the ranks. The same bits on every rank.
    OnDevices(Arc<Vec<Device>>),
}

impl Reduction {
    /// By the devices if they can and pass a test, or else on the host.
    pub(super) fn choose(devices: &[Device], peers: &mut [Peer]) -> Self {
        if !has_collectives(devices) {
            return Self::OnHost;
        }
        // Devices that cannot reach each other may wait for ever: this line says where.
        tracing::info!("{} devices: joining them by NCCL", devices.len());
        let devices = Arc::new(devices.to_vec());
        match rehearse(&devices, peers) {
            Ok(()) => Self::OnDevices(devices),
            Err(reason) => {
                tracing::warn!(
                    "the devices cannot add up gradients among themselves ({reason}); the host does it, which is slower"
                );
                Self::OnHost
            }
        }
    }

    /// Replaces the gradient of each rank by the sum of all; `own` is that of rank 0.
    ///
    /// # Errors   [`TrainError::Device`] if gradients cannot be read back
    pub(super) fn sum(&self, own: &mut ParamGrads, peers: &mut [Peer]) -> Result<(), TrainError> {
        if peers.is_empty() {
            return Ok(());
        }
        match self {
            Self::OnHost => sum_on_host(own, peers),
            Self::OnDevices(devices) => {
                for peer in peers {
                    let devices = devices.clone();
                    peer.tell(move |seat| {
                        if let Some(grads) = &mut seat.grads {
                            sum_on_devices(grads, &devices);
                        }
                    });
                }
                sum_on_devices(own, devices);
                Ok(())
            }
        }
    }
}

fn sum_on_host(own: &mut ParamGrads, peers: &mut [Peer]) -> Result<(), TrainError> {
    let answers: Vec<_> = peers
        .iter_mut()
        .map(|peer| peer.ask(|seat| seat.grads.as_ref().ok_or_else(no_state)?.to_host()))
        .collect();
    let mut sum = own.to_host()?;
    for answer in answers {
        for (sum, number) in sum.iter_mut().zip(answer.wait()?) {
            *sum += number;
        }
    }
    let sum = Arc::new(sum);
    for peer in peers {
        let sum = sum.clone();
        peer.tell(move |seat| {
            if let Some(grads) = &mut seat.grads {
                grads.replace_from_host(&sum);
            }
        });
    }
    own.replace_from_host(&sum);
    Ok(())
}

/// One call for all gradients together: each call has a cost of its own, whatever its length.
fn sum_on_devices(grads: &mut ParamGrads, devices: &[Device]) {
    if let Some(flattened) = grads.flattened() {
        grads.replace(&sum_over(flattened, devices));
    }
}

/// Adds up numbers whose sum is known.
fn rehearse(devices: &Arc<Vec<Device>>, peers: &mut [Peer]) -> Result<(), String> {
    let answers: Vec<_> = (1..)
        .zip(peers)
        .map(|(rank, peer)| {
            let devices = devices.clone();
            peer.ask(move |_| contribute(rank, &devices))
        })
        .collect();
    let own = contribute(0, devices);
    answers.into_iter().map(Answer::wait).fold(own, Result::and)
}

/// Rank r gives r + 1 many times; the sum of all is known.
fn contribute(rank: usize, devices: &[Device]) -> Result<(), String> {
    let count = devices.len();
    let given = Tensor::<1>::full([1000], (rank + 1) as f32, &devices[rank].clone().inner());
    let sum = read(sum_over(given, devices)).map_err(|error| error.to_string())?;
    let expected = (count * (count + 1) / 2) as f32;
    match sum.iter().all(|&found| found == expected) {
        true => Ok(()),
        false => Err(format!("the sum on device {} is wrong", rank + 1)),
    }
}
