//! Tensor operations that burn runs slowly on the CPU, with gradients; other devices use burn's own.
//!
//! Each operation is one function over tensors of any device. On burn's CPU backend it is a kernel of
//! this crate, joined to autodiff by burn's extension mechanism; all use of that mechanism stays here.
//!
//! Sums run in a fixed order: any number of threads gives the same bits, and an image the same in any batch.
//! Tensors whose shapes do not fit together are a mistake of the caller's, and panic.

mod attention;
mod collective;
mod conv2d;
#[cfg(feature = "flex")]
mod cpu;
mod group_norm;
mod linear;
mod optimiser;
mod precision;

pub use attention::attention;
pub use collective::{has_collectives, sum_over};
pub use conv2d::{Conv2dOptions, Convolution, Norm, WeightCache, conv2d};
pub use group_norm::{GroupNormOptions, group_norm};
pub use linear::linear;
pub use optimiser::{AdamState, AdamStep, adam_step, sum_of_squares};
pub use precision::{Precision, PrecisionError};

/// Whether a device is burn's CPU backend.
#[cfg(feature = "flex")]
fn is_cpu(device: &burn::tensor::Device) -> bool {
    use burn::backend::DispatchDevice;
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}
