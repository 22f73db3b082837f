//! Sums that NVIDIA's GPUs of one process make among themselves, by NCCL.

use burn::tensor::{Device, Tensor};
use ddpm_kernels::{has_collectives, sum_over};

use super::{Collective, agree};
use crate::error::TrainError;
use crate::step::{device_failed, read};

/// The GPUs, in the order of the ranks.
#[derive(Debug, Clone)]
pub(crate) struct GpuSum {
    devices: Vec<Device>,
    /// [`sum_over`], but in tests.
    sum: fn(Tensor<1>, &[Device]) -> Tensor<1>,
}

impl GpuSum {
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
        let own = agree(ranks, ready(own))?;
        let sum = ready((self.sum)(own, &self.devices));
        agree(ranks, sum)
    }

    /// Adds up numbers whose sum is known: rank r gives r + 1, many times.
    ///
    /// # Errors   if the sum is wrong on any rank
    pub(crate) fn rehearse(&self, ranks: &mut dyn Collective) -> Result<(), TrainError> {
        const LENGTH: usize = 1000;
        let (rank, size) = (ranks.rank(), ranks.size());
        if rank == 0 {
            // GPUs that cannot reach each other may wait for ever: this line says where.
            tracing::info!("{size} devices: joining them by NCCL");
        }
        let device = self.devices[rank].clone().inner();
        let sum = self.sum(ranks, Tensor::full([LENGTH], (rank + 1) as f32, &device))?;
        let expected = (size * (size + 1) / 2) as f32;
        let right = read(sum).and_then(|sum| match sum.iter().all(|&found| found == expected) {
            true => Ok(()),
            false => Err(device_failed("its sum with the others is wrong".to_owned())),
        });
        agree(ranks, right)
    }
}

/// Waits until a tensor is computed.
fn ready(tensor: Tensor<1>) -> Result<Tensor<1>, TrainError> {
    let done = tensor.device().sync();
    done.map_err(|error| device_failed(error.to_string()))?;
    Ok(tensor)
}
