//! `--device`: which of the devices that are compiled in and really there does the work.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::str::FromStr;

use burn::tensor::{Device, Tensor};

use crate::exit::{UsageError, one_line};

/// A kind of accelerator, named as on the command line and as its cargo feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// NVIDIA's CUDA.
    Cuda,
    /// Apple's Metal.
    Metal,
    /// AMD's ROCm.
    Rocm,
    /// Vulkan, with SPIR-V kernels.
    Vulkan,
    /// Whichever graphics interface the machine has, with WGSL kernels.
    Wgpu,
}

impl Gpu {
    /// Every kind, in the order in which `auto` prefers them.
    const ALL: [Self; 5] = [
        Self::Cuda,
        Self::Metal,
        Self::Rocm,
        Self::Vulkan,
        Self::Wgpu,
    ];

    /// The name, which is also that of the cargo feature that compiles the kind in.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Rocm => "rocm",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    /// Whether this binary can drive the kind at all.
    pub fn compiled(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }

    /// Whether a processor can pose as a device of this kind, as Mesa's lavapipe does.
    fn in_software(self) -> bool {
        matches!(self, Self::Vulkan | Self::Wgpu)
    }
}

/// Which device of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The n-th card, counted from 0.
    Card(usize),
    /// The processor posing as a card.
    Software,
}

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first card that is compiled in and there, or else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// One device of one kind.
    Gpu(Gpu, Unit),
}

impl FromStr for Choice {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let refuse = || {
            UsageError(format!(
                "`{text}` is no device; write auto, cpu, cuda:0, metal:0, rocm:0, vulkan:0, wgpu:0 or vulkan:cpu"
            ))
        };
        let (kind, unit) = match text.split_once(':') {
            None => (text, None),
            Some((kind, unit)) => (kind, Some(unit)),
        };
        match (kind, unit) {
            ("auto", None) => return Ok(Self::Auto),
            ("cpu", None) => return Ok(Self::Cpu),
            _ => {}
        }
        let gpu = Gpu::ALL
            .into_iter()
            .find(|gpu| gpu.name() == kind)
            .ok_or_else(refuse)?;
        let unit = match unit {
            None => Unit::Card(0),
            Some("cpu") if gpu.in_software() => Unit::Software,
            Some(index) => Unit::Card(index.parse().map_err(|_| refuse())?),
        };
        Ok(Self::Gpu(gpu, unit))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(gpu, Unit::Card(index)) => write!(f, "{}:{index}", gpu.name()),
            Self::Gpu(gpu, Unit::Software) => write!(f, "{}:cpu", gpu.name()),
        }
    }
}

/// Why the device that was asked for does no work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The cargo feature was off when this binary was built.
    #[error(
        "--device {device}: this ddpm was built without the feature `{feature}`; build it with cargo build --release -p ddpm-cli --features {feature}"
    )]
    NotCompiled {
        /// The device, as on the command line.
        device: String,
        /// The cargo feature that would compile it in.
        feature: &'static str,
    },
    /// The machine has no such device.
    #[error(
        "--device {device}: this machine has {present}; pick another device or check its driver"
    )]
    Absent {
        /// The device, as on the command line.
        device: String,
        /// What there is of its kind.
        present: String,
    },
    /// The device is listed but cannot be used.
    #[error("--device {device}: the device does not start: {reason}")]
    Broken {
        /// The device, as on the command line.
        device: String,
        /// What its driver or compiler says.
        reason: String,
    },
    /// `auto` found nothing, since not even the processor is compiled in.
    #[error(
        "--device auto: no device that this ddpm was built for is here; build it with cargo build --release -p ddpm-cli --features cpu"
    )]
    NoneCompiled,
}

/// A device that has answered, and its name.
#[derive(Clone, Debug)]
pub struct Picked {
    /// The device, without autodiff.
    pub device: Device,
    /// Its name as on the command line: `cpu`, `cuda:0`.
    pub name: String,
}

impl Picked {
    /// Whether it is the processor, whose memory is the machine's.
    pub fn is_processor(&self) -> bool {
        self.name == Choice::Cpu.to_string()
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
        Choice::Auto => first_card().map_or_else(|| cpu(choice), Ok),
        Choice::Cpu => cpu(choice),
        Choice::Gpu(gpu, unit) => card(gpu, unit),
    }
}

/// One kind of device: whether it is compiled in, and the names of those that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The cargo feature.
    pub feature: &'static str,
    /// Whether the feature was on.
    pub compiled: bool,
    /// What `--device` may be; empty where nothing is there or compiled in.
    pub devices: Vec<String>,
}

