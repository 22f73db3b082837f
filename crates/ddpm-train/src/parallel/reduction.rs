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
pub(super) enum Reduction {
    /// On the host, in the order of the ranks: the same bits every time.
    OnHost,
    /// By the devices among themselves: the same bits on every rank.
    OnDevices(Group),
}

/// Devices that add up tensors among themselves.
#[derive(Clone)]
pub(super) struct Group {
    /// All of them, in the order of the ranks.
    devices: Arc<Vec<Device>>,
    /// [`sum_over`], but in tests.
    sum: fn(Tensor<1>, &[Device]) -> Tensor<1>,
}

impl Reduction {
    /// By the devices if they can and pass a test, or else on the host.
    pub(super) fn choose(devices: &[Device], peers: &mut [Peer]) -> Self {
        if !has_collectives(devices) {
            return Self::OnHost;
        }
        // Devices that cannot reach each other may wait for ever: this line says where.
        tracing::info!("{} devices: joining them by NCCL", devices.len());
        Self::among(devices, sum_over, peers)
    }

    /// By the devices if they pass a test.
    pub(super) fn among(
        devices: &[Device],
        sum: fn(Tensor<1>, &[Device]) -> Tensor<1>,
        peers: &mut [Peer],
    ) -> Self {
        let group = Group {
            devices: Arc::new(devices.to_vec()),
            sum,
        };
        match rehearse(&group, peers) {
            Ok(()) => Self::OnDevices(group),
            Err(error) => {
                tracing::warn!(
                    "the devices cannot add up gradients among themselves ({error}); the host does it, which is slower"
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
            Self::OnDevices(group) => sum_on_devices(own, group, peers),
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
fn sum_on_devices(
    own: &mut ParamGrads,
    group: &Group,
    peers: &mut [Peer],
) -> Result<(), TrainError> {
    let answers: Vec<_> = peers
        .iter_mut()
        .map(|peer| {
            peer.ask(|seat| {
                let grads = seat.grads.as_ref().ok_or_else(no_state)?;
                seat.flat = Some(ready(grads.flattened().ok_or_else(no_state)?)?);
                Ok(())
            })
        })
        .collect();
    let flat = own.flattened().ok_or_else(no_state).and_then(ready);
    all(answers)?;
    let sum = meet(flat?, group, peers)?;
    for peer in peers {
        peer.tell(|seat| {
            if let (Some(grads), Some(sum)) = (&mut seat.grads, seat.flat.take()) {
                grads.replace(&sum);
            }
        });
    }
    own.replace(&sum);
    Ok(())
}

/// The sum of `own` and the peers' flat tensors, on every rank; all are to be [`ready`].
///
/// What a device is given to do besides, before all others have begun with the sum, may keep them from beginning:
/// fetching and giving back memory can wait for a sum that is under way. So nothing else is done before all are
/// through.
fn meet(own: Tensor<1>, group: &Group, peers: &mut [Peer]) -> Result<Tensor<1>, TrainError> {
    let answers: Vec<_> = peers
        .iter_mut()
        .map(|peer| {
            let group = group.clone();
            peer.ask(move |seat| {
                let flat = seat.flat.take().ok_or_else(no_state)?;
                seat.flat = Some(ready((group.sum)(flat, &group.devices))?);
                Ok(())
            })
        })
        .collect();
    let sum = ready((group.sum)(own, &group.devices));
    all(answers)?;
    sum
}

/// Waits until a tensor is computed.
fn ready(tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
    let done = tensor.device().sync();
    done.map_err(|error| TrainError::Device {
        message: error.to_string(),
    })?;
    Ok(tensor)
}

/// Waits for all answers, then returns the first error.
fn all(answers: Vec<Answer<Result<(), TrainError>>>) -> Result<(), TrainError> {
    let answers: Vec<_> = answers.into_iter().map(Answer::wait).collect();
    answers.into_iter().collect()
}

/// Adds up numbers whose sum is known: rank r gives r + 1, many times.
fn rehearse(group: &Group, peers: &mut [Peer]) -> Result<(), TrainError> {
    const LENGTH: usize = 1000;
    let number = |rank: usize, device: &Device| {
        ready(Tensor::full(
            [LENGTH],
            (rank + 1) as f32,
            &device.clone().inner(),
        ))
    };
    let devices = &group.devices;
    let answers: Vec<_> = (1..)
        .zip(peers.iter_mut())
        .map(|(rank, peer)| {
            peer.ask(move |seat| {
                seat.flat = Some(number(rank, &seat.device)?);
                Ok(())
            })
        })
        .collect();
    let own = number(0, &devices[0]);
    all(answers)?;
    let sum = meet(own?, group, peers)?;
    let expected = (devices.len() * (devices.len() + 1) / 2) as f32;
    let check = move |sum: Tensor<1>| match read(sum)?.iter().all(|&found| found == expected) {
        true => Ok(()),
        false => Err(TrainError::Device {
            message: "its sum with the others is wrong".to_owned(),
        }),
    };
    let answers = peers
        .iter_mut()
        .map(|peer| peer.ask(move |seat| check(seat.flat.take().ok_or_else(no_state)?)));
    all(answers.collect())?;
    check(sum)
}
