//! NVIDIA's driver.

use cudarc::driver::{CudaContext, DriverError, result};

use super::Details;
use crate::present::Present;

/// Name and memory of every GPU. What is free is only said to who has a context on the GPU, so that each GPU is
/// opened for a moment.
pub(super) fn details() -> Present<Details> {
    let count = CudaContext::device_count().unwrap_or(0);
    Present {
        gpus: (0..count).map(gpu_at).collect(),
        software: None,
    }
}

fn gpu_at(index: i32) -> Details {
    let memory = memory(index).ok();
    Details {
        name: name(index).ok(),
        total_bytes: memory.map(|(_, total)| total as u64),
        free_bytes: memory.map(|(free, _)| free as u64),
        lacks: None,
    }
}

fn name(index: i32) -> Result<String, DriverError> {
    result::device::get_name(result::device::get(index)?)
}

/// Free and total bytes.
fn memory(index: i32) -> Result<(usize, usize), DriverError> {
    CudaContext::new(index as usize)?.mem_get_info()
}
