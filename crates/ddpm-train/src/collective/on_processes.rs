//! Sums that NVIDIA's GPUs of several processes make among themselves, by NCCL.

use std::time::Duration;

use burn::tensor::{Device, Tensor};
use ddpm_kernels::{GpuTransport, NcclError, nccl_gpu, nccl_id, nccl_join};

use super::gpus::GpuSum;
use super::gradients::Reduction;
use super::{Collective, agree, tree};
use crate::error::TrainError;
use crate::step::device_failed;

/// This process's GPU among those of all ranks.
#[derive(Debug)]
pub(crate) struct ProcessGpus {
    transport: Box<dyn GpuTransport>,
    /// How long this rank waits for the others.
    timeout: Duration,
    /// Numbers that travel at once.
    bucket: usize,
}

/// Larger than those of the host: a GPU sends the faster the more there is, and has more memory than is free elsewhere.
const BUCKET: usize = 1 << 24;

/// How long joining may take, which has another way if it fails.
const JOIN: Duration = Duration::from_secs(120);

impl ProcessGpus {
    pub(crate) fn by(transport: Box<dyn GpuTransport>, timeout: Duration, bucket: usize) -> Self {
        Self {
            transport,
            timeout,
            bucket,
        }
    }

    /// None if the ranks' devices have no way to each other; then rank 0 says why.
    ///
    /// # Errors   [`TrainError::Ranks`]
    pub(crate) fn join(
        ranks: &mut dyn Collective,
        device: &Device,
    ) -> Result<Option<Self>, TrainError> {
        let gpu = nccl_gpu(device);
        // Nobody expects it of other devices.
        let expected = gpu != Err(NcclError::NoGpu);
        let joined = Self::try_join(ranks, device, gpu);
        let first = ranks.is_first();
        match joined {
            Ok(gpus) => {
                if first {
                    tracing::info!("{} ranks: their GPUs sum gradients by NCCL", ranks.size());
                }
                Ok(Some(gpus))
            }
            Err(error @ TrainError::Ranks { .. }) => Err(error),
            Err(error) => {
                match (first, expected) {
                    (true, true) => tracing::warn!(
                        "{error}; gradients are summed by way of the host, which takes longer"
                    ),
                    (true, false) => tracing::debug!("{error}; gradients are summed on the host"),
                    (false, _) => {}
                }
                Ok(None)
            }
        }
    }

    /// # Errors   the same on all ranks: [`TrainError::Gpus`] with the reason, or [`TrainError::OtherRank`]
    pub(crate) fn try_join(
        ranks: &mut dyn Collective,
        device: &Device,
        gpu: Result<[u8; 16], NcclError>,
    ) -> Result<Self, TrainError> {
        let (rank, size) = (ranks.rank(), ranks.size());
        let gpu = agree(ranks, gpu.map_err(refused))?;
        let gpus = ranks.all_gather(gpu.map(f32::from).to_vec())?;
        if let Some([a, b]) = share_a_gpu(&gpus, size) {
            return Err(TrainError::Gpus {
                problem: format!("ranks {a} and {b} have the same GPU"),
            });
        }
        if rank == 0 {
            tracing::info!("{size} ranks: joining their GPUs by NCCL");
        }
        let id = match rank {
            0 => nccl_id(),
            _ => Ok(Vec::new()),
        };
        let id = agree(ranks, id.map_err(refused))?;
        let id = ranks.broadcast(id, 0)?;
        // So long that nobody gives up who waits for what has become of it.
        let limit = JOIN.min(ranks.timeout() / 4);
        let joined = nccl_join(device, &id, (rank, size), limit);
        let transport = agree(ranks, joined.map_err(refused))?;
        let rehearsed = GpuSum::Processes(Self::by(transport, limit, BUCKET));
        rehearsed.rehearse(ranks, device)?;
        let GpuSum::Processes(gpus) = rehearsed else {
            unreachable!("it was made above")
        };
        Ok(Self {
            timeout: ranks.timeout(),
            ..gpus
        })
    }

    /// The sum of every rank's tensors, on every rank: those of its subtrees, whose number may differ, or one of each.
    ///
    /// # Shapes   `own`: `[values]` each, as many on each rank; returns the same
    /// # Errors   [`TrainError::Device`] on all ranks if one of them fails
    pub(crate) fn sum(
        &self,
        ranks: &mut dyn Collective,
        reduction: Reduction,
        micro_batches: usize,
        own: &[Tensor<1>],
    ) -> Result<Tensor<1>, TrainError> {
        let sum = match reduction {
            Reduction::Fast => self.transport.all_reduce(own[0].clone(), self.timeout),
            Reduction::Tree => self.along_tree(ranks.size(), micro_batches, own),
        };
        if let Err(NcclError::Timeout { .. }) = &sum
            && self.timeout == ranks.timeout()
        {
            return Err(ranks.give_up());
        }
        agree(ranks, sum.map_err(|error| device_failed(error.to_string())))
    }

    /// As on the host (`sum_along_tree`), and to the same bits.
    fn along_tree(
        &self,
        size: usize,
        micro_batches: usize,
        own: &[Tensor<1>],
    ) -> Result<Tensor<1>, NcclError> {
        let nodes = tree::of_ranks(size, micro_batches);
        // Pieces are of one size: a rank with fewer subtrees than another fills up.
        let most = nodes.iter().map(Vec::len).max().unwrap_or(1);
        let [length] = own[0].dims();
        let device = own[0].device();
        let mut sums = Vec::new();
        for start in (0..length).step_by(self.bucket) {
            let count = self.bucket.min(length - start);
            let piece = count.div_ceil(size);
            let padding = size * piece - count;
            let bucket = |vector: &Tensor<1>| {
                let numbers = vector.clone().narrow(0, start, count);
                match padding {
                    0 => numbers,
                    _ => Tensor::cat(vec![numbers, Tensor::zeros([padding], &device)], 0),
                }
            };
            let mut buckets: Vec<_> = own.iter().map(bucket).collect();
            buckets.resize_with(most, || Tensor::zeros([size * piece], &device));
            let send = match &buckets[..] {
                [only] => only.clone(),
                buckets => {
                    let pieces = (0..size).flat_map(|rank| {
                        let piece_of = |x: &Tensor<1>| x.clone().narrow(0, rank * piece, piece);
                        buckets.iter().map(piece_of).collect::<Vec<_>>()
                    });
                    Tensor::cat(pieces.collect(), 0)
                }
            };
            let received = self.transport.all_to_all(send, self.timeout)?;
            let mut leaves = Vec::new();
            for (rank, nodes) in nodes.iter().enumerate() {
                for (k, node) in nodes.iter().enumerate() {
                    let first = (rank * most + k) * piece;
                    leaves.push((node, received.clone().narrow(0, first, piece)));
                }
            }
            let total = tree::sum(micro_batches, leaves, &mut |a: Tensor<1>, b| a + b);
            let gathered = self.transport.all_gather(total, self.timeout)?;
            sums.push(gathered.narrow(0, 0, count));
        }
        Ok(Tensor::cat(sums, 0))
    }
}

fn refused(error: NcclError) -> TrainError {
    TrainError::Gpus {
        problem: error.to_string(),
    }
}

/// The first two ranks whose GPUs are one, by the identifiers of all.
fn share_a_gpu(gpus: &[f32], size: usize) -> Option<[usize; 2]> {
    let of = |rank: usize| &gpus[rank * gpus.len() / size..(rank + 1) * gpus.len() / size];
    (0..size).find_map(|b| (0..b).find(|&a| of(a) == of(b)).map(|a| [a, b]))
}
