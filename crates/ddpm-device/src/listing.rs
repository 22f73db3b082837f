//! What `--device` may be.

use crate::present::{present, processor};
use crate::{Choice, Gpu};

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
            for name in &listing.devices {
                assert_eq!(&name.parse::<Choice>().unwrap().to_string(), name);
            }
        }
    }
}
