//! Sums that the ranks' GPUs make among themselves.

use burn::tensor::{Device, Tensor};

use super::gradients::Reduction;
use super::on_devices::ThreadGpus;
use super::on_processes::ProcessGpus;
use super::{Collective, agree};
use crate::error::TrainError;
use crate::step::{device_failed, read};

/// The GPUs of all ranks.
#[derive(Debug)]
pub(crate) enum GpuSum {
    /// Of threads of this process, which sum in no order of ours.
    Threads(ThreadGpus),
    /// One of each process, which sum in any order.
    Processes(ProcessGpus),
}

impl GpuSum {
    /// None if the ranks' devices do not sum in this order among themselves. They add up numbers to see whether they do.
    ///
    /// # Errors   if their sum is wrong on any rank, [`TrainError::Ranks`]
    pub(crate) fn of(
        ranks: &mut dyn Collective,
        device: &Device,
        reduction: Reduction,
    ) -> Result<Option<Self>, TrainError> {
        if ranks.size() == 1 {
            return Ok(None);
        }
        let Some(devices) = ranks.devices() else {
            return Ok(ProcessGpus::join(ranks, device)?.map(Self::Processes));
        };
        let threads = match reduction {
            Reduction::Fast => ThreadGpus::of(devices).map(Self::Threads),
            Reduction::Tree => None,
        };
        if let Some(gpus) = &threads {
            if ranks.is_first() {
                // GPUs that cannot reach each other may wait for ever: this line says where.
                tracing::info!("{} devices: joining them by NCCL", ranks.size());
            }
            gpus.rehearse(ranks, device)?;
        }
        Ok(threads)
    }

    /// The sum of every rank's tensors, on every rank: one of each in [`Reduction::Fast`], else one for each of its
    /// subtrees.
    ///
    /// # Shapes   `own`: `[values]` each, as many on each rank; returns the same
    /// # Errors   [`TrainError::Device`] on all ranks if one of them fails
    pub(crate) fn sum(
        &self,
        ranks: &mut dyn Collective,
        reduction: Reduction,
        micro_batches: usize,
        own: Vec<Tensor<1>>,
    ) -> Result<Tensor<1>, TrainError> {
        match self {
            Self::Threads(gpus) => match own.into_iter().reduce(|a, b| a + b) {
                Some(own) => gpus.sum(ranks, own),
                None => unreachable!("every rank has a subtree"),
            },
            Self::Processes(gpus) => gpus.sum(ranks, reduction, micro_batches, &own),
        }
    }

    /// Adds up numbers whose sum is known: rank r gives r + 1, many times, in either order that these GPUs can.
    ///
    /// # Errors   if the sum is wrong on any rank
    pub(crate) fn rehearse(
        &self,
        ranks: &mut dyn Collective,
        device: &Device,
    ) -> Result<(), TrainError> {
        const LENGTH: usize = 1000;
        let (rank, size) = (ranks.rank(), ranks.size());
        let orders = match self {
            Self::Threads(_) => &[Reduction::Fast][..],
            Self::Processes(_) => &[Reduction::Fast, Reduction::Tree],
        };
        for &order in orders {
            let own = Tensor::full([LENGTH], (rank + 1) as f32, device);
            let sum = self.sum(ranks, order, size, vec![own])?;
            let expected = (size * (size + 1) / 2) as f32;
            let right =
                read(sum).and_then(|sum| match sum.iter().all(|&found| found == expected) {
                    true => Ok(()),
                    false => Err(device_failed("its sum with the others is wrong".to_owned())),
                });
            agree(ranks, right)?;
        }
        Ok(())
    }
}

/// Waits until everything is computed of which tensors are made.
pub(super) fn ready<T>(tensors: T, device: &Device) -> Result<T, TrainError> {
    let done = device.sync();
    done.map_err(|error| device_failed(error.to_string()))?;
    Ok(tensors)
}
