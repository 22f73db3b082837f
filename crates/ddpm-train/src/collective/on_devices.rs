//! Sums that NVIDIA's GPUs of one process make among themselves, by NCCL.

use burn::tensor::{Device, Tensor};
use ddpm_kernels::{has_collectives, sum_over};

use super::gpus::ready;
use super::{Collective, agree};
use crate::error::TrainError;

/// The GPUs, in the order of the ranks.
#[derive(Debug, Clone)]
pub(crate) struct ThreadGpus {
    devices: Vec<Device>,
    /// [`sum_over`], but in tests.
    sum: fn(Tensor<1>, &[Device]) -> Tensor<1>,
}

impl ThreadGpus {
    /// None if these devices have no way to each other.
    pub(crate) fn of(devices: &[Device]) -> Option<Self> {
        has_collectives(devices).then(|| Self::by(devices, sum_over))
    }

    pub(crate) fn by(devices: &[Device], sum: fn(Tensor<1>, &[Device]) -> Tensor<1>) -> Self {
        Self {
            devices: devices.to_vec(),
            sum,
        }
    }

    /// The sum of every rank's tensor, on every rank.
    ///
    /// What a GPU is given to do besides, before all others have begun with the sum, may keep them from beginning:
    /// fetching and giving back memory can wait for a sum that is under way. So nothing else is done before all are
    /// through.
    ///
    /// # Shapes   `own`: `[values]`, as many on each rank; returns the same
    pub(crate) fn sum(
        &self,
        ranks: &mut dyn Collective,
        own: Tensor<1>,
    ) -> Result<Tensor<1>, TrainError> {
        let device = own.device();
        let own = agree(ranks, ready(own, &device))?;
        let sum = ready((self.sum)(own, &self.devices), &device);
        agree(ranks, sum)
    }
}
