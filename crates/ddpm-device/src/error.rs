//! Why there is no such device.

/// What is written for a device, or for several, means none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// No device is called that.
    #[error(
        "`{text}` is no device; write auto, cpu, cuda:0, metal:0, rocm:0, vulkan:0, wgpu:0 or vulkan:cpu"
    )]
    NoDevice {
        /// What was written.
        text: String,
    },
    /// `auto` is one device, and which one is not known yet.
    #[error("`auto` cannot be one of several devices; name each, as in cuda:0,cuda:1")]
    Auto,
    /// The same device twice.
    #[error(
        "`{device}` is named twice; name each device once, or write cpu:2 for two shares of the CPU"
    )]
    Twice {
        /// The device.
        device: String,
    },
    /// Devices that cannot work on one step together.
    #[error(
        "{first} and {other} are of different kinds; name devices of one kind, as in cuda:0,cuda:1"
    )]
    Mixed {
        /// The first device of the list.
        first: String,
        /// The first that differs from it in kind.
        other: String,
    },
    /// A number of shares of the CPU that makes no sense.
    #[error("`{text}` is no number of shares of the CPU; write cpu:1 to cpu:{most}")]
    Shares {
        /// What was written.
        text: String,
        /// The most that there may be.
        most: usize,
    },
}

/// Why the device that was asked for does no work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The cargo feature was off when this binary was built.
    #[error(
        "device {device}: this ddpm was built without the feature `{feature}`; build it with cargo build --release -p ddpm-cli --features {feature}"
    )]
    NotCompiled {
        /// The device, as `--device` and `--devices` name it.
        device: String,
        /// The cargo feature that would compile it in.
        feature: &'static str,
    },
    /// The machine has no such device.
    #[error("device {device}: this machine has {present}; pick another device or check its driver")]
    Absent {
        /// The device, as `--device` and `--devices` name it.
        device: String,
        /// What there is of its kind.
        present: String,
    },
    /// The driver is too old for what a build with the feature `vulkan` gives it.
    #[error(
        "device {device}: its driver has no {missing}, which the kernels of a build with the feature `vulkan` need; take a newer driver, or build with --features wgpu and use wgpu:0"
    )]
    Lacking {
        /// The device, as `--device` and `--devices` name it.
        device: String,
        /// The extension of Vulkan.
        missing: &'static str,
    },
    /// The device is listed but cannot be used.
    #[error("device {device}: the device does not start: {reason}")]
    Broken {
        /// The device, as `--device` and `--devices` name it.
        device: String,
        /// What its driver or compiler says.
        reason: String,
    },
    /// `auto` found nothing, since not even the CPU is compiled in.
    #[error(
        "device auto: no device that this ddpm was built for is here; build it with cargo build --release -p ddpm-cli --features cpu"
    )]
    NoneCompiled,
}
