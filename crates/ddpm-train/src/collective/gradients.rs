//! A step's gradients, summed over all ranks: the same bits on any number of them.
//!
//! One flat vector a rank and subtree: the gradient of every parameter, the losses, and what a rank has to tell the
//! others. Each rank gets its piece of every rank's vector, adds along the [`tree`], and gives the sum to all: as many
//! bytes as a ring takes.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::gpus::{GpuSum, ready};
use super::{Collective, reason, tree};
use crate::error::TrainError;
use crate::optim::ParamGrads;
use crate::step::read;

/// In what order gradients are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Along a fixed binary tree over the micro-batches: the same bits on any number of ranks.
    #[default]
    Tree,
    /// As the transport likes best: the same bits on all ranks, but other ones on another number of them.
    Fast,
}

/// What a rank computed of a step, still on its device.
#[derive(Debug)]
pub(crate) struct LocalGradients {
    /// The sums over the subtrees of this rank's micro-batches, in their order.
    pub(crate) sums: Vec<ParamGrads>,
    /// For each micro-batch its loss, then the losses of its images: `[micro-batches · (1 + images)]`.
    pub(crate) losses: Tensor<1>,
}

/// What a step's gradients come to over all ranks: the same on each.
#[derive(Debug)]
pub(crate) struct SummedGradients {
    pub(crate) grads: ParamGrads,
    /// As [`LocalGradients::losses`], of all micro-batches.
    pub(crate) losses: Tensor<1>,
    pub(crate) flags: Flags,
}

/// What a rank tells the others with its gradients; after the sum, what any of them told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// The run is asked to end after this step.
    pub(crate) stop: bool,
    /// The next step's passes may be captured, for which a process may do nothing else on its GPUs.
    pub(crate) capture: bool,
}

/// How a step's gradients are summed.
#[derive(Debug)]
pub(crate) struct GradientSum {
    pub(crate) reduction: Reduction,
    pub(crate) micro_batches: usize,
    /// Images of a micro-batch.
    pub(crate) images: usize,
    /// Numbers of each parameter, trained or not.
    pub(crate) parameters: Vec<usize>,
    /// This rank's.
    pub(crate) device: Device,
    /// The ranks' GPUs, if they add up among themselves.
    pub(crate) gpus: Option<GpuSum>,
}

/// Numbers that travel at once: what else is held besides gradients stays small.
const BUCKET: usize = 1 << 22;

impl GradientSum {
    /// Sums `own` over all ranks.
    ///
    /// # Errors   this rank's own, or [`TrainError::OtherRank`] if another has one: then on all ranks
    pub(crate) fn over(
        &self,
        ranks: &mut dyn Collective,
        own: Result<LocalGradients, TrainError>,
        flags: Flags,
    ) -> Result<SummedGradients, TrainError> {
        if ranks.size() == 1 {
            let LocalGradients { mut sums, losses } = own?;
            let Some(grads) = sums.pop() else {
                unreachable!("one rank has the whole tree")
            };
            return Ok(SummedGradients {
                grads,
                losses,
                flags,
            });
        }
        match &self.gpus {
            Some(gpus) => self.on_gpus(ranks, own, flags, gpus),
            None => self.on_host(ranks, own, flags),
        }
    }

    fn on_host(
        &self,
        ranks: &mut dyn Collective,
        own: Result<LocalGradients, TrainError>,
        flags: Flags,
    ) -> Result<SummedGradients, TrainError> {
        // Whatever fails here has to be told to the others, too.
        let own = own.and_then(|own| {
            let sums = own.sums.iter().map(|sum| sum.to_host(&self.parameters));
            let vectors = sums.collect::<Result<Vec<_>, _>>()?;
            Ok((vectors, read(own.losses)?, own.sums))
        });
        let count = self.parameters.iter().sum();
        let (mut vectors, losses, grads, error) = match own {
            Ok((vectors, losses, sums)) => (vectors, losses, sums.into_iter().next(), None),
            Err(error) => (vec![vec![0.0; count]], Vec::new(), None, Some(error)),
        };
        let tail = self.tail(ranks, &losses, error.is_some(), flags);
        for vector in &mut vectors {
            vector.resize(count + tail.len(), 0.0);
        }
        // One rank's number and the others' zeros: adding loses nothing.
        vectors[0][count..].copy_from_slice(&tail);
        let sum = match self.reduction {
            Reduction::Tree => sum_along_tree(ranks, self.micro_batches, vectors)?,
            Reduction::Fast => {
                let add = |mut sum: Vec<f32>, vector: Vec<f32>| {
                    add_to(&mut sum, &vector);
                    sum
                };
                ranks.all_reduce(vectors.into_iter().reduce(add).unwrap_or_default())?
            }
        };
        let (gradients, tail) = sum.split_at(count);
        let (losses, flags) = self.heard(ranks, tail, error)?;
        let Some(mut grads) = grads else {
            unreachable!("a rank without gradients has failed")
        };
        grads.replace_from_host(gradients, &self.parameters);
        Ok(SummedGradients {
            grads,
            losses: Tensor::from_floats(losses, &self.device),
            flags,
        })
    }

