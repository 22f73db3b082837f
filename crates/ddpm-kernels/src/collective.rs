//! Sums over the GPUs of one machine, by the GPUs themselves.
//!
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

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_none() {
        assert!(!has_collectives(&[Device::flex()]));
        assert!(!has_collectives(&[Device::flex(), Device::flex()]));
        assert!(!has_collectives(&[]));
    }
}
