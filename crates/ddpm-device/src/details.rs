//! What the drivers say of their devices: names and memory.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "wgpu")]
mod graphics;
#[cfg(feature = "wgpu")]
mod vulkan_memory;

use crate::Gpu;
use crate::present::Present;
use crate::quietly::{DRIVERS_S, in_time};

/// What is known of a device; `None` where its driver does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The name that its maker gave it.
    pub name: Option<String>,
    /// All of its memory.
    pub total_bytes: Option<u64>,
    /// What no program has taken.
    pub free_bytes: Option<u64>,
    /// What its driver lacks without which kernels would end the process.
    pub lacks: Option<&'static str>,
}

/// Asks the driver for the details of every device of one kind, in the order in which they are counted; nothing is
/// known from a driver that panics or hangs.
pub(crate) fn details(gpu: Gpu) -> Present<Details> {
    in_time(DRIVERS_S, move || ask(gpu)).unwrap_or_else(|reason| {
        tracing::warn!(
            "{}: the driver does not describe its devices: {reason}",
            gpu.name()
        );
        Present::default()
    })
}

fn ask(gpu: Gpu) -> Present<Details> {
    match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda => cuda::details(),
        #[cfg(feature = "rocm")]
        Gpu::Rocm => names(burn::tensor::DeviceType::Rocm),
        #[cfg(feature = "wgpu")]
        Gpu::Metal | Gpu::Vulkan | Gpu::Wgpu => graphics::details(gpu),
        // Reached by the kinds that are not compiled in.
        #[allow(unreachable_patterns)]
        _ => Present::default(),
    }
}

/// A kind of which burn knows the names alone.
#[cfg(feature = "rocm")]
fn names(kind: burn::tensor::DeviceType) -> Present<Details> {
    let devices = burn::tensor::Device::enumerate(kind).into_vec();
    let gpus = devices.iter().map(|device| Details {
        name: device.identity().map(|identity| identity.name),
        ..Details::default()
    });
    Present {
        gpus: gpus.collect(),
        software: None,
    }
}
