//! `--device` and `--devices`: where a run computes.

use burn::tensor::Device;
use ddpm_device::{Choice, DeviceError, Picked, resolve};
use ddpm_unet::{Precision, PrecisionError};

use crate::args::Devices;

/// The devices of a run; there is at least the first.
pub struct Placed {
    first: Picked,
    others: Vec<Picked>,
}

impl Placed {
    /// Finds the devices of `several`, or the one of `device`.
    ///
    /// # Errors   as [`resolve`], of the first device that does not work
    pub fn new(device: Choice, several: Option<&Devices>) -> Result<Self, DeviceError> {
        let names = several.map_or(&[][..], |devices| &devices.0);
        let (first, others) = names.split_first().unwrap_or((&device, &[]));
        Ok(Self {
            first: resolve(*first)?,
            others: others
                .iter()
                .map(|name| resolve(*name))
                .collect::<Result<_, _>>()?,
        })
    }

    /// One device that was found already.
    #[cfg(feature = "mpi")]
    pub fn one(first: Picked) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }

    /// Makes sure that every device computes in `precision`.
    ///
    /// # Errors   [`PrecisionError`] of the first that does not
    pub fn choose(&self, precision: Precision) -> Result<(), PrecisionError> {
        let mut all = std::iter::once(&self.first).chain(&self.others);
        all.try_for_each(|picked| precision.choose(&picked.device))
    }

    /// The device that draws samples.
    pub fn first(&self) -> &Picked {
        &self.first
    }

    /// How many devices share every batch.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Whether they are one device, whose memory holds what each of several would.
    pub fn is_one(&self) -> bool {
        self.others
            .iter()
            .all(|other| other.device == self.first.device)
    }

    /// As on the command line: `cpu`, `cpu:2`, `cuda:0,cuda:1`.
    pub fn name(&self) -> String {
        let first = &self.first.name;
        match self.count() {
            1 => first.clone(),
            count if self.is_one() => format!("{first}:{count}"),
            _ => {
                let others = self.others.iter().map(|other| other.name.as_str());
                let names: Vec<&str> = std::iter::once(first.as_str()).chain(others).collect();
                names.join(",")
            }
        }
    }

    /// The devices in their order.
    pub fn devices(&self) -> Vec<Device> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(|picked| picked.device.clone())
            .collect()
    }
}
