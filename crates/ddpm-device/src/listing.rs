//! What `--device` may be.

use crate::details::{Details, details};
use crate::present::{cpu_device, present};
use crate::{Choice, Gpu};

/// One kind of device: whether it is compiled in, and those that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The cargo feature.
    pub feature: &'static str,
    /// Whether this binary can drive any device of the kind.
    pub compiled: bool,
    /// The devices; empty where nothing is there or compiled in.
    pub devices: Vec<Listed>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What `--device` may be.
    pub choice: Choice,
    /// What is known of it; nothing of the CPU, which is the program's to describe.
    pub details: Details,
}

/// Every kind of device, the CPU first.
pub fn list() -> Vec<Listing> {
    let cpu_device = Listing {
        feature: "cpu",
        compiled: cpu_device().is_some(),
        devices: cpu_device()
            .map(|_| Listed {
                choice: Choice::Cpu,
                details: Details::default(),
            })
            .into_iter()
            .collect(),
    };
    let gpus = Gpu::ALL.into_iter().map(|gpu| {
        let devices = gpus(gpu);
        Listing {
            feature: gpu.name(),
            compiled: gpu.compiled() || !devices.is_empty(),
            devices,
        }
    });
    std::iter::once(cpu_device).chain(gpus).collect()
}

/// The devices of one kind.
fn gpus(gpu: Gpu) -> Vec<Listed> {
    let units: Vec<_> = present(gpu).units().collect();
    if units.is_empty() {
        return Vec::new();
    }
    let details = details(gpu);
    units
        .into_iter()
        .map(|unit| Listed {
            choice: Choice::Gpu(gpu, unit),
            details: details.get(unit).unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            for Listed { choice, details } in listing.devices {
                assert_eq!(choice.to_string().parse(), Ok(choice));
                assert!(details.free_bytes <= details.total_bytes, "{details:?}");
            }
        }
    }
}
