//! The memory of a GPU and what its driver has, from Vulkan's own functions, which `wgpu` does not pass on.
#![allow(unsafe_code)]

use ash::ext::memory_budget;
use ash::vk;
use cubecl_wgpu::wgpu::Adapter;
use cubecl_wgpu::wgpu::hal::api::Vulkan;

/// The largest piece of memory that belongs to a GPU; smaller ones are windows onto it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// All of it.
    pub(super) total_bytes: u64,
    /// What this process may still take, where the driver keeps count (VK_EXT_memory_budget).
    pub(super) free_bytes: Option<u64>,
}

/// What a driver lacks for the kernels that a build with the feature `vulkan` makes, which are SPIR-V wherever the
/// driver has their addresses and memory model: shared memory without an explicit layout comes out invalid, and
/// drivers die of it.
pub(super) fn lacks(adapter: &Adapter) -> Option<&'static str> {
    if cfg!(not(feature = "vulkan")) {
        return None;
    }
    // SAFETY: what is behind the guard is read, and neither destroyed nor kept beyond the guard.
    let vulkan = unsafe { adapter.as_hal::<Vulkan>() }?;
    let has = |extension| {
        let capabilities = vulkan.physical_device_capabilities();
        capabilities.supports_extension(extension)
    };
    let spirv =
        has(ash::khr::vulkan_memory_model::NAME) && has(ash::khr::buffer_device_address::NAME);
    (spirv && !has(ash::khr::workgroup_memory_explicit_layout::NAME))
        .then_some("VK_KHR_workgroup_memory_explicit_layout")
}

/// `None` for an adapter of another graphics interface, or without memory of its own.
pub(super) fn of(adapter: &Adapter) -> Option<Memory> {
    // SAFETY: what is behind the guard is read, and neither destroyed nor kept beyond the guard.
    let vulkan = unsafe { adapter.as_hal::<Vulkan>() }?;
    let (shared, device) = (vulkan.shared_instance(), vulkan.raw_physical_device());
    let instance = shared.raw_instance();
    let new_enough = shared.instance_api_version() >= vk::API_VERSION_1_1;
    let counts = new_enough
        && vulkan
            .physical_device_capabilities()
            .supports_extension(memory_budget::NAME);
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let memory = if counts {
        let mut answer = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
        // SAFETY: instance and device live as long as the guard; the function is part of Vulkan 1.1, which the
        // instance has, and the device knows the extension whose structure hangs on the answer.
        unsafe { instance.get_physical_device_memory_properties2(device, &mut answer) };
        answer.memory_properties
    } else {
        // SAFETY: instance and device live as long as the guard; every Vulkan has this function.
        unsafe { instance.get_physical_device_memory_properties(device) }
    };
    let (index, heap) = memory
        .memory_heaps_as_slice()
        .iter()
        .enumerate()
        .filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL))
        .max_by_key(|(_, heap)| heap.size)?;
    let free_bytes = budget.heap_budget[index].saturating_sub(budget.heap_usage[index]);
    Some(Memory {
        total_bytes: heap.size,
        free_bytes: counts.then_some(free_bytes.min(heap.size)),
    })
}
