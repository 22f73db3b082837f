//! Tensors that GPUs exchange by themselves: those of one process, and those of several.
//!
//! **Several processes**, a GPU each, have a [`GpuTransport`], which is NVIDIA's NCCL; see `cube/nccl.rs`.
//!
//! **GPUs of one process** sum by [`sum_over`].
//! burn hands `all_reduce` on to CubeCL, which has it for CUDA alone, by NVIDIA's NCCL, a library that is loaded when
//! the first GPU is opened. What is relied on, as read in burn 0.22.1 and CubeCL 0.11.3:
//!
//! - Every GPU of the list must call [`sum_over`] with the same list and a tensor of the same length, in the same
//!   order of calls; a GPU that does not call leaves the others waiting for ever. A GPU's place among them follows
//!   from the numbers of the GPUs, not from the order of the list.
//! - The calls must come from one thread for each GPU. Joining the group, at the first call, blocks a GPU's queue
//!   until all have joined; and with fused operations the calling thread waits for that queue (`sync_collective` of
//!   burn-fusion), so that one thread calling for two GPUs in turn would wait for ever.
//! - From before the first GPU's call until the last GPU has begun, no GPU should be given anything else to do:
//!   the driver may let fetching or giving back memory, or loading a kernel, wait for a sum that is under way, which
//!   waits for the others. Whoever calls this synchronises all GPUs before and after.
//! - Those threads should stay the same: tensors belong to the stream of the thread that made them, CubeCL has a pool
//!   of memory for each of up to 128 streams, and a thread that is gone leaves its pool behind.
//! - The sum runs on a stream of its own, which first waits for what the calling thread has submitted; `resolve` makes
//!   the calling thread's stream wait for the sum. The host does not wait.
//! - A tensor of one axis is contiguous (CubeCL pads rows of tensors with more), so it is summed in place, and as many
//!   numbers as it has: memory is reserved by the number of bytes asked for, which is what NCCL is told.
//! - NCCL computes each number of a sum once and sends it to all, so all GPUs have the same bits.
//! - What fails on a GPU (no such element type, NCCL refusing) marks the result as failed, and reading it back is an
//!   error. Nothing has to be started or closed: burn's `DistributedContext` serves gradients that are summed within
//!   the backward pass, which is not done here.

use std::fmt::Debug;
use std::time::Duration;

use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

/// Whether these devices can sum tensors among themselves: different GPUs, of a kind and a build that can. Opens them.
///
/// burn's CPU backend cannot, nor can GPUs that are not NVIDIA's.
pub fn has_collectives(devices: &[Device]) -> bool {
    let different = (1..devices.len()).all(|i| !devices[..i].contains(&devices[i]));
    devices.len() > 1 && different && devices.iter().all(has_transport)
}

#[cfg(feature = "cube")]
fn has_transport(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(gpu) => gpu.client().has_device_transport(),
        // Reached where another backend is compiled in as well.
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

#[cfg(not(feature = "cube"))]
fn has_transport(_: &Device) -> bool {
    false
}

/// The sum of what every one of `devices` calls this with, on the device of `tensor`; see above for how to call it.
///
/// # Shapes   `[values]`, as many on each device, without autodiff; returns the same
/// # Panics   where [`has_collectives`] is false
pub fn sum_over(tensor: Tensor<1>, devices: &[Device]) -> Tensor<1> {
    let devices = devices.iter().map(|device| device.clone().inner());
    all_reduce(tensor, ReduceOperation::Sum, devices.collect()).resolve()
}

/// What keeps the GPUs of several processes from exchanging tensors by NCCL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NcclError {
    /// Only NVIDIA's GPUs have it, in a build for CUDA.
    #[error("the device is not an NVIDIA GPU")]
    NoGpu,
    /// The library is not there, or too old.
    #[error("NVIDIA's NCCL {found}; install libnccl 2.14 or later")]
    Library {
        /// What was found instead.
        found: String,
    },
    /// A call failed.
    #[error("{call}: {problem}")]
    Failed {
        /// Which one.
        call: &'static str,
        /// What the library or the driver said.
        problem: String,
    },
    /// Not all the others made the same call.
    #[error("{call}: no answer from the other GPUs within {} s", .waited.as_secs())]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long this GPU waited.
        waited: Duration,
    },
}

/// This process's GPU among those of all processes, which call the same with as many values each, in the same order.
///
/// A call returns when this GPU has its result. After one that failed, none succeeds.
///
/// # Shapes   of every call: `[values]` of f32 without autodiff
/// # Errors   of every call: [`NcclError::Timeout`] if the others do not come in time, [`NcclError::Failed`]
pub trait GpuTransport: Debug + Send {
    /// Piece i of `send`, of as many equal ones as there are processes, goes to process i; returns this one's piece of
    /// each process's, in their order.
    fn all_to_all(&self, send: Tensor<1>, timeout: Duration) -> Result<Tensor<1>, NcclError>;

    /// Every process's values in their order.
    fn all_gather(&self, own: Tensor<1>, timeout: Duration) -> Result<Tensor<1>, NcclError>;

    /// The sum of every process's values, in whatever order is fastest; the same bits in each.
    fn all_reduce(&self, own: Tensor<1>, timeout: Duration) -> Result<Tensor<1>, NcclError>;
}

/// What tells a GPU that NCCL can join with others from all GPUs of all machines.
///
/// # Errors   [`NcclError::NoGpu`], [`NcclError::Library`], [`NcclError::Failed`] if the driver does not answer
pub fn nccl_gpu(device: &Device) -> Result<[u8; 16], NcclError> {
    #[cfg(feature = "nccl")]
    return crate::cube::nccl::gpu(device);
    #[cfg(not(feature = "nccl"))]
    {
        let _ = device;
        Err(NcclError::NoGpu)
    }
}

/// A new identifier of a group of GPUs: one process mints it, all join under it. Call it after [`nccl_gpu`].
///
/// # Errors   [`NcclError::NoGpu`] in a build without CUDA, [`NcclError::Failed`]
pub fn nccl_id() -> Result<Vec<u8>, NcclError> {
    #[cfg(feature = "nccl")]
    return crate::cube::nccl::mint();
    #[cfg(not(feature = "nccl"))]
    Err(NcclError::NoGpu)
}

/// Joins the group of this identifier as its `rank`-th GPU of `size`. Call it after [`nccl_gpu`].
///
/// # Errors   [`NcclError::Timeout`] if the others do not come in time, [`NcclError::Failed`]
pub fn nccl_join(
    device: &Device,
    id: &[u8],
    (rank, size): (usize, usize),
    timeout: Duration,
) -> Result<Box<dyn GpuTransport>, NcclError> {
    #[cfg(feature = "nccl")]
    {
        let joined = crate::cube::nccl::Communicator::join(device, id, (rank, size), timeout)?;
        Ok(Box::new(joined))
    }
    #[cfg(not(feature = "nccl"))]
    {
        let _ = (device, id, rank, size, timeout);
        Err(NcclError::NoGpu)
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_none() {
        assert!(!has_collectives(&[Device::flex()]));
        assert!(!has_collectives(&[Device::flex(), Device::flex()]));
        assert!(!has_collectives(&[]));
        assert_eq!(nccl_gpu(&Device::flex()), Err(NcclError::NoGpu));
    }
}
