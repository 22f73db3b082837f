//! The devices that the drivers of this machine list.

use burn::tensor::Device;

use crate::quietly::{DRIVERS_S, in_time};
use crate::{Choice, Gpu, Unit};

/// What there is of one kind on this machine: devices, or something about each.
pub(crate) struct Present<T> {
    /// GPUs, the best first.
    pub(crate) gpus: Vec<T>,
    /// The CPU posing as a GPU.
    pub(crate) software: Option<T>,
}

impl<T> Default for Present<T> {
    fn default() -> Self {
        Self {
            gpus: Vec::new(),
            software: None,
        }
    }
}

impl<T: Clone> Present<T> {
    /// The one that is asked for.
    pub(crate) fn get(&self, unit: Unit) -> Option<T> {
        match unit {
            Unit::Index(index) => self.gpus.get(index).cloned(),
            Unit::Software => self.software.clone(),
        }
    }

    /// What can be asked for, GPUs first.
    pub(crate) fn units(&self) -> impl Iterator<Item = Unit> + use<T> {
        let software = self.software.iter().map(|_| Unit::Software);
        (0..self.gpus.len())
            .map(Unit::Index)
            .chain(software.collect::<Vec<_>>())
    }

    /// What there is instead of a device that is not there.
    pub(crate) fn describe(&self, gpu: Gpu) -> String {
        let names: Vec<String> = self
            .units()
            .map(|unit| Choice::Gpu(gpu, unit).to_string())
            .collect();
        if names.is_empty() {
            format!("no {} device", gpu.name())
        } else {
            format!("only {}", names.join(", "))
        }
    }
}

/// The CPU as a device.
pub(crate) fn cpu_device() -> Option<Device> {
    #[cfg(feature = "cpu")]
    let device = Some(Device::flex());
    #[cfg(not(feature = "cpu"))]
    let device = None;
    device
}

/// Asks the driver for the devices of one kind; a driver that panics or hangs has none.
pub(crate) fn present(gpu: Gpu) -> Present<Device> {
    ddpm_kernels::tuning::keep_compiled_kernels();
    in_time(DRIVERS_S, move || enumerate(gpu)).unwrap_or_else(|reason| {
        tracing::warn!(
            "{}: the driver does not list its devices: {reason}",
            gpu.name()
        );
        Present::default()
    })
}

fn enumerate(gpu: Gpu) -> Present<Device> {
    match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda => counted(burn::tensor::DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        Gpu::Rocm => counted(burn::tensor::DeviceType::Rocm),
        #[cfg(feature = "metal")]
        Gpu::Metal => by_kind(burn::tensor::DeviceType::Metal, Device::metal),
        #[cfg(feature = "vulkan")]
        Gpu::Vulkan => by_kind(burn::tensor::DeviceType::Vulkan, Device::vulkan),
        #[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
        Gpu::Vulkan => Present {
            gpus: Vec::new(),
            ..by_kind(burn::tensor::DeviceType::Wgpu, Device::wgpu)
        },
        #[cfg(feature = "wgpu")]
        Gpu::Wgpu => by_kind(burn::tensor::DeviceType::Wgpu, Device::wgpu),
        // Reached by the kinds that are not compiled in.
        #[allow(unreachable_patterns)]
        _ => Present::default(),
    }
}

/// A kind whose driver simply numbers its GPUs.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn counted(kind: burn::tensor::DeviceType) -> Present<Device> {
    Present {
        gpus: Device::enumerate(kind).into_vec(),
        software: None,
    }
}

/// A kind whose devices are discrete, integrated or virtual GPUs, or the CPU: GPUs are
/// counted through, discrete ones first, so that `vulkan:0` is the best there is.
#[cfg(feature = "wgpu")]
fn by_kind(
    kind: burn::tensor::DeviceType,
    device: fn(burn::tensor::DeviceKind) -> Device,
) -> Present<Device> {
    use burn::tensor::DeviceKind;

    let mut unnamed = Device::enumerate(kind).into_vec();
    let most = unnamed.len();
    let mut take = |wanted: Device| {
        let at = unnamed.iter().position(|found| *found == wanted)?;
        Some(unnamed.remove(at))
    };
    let software = take(device(DeviceKind::Cpu));
    // A second software driver has the name of the first.
    while take(device(DeviceKind::Cpu)).is_some() {}
    let mut gpus = Vec::new();
    for kind in [
        DeviceKind::DiscreteGpu,
        DeviceKind::IntegratedGpu,
        DeviceKind::VirtualGpu,
    ] {
        gpus.extend((0..most).filter_map(|index| take(device(kind(index)))));
    }
    // Drivers that do not say what their GPU is.
    gpus.extend(unnamed);
    Present { gpus, software }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let none = Present::<Device>::default().describe(Gpu::Cuda);
        assert_eq!(none, "no cuda device");
    }
}
