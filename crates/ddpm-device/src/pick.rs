//! From a choice to a device that has answered.

use burn::tensor::{Device, Tensor};

use crate::details::{Details, details};
use crate::present::{cpu_device, present};
use crate::quietly::{one_line, quietly};
use crate::{Choice, DeviceError, Gpu, Unit};

/// A device that has answered, and its name.
#[derive(Clone, Debug)]
pub struct Picked {
    /// The device, without autodiff.
    pub device: Device,
    /// Its name as on the command line: `cpu`, `cuda:0`.
    pub name: String,
    /// The same as a choice, which is never [`Choice::Auto`].
    pub choice: Choice,
}

impl Picked {
    /// Whether it is the CPU, whose memory is the machine's.
    pub fn is_cpu(&self) -> bool {
        self.choice == Choice::Cpu
    }

    /// What its driver says of it now; nothing of the CPU, which is the program's to describe.
    pub fn details(&self) -> Details {
        match self.choice {
            Choice::Gpu(gpu, unit) => details(gpu).get(unit).unwrap_or_default(),
            Choice::Auto | Choice::Cpu | Choice::Own(_) => Details::default(),
        }
    }
}

/// Finds the device and checks that it works, by one small kernel.
///
/// The check fixes the device's default element types to burn's own (32 bit).
///
/// # Errors
/// [`DeviceError`]; a driver or kernel compiler that panics is one as well.
pub fn resolve(choice: Choice) -> Result<Picked, DeviceError> {
    match choice {
        Choice::Auto => first_gpu().map_or_else(|| cpu(choice), Ok),
        Choice::Cpu => cpu(choice),
        Choice::Gpu(gpu, unit) => open_gpu(gpu, unit),
        Choice::Own(gpu) => open_gpu(gpu, Unit::Index(0)),
    }
}

/// As [`resolve`], for one of several processes on a machine, which has number `local_rank` among them: each has a GPU of
/// its own, if any has one.
///
/// # Errors
/// those of [`resolve`]; [`DeviceError::Absent`] if there are fewer GPUs than processes.
pub fn resolve_for_rank(choice: Choice, local_rank: usize) -> Result<Picked, DeviceError> {
    let own = match choice {
        Choice::Own(gpu) => Some(gpu),
        Choice::Auto => {
            let mut kinds = Gpu::ALL.into_iter().filter(|gpu| gpu.compiled());
            kinds.find(|&gpu| present(gpu).units().any(|unit| unit != Unit::Software))
        }
        Choice::Cpu | Choice::Gpu(..) => None,
    };
    match own {
        Some(gpu) => open_gpu(gpu, Unit::Index(local_rank)),
        None if choice == Choice::Auto => cpu(choice),
        None => resolve(choice),
    }
}

/// The first GPU that works, by the order of [`Gpu::ALL`]. One that is there and does not start
/// is told of in the log.
fn first_gpu() -> Option<Picked> {
    let kinds = Gpu::ALL.into_iter().filter(|gpu| gpu.compiled());
    for gpu in kinds {
        for unit in present(gpu).units().filter(|unit| *unit != Unit::Software) {
            match open_gpu(gpu, unit) {
                Ok(picked) => return Some(picked),
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
    None
}

/// The CPU, if it is compiled in.
fn cpu(choice: Choice) -> Result<Picked, DeviceError> {
    let device = cpu_device().ok_or(match choice {
        Choice::Auto => DeviceError::NoneCompiled,
        Choice::Cpu | Choice::Gpu(..) | Choice::Own(_) => DeviceError::NotCompiled {
            device: choice.to_string(),
            feature: "cpu",
        },
    })?;
    Ok(Picked {
        device,
        name: Choice::Cpu.to_string(),
        choice: Choice::Cpu,
    })
}

/// One device of one kind, once it has answered.
fn open_gpu(gpu: Gpu, unit: Unit) -> Result<Picked, DeviceError> {
    let choice = Choice::Gpu(gpu, unit);
    let name = choice.to_string();
    if !gpu.drives(unit) {
        return Err(DeviceError::NotCompiled {
            device: name,
            feature: gpu.name(),
        });
    }
    let present = present(gpu);
    let Some(device) = present.get(unit) else {
        return Err(DeviceError::Absent {
            device: name,
            present: present.describe(gpu),
        });
    };
    if let Some(missing) = details(gpu).get(unit).and_then(|details| details.lacks) {
        return Err(DeviceError::Lacking {
            device: name,
            missing,
        });
    }
    let started = quietly(|| {
        let device = start(device, gpu, unit)?;
        answers(&device).map(|()| device)
    });
    match started {
        Ok(Ok(device)) => Ok(Picked {
            device,
            name,
            choice,
        }),
        Ok(Err(reason)) | Err(reason) => Err(DeviceError::Broken {
            device: name,
            reason,
        }),
    }
}

/// The device itself, or for the CPU the one that gets WGSL where it would get SPIR-V or `gpu` is not compiled in.
fn start(listed: Device, gpu: Gpu, unit: Unit) -> Result<Device, String> {
    #[cfg(feature = "wgpu")]
    if unit == Unit::Software && (cfg!(feature = "vulkan") || !gpu.compiled()) {
        return crate::software::device();
    }
    // Without the feature there is nothing to choose.
    let _ = (gpu, unit);
    Ok(listed)
}

/// Runs one small kernel: a driver, or a run-time compiler, that is missing shows here.
fn answers(device: &Device) -> Result<(), String> {
    // Not `sum`, which adds by atomics where there are any: a fault of some drivers, not of the device.
    let sum = Tensor::<1>::ones([2], device)
        .sum_dim(0)
        .into_data()
        .try_into_vec_as::<f32>()
        .map_err(|error| one_line(&error.to_string()))?;
    if sum == [2.0] {
        Ok(())
    } else {
        Err(format!("it says that 1 + 1 is {sum:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "cpu")]
    fn the_cpu_is_always_there() {
        let picked = resolve(Choice::Cpu).unwrap();
        assert_eq!(picked.name, "cpu");
        assert_eq!(picked.device, Device::flex());
        answers(&picked.device).unwrap();
        // Whatever else there is, `auto` finds something that works.
        answers(&resolve(Choice::Auto).unwrap().device).unwrap();
    }

    #[test]
    fn a_kind_that_is_not_compiled_in_is_named_with_its_feature() {
        for gpu in Gpu::ALL.into_iter().filter(|gpu| !gpu.compiled()) {
            let error = resolve(Choice::Gpu(gpu, Unit::Index(0))).unwrap_err();
            let name = gpu.name();
            assert_eq!(
                error.to_string(),
                format!(
                    "device {name}:0: this ddpm was built without the feature `{name}`; build it with cargo build --release -p ddpm-cli --features {name}"
                )
            );
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_no_panic() {
        for gpu in Gpu::ALL.into_iter().filter(|gpu| gpu.compiled()) {
            let error = resolve(Choice::Gpu(gpu, Unit::Index(999))).unwrap_err();
            assert!(matches!(error, DeviceError::Absent { .. }), "{error}");
        }
    }
}