    /// The same by the GPUs themselves, after all have said that they come.
    fn on_gpus(
        &self,
        ranks: &mut dyn Collective,
        own: Result<LocalGradients, TrainError>,
        flags: Flags,
        gpus: &GpuSum,
    ) -> Result<SummedGradients, TrainError> {
        let own = own.and_then(|own| {
            let mut sums = own.sums;
            if self.reduction == Reduction::Fast {
                sums = sums
                    .into_iter()
                    .reduce(ParamGrads::plus)
                    .into_iter()
                    .collect();
            }
            let vectors = sums.iter().map(ParamGrads::flattened).collect();
            // What fails on a device shows here at the latest.
            Ok((read(own.losses)?, ready(vectors, &self.device)?, sums))
        });
        let (losses, vectors, grads, error) = match own {
            Ok((losses, vectors, sums)) => (losses, vectors, sums.into_iter().next(), None),
            Err(error) => (Vec::new(), Vec::new(), None, Some(error)),
        };
        let tail = self.tail(ranks, &losses, error.is_some(), flags);
        let tail = ranks.all_reduce(tail)?;
        let (losses, flags) = self.heard(ranks, &tail, error)?;
        let Some(mut grads) = grads else {
            unreachable!("a rank without gradients has failed")
        };
        let sum = gpus.sum(ranks, self.reduction, self.micro_batches, vectors)?;
        grads.replace(&sum);
        Ok(SummedGradients {
            grads,
            losses: Tensor::from_floats(losses, &self.device),
            flags,
        })
    }

    /// What travels with this rank's gradients: its losses in their place among those of all micro-batches, which rank
    /// failed, and the flags.
    fn tail(&self, ranks: &dyn Collective, losses: &[f32], failed: bool, flags: Flags) -> Vec<f32> {
        let (rank, size) = (ranks.rank(), ranks.size());
        let each = 1 + self.images;
        let all = self.micro_batches * each;
        let mut tail = vec![0.0; all + size + 2];
        let first = tree::share(rank, size, self.micro_batches).start * each;
        tail[first..first + losses.len()].copy_from_slice(losses);
        let bit = |bit: bool| f32::from(u8::from(bit));
        tail[all + rank] = bit(failed);
        tail[all + size] = bit(flags.stop);
        tail[all + size + 1] = bit(flags.capture);
        tail
    }

    /// What all ranks have told by the sum of their tails.
    ///
    /// # Errors   that of the first rank that failed
    fn heard<'a>(
        &self,
        ranks: &mut dyn Collective,
        tail: &'a [f32],
        own: Option<TrainError>,
    ) -> Result<(&'a [f32], Flags), TrainError> {
        let (losses, rest) = tail.split_at(self.micro_batches * (1 + self.images));
        let (failed, flags) = rest.split_at(ranks.size());
        if let Some(failed) = failed.iter().position(|&failed| failed != 0.0) {
            let said = own.as_ref().map(|error| (error.kind(), error.to_string()));
            let reason = reason(ranks, said, failed)?;
            return Err(own.filter(|_| ranks.rank() == failed).unwrap_or(reason));
        }
        let flags = Flags {
            stop: flags[0] != 0.0,
            capture: flags[1] != 0.0,
        };
        Ok((losses, flags))
    }
}

/// How long the sum of a step's gradients takes, of a network of so many parameters, once the way is warm.
///
/// # Errors   [`TrainError::Ranks`]
pub fn time_of_sum(
    ranks: &mut dyn Collective,
    reduction: Reduction,
    parameters: usize,
) -> Result<Duration, TrainError> {
    let micro_batches = ranks.size();
    let mut time = Duration::ZERO;
    for _ in 0..2 {
        let own = vec![ranks.rank() as f32; parameters];
        // All begin together.
        ranks.all_gather(vec![0.0])?;
        let start = Instant::now();
        match reduction {
            Reduction::Tree => sum_along_tree(ranks, micro_batches, vec![own])?,
            Reduction::Fast => ranks.all_reduce(own)?,
        };
        time = start.elapsed();
    }
    Ok(time)
}

fn add_to(sum: &mut [f32], other: &[f32]) {
    for (sum, number) in sum.iter_mut().zip(other) {
        *sum += number;
    }
}

/// The sum of all ranks' vectors, of which each rank has one for each of its subtrees.
fn sum_along_tree(
    ranks: &mut dyn Collective,
    micro_batches: usize,
    vectors: Vec<Vec<f32>>,
) -> Result<Vec<f32>, TrainError> {
    let size = ranks.size();
    let nodes = tree::of_ranks(size, micro_batches);
    // Pieces are of one size: a rank with fewer subtrees than another fills up.
    let most = nodes.iter().map(Vec::len).max().unwrap_or(1);
    let len = vectors[0].len();
    let mut sum = Vec::with_capacity(len);
    for start in (0..len).step_by(BUCKET) {
        let bucket = start..len.min(start + BUCKET);
        let piece = bucket.len().div_ceil(size);
        let mut send = Vec::with_capacity(size * most * piece);
        for rank in 0..size {
            for k in 0..most {
                let at = |offset: usize| (bucket.start + offset).min(bucket.end);
                let part = at(rank * piece)..at((rank + 1) * piece);
                let filled = send.len() + piece;
                if let Some(vector) = vectors.get(k) {
                    send.extend_from_slice(&vector[part]);
                }
                send.resize(filled, 0.0);
            }
        }
        let mut received = ranks.all_to_all(send)?;
        let mut pieces = received.chunks_exact_mut(piece.max(1));
        let mut leaves = Vec::new();
        for nodes in &nodes {
            let own: Vec<_> = pieces.by_ref().take(most).collect();
            leaves.extend(nodes.iter().zip(own));
        }
        let total = tree::sum(
            micro_batches,
            leaves,
            &mut |sum: &mut [f32], other: &mut [f32]| {
                add_to(sum, other);
                sum
            },
        );
        let gathered = ranks.all_gather(total.to_vec())?;
        sum.extend_from_slice(&gathered[..bucket.len()]);
    }
    Ok(sum)
}
