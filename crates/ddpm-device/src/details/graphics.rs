//! The graphics interfaces: Vulkan, Metal, and those that `wgpu` falls back on.

use cubecl_wgpu::wgpu::{self, Adapter, Backend, DeviceType};
use cubecl_wgpu::{AutoGraphicsApi, GraphicsApi};

use super::{Details, vulkan_memory};
use crate::Gpu;
use crate::at_once::at_once;
use crate::present::Present;

/// Name of every adapter, and its memory where it is Vulkan's, in the order in which devices of the kind are counted:
/// discrete GPUs, then integrated ones, virtual ones, and the rest.
pub(super) fn details(gpu: Gpu) -> Present<Details> {
    let interface = match gpu {
        Gpu::Metal => Backend::Metal,
        Gpu::Vulkan => Backend::Vulkan,
        Gpu::Cuda | Gpu::Rocm | Gpu::Wgpu => AutoGraphicsApi::backend(),
    };
    let (software, mut gpus): (Vec<_>, Vec<_>) = adapters(interface)
        .into_iter()
        .partition(|adapter| adapter.get_info().device_type == DeviceType::Cpu);
    gpus.sort_by_key(|gpu_at| rank(gpu_at.get_info().device_type));
    Present {
        gpus: gpus.iter().map(of).collect(),
        // What its driver lacks it is not asked for: `software.rs`.
        software: software.first().map(of).map(|details| Details {
            lacks: None,
            ..details
        }),
    }
}

fn of(adapter: &Adapter) -> Details {
    let memory = vulkan_memory::of(adapter);
    Details {
        name: Some(adapter.get_info().name),
        total_bytes: memory.map(|memory| memory.total_bytes),
        free_bytes: memory.and_then(|memory| memory.free_bytes),
        lacks: vulkan_memory::lacks(adapter),
    }
}

/// The place of a kind of GPU among the others.
fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other | DeviceType::Cpu => 3,
    }
}

fn adapters(interface: Backend) -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: interface.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    at_once(instance.enumerate_adapters(interface.into())).unwrap_or_default()
}
