//! Vulkan in software with WGSL kernels, whatever else is compiled in.
//!
//! A build with the feature `vulkan` gives SPIR-V to every driver that knows SPIR-V's memory model and addresses. Mesa's
//! software Vulkan knows both, but no explicit layout of shared memory, without which that SPIR-V comes out invalid
//! ([`Details::lacks`](crate::Details)). A driver that is asked for Vulkan 1.0, which has no way to ask for more than that,
//! is taken for one that knows neither, and gets WGSL.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use ash::vk;
use burn::tensor::Device;
use cubecl_wgpu::WgpuSetup;
use cubecl_wgpu::wgpu::hal::{api::Vulkan, vulkan};
use cubecl_wgpu::wgpu::{self, Adapter, Backend, DeviceType, Features, Instance};

use crate::at_once::at_once;

/// The CPU as Vulkan 1.0, the same device for every caller; what its driver says where that fails.
pub(crate) fn device() -> Result<Device, String> {
    // Whoever registers a device twice has two of them.
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    DEVICE.get_or_init(find).clone()
}

fn find() -> Result<Device, String> {
    let instance = instance()?;
    let adapter = at_once(instance.enumerate_adapters(Backend::Vulkan.into()))
        .into_iter()
        .flatten()
        .find(|adapter| adapter.get_info().device_type == DeviceType::Cpu)
        .ok_or("its driver does not list it for Vulkan 1.0")?;
    start(instance, adapter)
}

fn start(instance: Instance, adapter: Adapter) -> Result<Device, String> {
    let (device, queue) = open(&adapter)?;
    let setup = WgpuSetup {
        instance,
        adapter,
        device,
        queue,
        backend: Backend::Vulkan,
    };
    let device = Device::wgpu_options().setup(setup).init();
    device.map_err(|error| error.to_string())
}

/// Vulkan 1.0 without extensions.
fn instance() -> Result<Instance, String> {
    let version = vk::API_VERSION_1_0;
    let application = vk::ApplicationInfo::default().api_version(version);
    let wanted = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: what is loaded is the system's own Vulkan loader, as everywhere in `wgpu`.
    let entry = unsafe { ash::Entry::load() }.map_err(|error| error.to_string())?;
    // SAFETY: the description outlives the call, and asks for no layer or extension that could be missing.
    let raw = unsafe { entry.create_instance(&wanted, None) }.map_err(|error| error.to_string())?;
    // SAFETY: `raw` is of `entry` and of this version, and is destroyed by what takes it here. The extensions that are
    // wished for and not given here are for windows, for messages of validation layers, and for questions about a GPU
    // that Vulkan 1.0 does not have; each is looked for in this list before it is used.
    let instance = unsafe {
        vulkan::Instance::from_raw(
            entry,
            raw,
            version,
            0,
            None,
            Vec::new(),
            wgpu::InstanceFlags::empty(),
            wgpu::MemoryBudgetThresholds::default(),
            false,
            None,
        )
    };
    let instance = instance.map_err(|error| error.to_string())?;
    // SAFETY: it has just been made, and nothing else holds it.
    Ok(unsafe { Instance::from_hal::<Vulkan>(instance) })
}

/// All that the adapter has, since no feature costs anything by being there.
fn open(adapter: &Adapter) -> Result<(wgpu::Device, wgpu::Queue), String> {
    let wanted = wgpu::DeviceDescriptor {
        required_features: adapter.features() - Features::MAPPABLE_PRIMARY_BUFFERS,
        required_limits: adapter.limits(),
        // Tensors come out of larger pieces already.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        // SAFETY: of the experimental features, kernels use none; asking for all that there is needs the permission.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    };
    at_once(adapter.request_device(&wanted))
        .ok_or("its driver does not answer at once")?
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;

    /// The kernels of this device are those of WGSL whether or not the feature `vulkan` is on.
    #[test]
    fn the_cpu_computes_as_vulkan() {
        let Ok(device) = device() else {
            // No software Vulkan is installed; CI installs it.
            return;
        };
        let sum = Tensor::<1>::ones([1000], &device)
            .sum()
            .into_scalar::<f32>();
        assert_eq!(sum, 1000.0);
    }
}
