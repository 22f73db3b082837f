//! `--device`: the names of devices.

use std::fmt;
use std::str::FromStr;

use crate::ChoiceError;

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
    pub(crate) const ALL: [Self; 5] = [
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

    /// Whether this binary can drive the unit of the kind: software Vulkan has the kernels of [`Gpu::Wgpu`].
    pub(crate) fn drives(self, unit: Unit) -> bool {
        let stand_in = self == Self::Vulkan && unit == Unit::Software && Self::Wgpu.compiled();
        self.compiled() || stand_in
    }

    /// Whether a CPU can pose as a device of this kind, as Mesa's lavapipe does.
    fn in_software(self) -> bool {
        matches!(self, Self::Vulkan | Self::Wgpu)
    }
}

/// Which device of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The n-th GPU, counted from 0.
    Index(usize),
    /// The CPU posing as a GPU.
    Software,
}

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU that is compiled in and there, or else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// One device of one kind.
    Gpu(Gpu, Unit),
    /// The device of the kind that has the number of this process among those on its machine.
    Own(Gpu),
}

impl FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let refuse = || ChoiceError::NoDevice {
            text: text.to_owned(),
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
            None => Unit::Index(0),
            Some("auto") => return Ok(Self::Own(gpu)),
            Some("cpu") if gpu.in_software() => Unit::Software,
            Some(index) => Unit::Index(index.parse().map_err(|_| refuse())?),
        };
        Ok(Self::Gpu(gpu, unit))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(gpu, Unit::Index(index)) => write!(f, "{}:{index}", gpu.name()),
            Self::Gpu(gpu, Unit::Software) => write!(f, "{}:cpu", gpu.name()),
            Self::Own(gpu) => write!(f, "{}:auto", gpu.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let cases = [
            ("auto", Choice::Auto, "auto"),
            ("cpu", Choice::Cpu, "cpu"),
            ("cuda", Choice::Gpu(Gpu::Cuda, Unit::Index(0)), "cuda:0"),
            ("cuda:3", Choice::Gpu(Gpu::Cuda, Unit::Index(3)), "cuda:3"),
            (
                "metal:0",
                Choice::Gpu(Gpu::Metal, Unit::Index(0)),
                "metal:0",
            ),
            ("rocm:1", Choice::Gpu(Gpu::Rocm, Unit::Index(1)), "rocm:1"),
            ("wgpu:0", Choice::Gpu(Gpu::Wgpu, Unit::Index(0)), "wgpu:0"),
            ("cuda:auto", Choice::Own(Gpu::Cuda), "cuda:auto"),
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
                error
                    .to_string()
                    .starts_with(&format!("`{text}` is no device")),
                "{error}"
            );
        }
    }
}