/// Every kind of device, the processor first. Asks the drivers but opens no device.
pub fn list() -> Vec<Listing> {
    let processor = Listing {
        feature: "cpu",
        compiled: processor().is_some(),
        devices: processor()
            .map(|_| Choice::Cpu.to_string())
            .into_iter()
            .collect(),
    };
    let cards = Gpu::ALL.into_iter().map(|gpu| Listing {
        feature: gpu.name(),
        compiled: gpu.compiled(),
        devices: present(gpu)
            .units()
            .map(|unit| Choice::Gpu(gpu, unit).to_string())
            .collect(),
    });
    std::iter::once(processor).chain(cards).collect()
}

/// The first card that works, by the order of [`Gpu::ALL`]. One that is there and does not start
/// is told of in the log.
fn first_card() -> Option<Picked> {
    let kinds = Gpu::ALL.into_iter().filter(|gpu| gpu.compiled());
    for gpu in kinds {
        for unit in present(gpu).units().filter(|unit| *unit != Unit::Software) {
            match card(gpu, unit) {
                Ok(picked) => return Some(picked),
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
    None
}

/// The processor, if it is compiled in.
fn cpu(choice: Choice) -> Result<Picked, DeviceError> {
    let device = processor().ok_or(match choice {
        Choice::Auto => DeviceError::NoneCompiled,
        Choice::Cpu | Choice::Gpu(..) => DeviceError::NotCompiled {
            device: choice.to_string(),
            feature: "cpu",
        },
    })?;
    Ok(Picked {
        device,
        name: Choice::Cpu.to_string(),
    })
}

/// One device of one kind, once it has answered.
fn card(gpu: Gpu, unit: Unit) -> Result<Picked, DeviceError> {
    let name = Choice::Gpu(gpu, unit).to_string();
    if !gpu.compiled() {
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
    match quietly(|| answers(&device)) {
        Ok(Ok(())) => Ok(Picked { device, name }),
        Ok(Err(reason)) | Err(reason) => Err(DeviceError::Broken {
            device: name,
            reason,
        }),
    }
}

/// Runs one small kernel: a driver, or a run-time compiler, that is missing shows here.
fn answers(device: &Device) -> Result<(), String> {
    let sum = Tensor::<1>::ones([2], device)
        .sum()
        .into_data()
        .try_into_vec_as::<f32>()
        .map_err(|error| one_line(&error.to_string()))?;
    if sum == [2.0] {
        Ok(())
    } else {
        Err(format!("it says that 1 + 1 is {sum:?}"))
    }
}

/// The devices of one kind that this machine has.
#[derive(Default)]
struct Present {
    cards: Vec<Device>,
    software: Option<Device>,
}

impl Present {
    fn get(&self, unit: Unit) -> Option<Device> {
        match unit {
            Unit::Card(index) => self.cards.get(index).cloned(),
            Unit::Software => self.software.clone(),
        }
    }

    fn units(&self) -> impl Iterator<Item = Unit> + use<> {
        let software = self.software.iter().map(|_| Unit::Software);
        (0..self.cards.len())
            .map(Unit::Card)
            .chain(software.collect::<Vec<_>>())
    }

    fn describe(&self, gpu: Gpu) -> String {
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

/// The processor as a device.
fn processor() -> Option<Device> {
    #[cfg(feature = "cpu")]
    let device = Some(Device::flex());
    #[cfg(not(feature = "cpu"))]
    let device = None;
    device
}

/// Asks the driver for the devices of one kind; a driver that panics has none.
fn present(gpu: Gpu) -> Present {
    quietly(|| enumerate(gpu)).unwrap_or_else(|reason| {
        tracing::warn!(
            "{}: the driver does not list its devices: {reason}",
            gpu.name()
        );
        Present::default()
    })
}

fn enumerate(gpu: Gpu) -> Present {
    match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda => counted(burn::tensor::DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        Gpu::Rocm => counted(burn::tensor::DeviceType::Rocm),
        #[cfg(feature = "metal")]
        Gpu::Metal => by_kind(burn::tensor::DeviceType::Metal, Device::metal),
        #[cfg(feature = "vulkan")]
        Gpu::Vulkan => by_kind(burn::tensor::DeviceType::Vulkan, Device::vulkan),
        #[cfg(feature = "wgpu")]
        Gpu::Wgpu => by_kind(burn::tensor::DeviceType::Wgpu, Device::wgpu),
        // Reached by the kinds that are not compiled in.
        #[allow(unreachable_patterns)]
        _ => Present::default(),
    }
}

/// A kind whose driver simply numbers its cards.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn counted(kind: burn::tensor::DeviceType) -> Present {
    Present {
        cards: Device::enumerate(kind).into_vec(),
        software: None,
    }
}

/// A kind whose devices are discrete, integrated or virtual cards, or the processor: cards are
/// counted through, discrete ones first, so that `vulkan:0` is the best there is.
#[cfg(feature = "wgpu")]
fn by_kind(
    kind: burn::tensor::DeviceType,
    device: fn(burn::tensor::DeviceKind) -> Device,
) -> Present {
    use burn::tensor::DeviceKind;

    let mut unnamed = Device::enumerate(kind).into_vec();
    let most = unnamed.len();
    let mut take = |wanted: Device| {
        let at = unnamed.iter().position(|found| *found == wanted)?;
        Some(unnamed.remove(at))
    };
    let software = take(device(DeviceKind::Cpu));
    let mut cards = Vec::new();
    for kind in [
        DeviceKind::DiscreteGpu,
        DeviceKind::IntegratedGpu,
        DeviceKind::VirtualGpu,
    ] {
        cards.extend((0..most).filter_map(|index| take(device(kind(index)))));
    }
    // Drivers that do not say what their card is.
    cards.extend(unnamed);
    Present { cards, software }
}

/// Runs `work` and turns a panic into its message, printing nothing of it.
///
/// The drivers behind burn panic where they find no library or cannot compile a kernel, on
/// threads of their own as well, so the hook is silent for the whole process meanwhile: call this
/// before there are other threads.
fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    outcome.map_err(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        one_line(message.unwrap_or("its driver failed without saying why"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let cases = [
            ("auto", Choice::Auto, "auto"),
            ("cpu", Choice::Cpu, "cpu"),
            ("cuda", Choice::Gpu(Gpu::Cuda, Unit::Card(0)), "cuda:0"),
            ("cuda:3", Choice::Gpu(Gpu::Cuda, Unit::Card(3)), "cuda:3"),
            ("metal:0", Choice::Gpu(Gpu::Metal, Unit::Card(0)), "metal:0"),
            ("rocm:1", Choice::Gpu(Gpu::Rocm, Unit::Card(1)), "rocm:1"),
            ("wgpu:0", Choice::Gpu(Gpu::Wgpu, Unit::Card(0)), "wgpu:0"),
            (
                "vulkan:cpu",
                Choice::Gpu(Gpu::Vulkan, Unit::Software),
                "vulkan:cpu",
            ),
        ];
        for (text, choice, written) in cases {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in [
            "", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:cpu", "cpu:0", "auto:0", "CUDA",
            "cuda:0:1",
        ] {
            let error = text.parse::<Choice>().unwrap_err();
            assert!(
                error.0.starts_with(&format!("`{text}` is no device")),
                "{error}"
            );
        }
    }

    #[test]
    #[cfg(feature = "cpu")]
    fn the_processor_is_always_there() {
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
            let error = resolve(Choice::Gpu(gpu, Unit::Card(0))).unwrap_err();
            let name = gpu.name();
            assert_eq!(
                error.to_string(),
                format!(
                    "--device {name}:0: this ddpm was built without the feature `{name}`; build it with cargo build --release -p ddpm-cli --features {name}"
                )
            );
        }
    }

    #[test]
    fn a_card_that_is_not_there_is_no_panic() {
        for gpu in Gpu::ALL.into_iter().filter(|gpu| gpu.compiled()) {
            let error = resolve(Choice::Gpu(gpu, Unit::Card(999))).unwrap_err();
            assert!(matches!(error, DeviceError::Absent { .. }), "{error}");
        }
        let none = Present::default().describe(Gpu::Cuda);
        assert_eq!(none, "no cuda device");
    }

    #[test]
    fn the_list_names_every_kind_once() {
        let list = list();
        let features: Vec<_> = list.iter().map(|listing| listing.feature).collect();
        assert_eq!(features, ["cpu", "cuda", "metal", "rocm", "vulkan", "wgpu"]);
        for listing in list {
            assert!(
                listing.compiled || listing.devices.is_empty(),
                "{listing:?}"
            );
            for name in &listing.devices {
                assert_eq!(&name.parse::<Choice>().unwrap().to_string(), name);
            }
        }
    }

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(quietly(|| 3), Ok(3));
        assert_eq!(
            quietly(|| -> u8 { panic!("no libcuda:\n  not found") }),
            Err("no libcuda: not found".to_owned())
        );
    }
}
