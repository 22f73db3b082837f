//! Tensor operations that burn runs slowly, with gradients, for the CPU and for GPUs.
//!
//! Each operation is one function over tensors of any device. On burn's CPU backend (`cpu`) and on its
//! backend for GPUs (`cube`) it is a kernel of this crate, joined to autodiff by burn's extension
//! mechanism; all use of that mechanism stays here.
//!
//! On the CPU sums run in a fixed order: any number of threads gives the same bits, and an image the same in any batch.
//! Tensors whose shapes do not fit together are a mistake of the caller's, and panic.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ddpm_kernels::{GroupNormOptions, group_norm};
//!
//! let device = Device::flex();
//! let x = Tensor::<4>::ones([2, 8, 4, 4], &device);
//! let (weight, bias) = (Tensor::ones([1, 8], &device), Tensor::zeros([1, 8], &device));
//! let options = GroupNormOptions {
//!     groups: 4,
//!     eps: 1e-5,
//!     silu: false,
//! };
//! let y = group_norm(x, weight, bias, options);
//! // What is the same everywhere has no variance.
//! assert_eq!(y.abs().max().into_scalar::<f32>(), 0.0);
//! ```

mod attention;
mod collective;
mod concat;
mod conv2d;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod dropout;
#[cfg(any(feature = "flex", feature = "cube"))]
mod extension;
mod finite;
mod graph;
mod group_norm;
mod linear;
mod optimiser;
mod precision;
pub mod tuning;
mod upsample;

pub use attention::attention;
pub use collective::{
    GpuTransport, NcclError, has_collectives, nccl_gpu, nccl_id, nccl_join, sum_over,
};
pub use concat::concat_channels;
pub use conv2d::{Conv2dOptions, Convolution, Norm, WeightCache, conv2d};
pub use dropout::{DropoutKey, dropout};
pub use finite::{
    Clip, DeviceStats, FoundInf, PendingStats, StepStats, adam_steps_if_finite, checks_finite,
    measure,
};
pub use graph::{Capture, Graph, GraphInputs, capture, same_memory};
pub use group_norm::{GroupNormOptions, group_norm};
pub use linear::linear;
pub use optimiser::{AdamState, AdamStep, Flatten, adam_step, adam_steps, add_all};
pub use precision::{Precision, PrecisionError};
pub use upsample::upsample_nearest_2x;

/// Which kernels a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// burn's CPU backend: `cpu`.
    #[cfg(feature = "flex")]
    Cpu,
    /// Any GPU: `cube`.
    #[cfg(feature = "cube")]
    Gpu,
    /// burn's own operations.
    Elsewhere,
}

impl Place {
    fn of(device: &burn::tensor::Device) -> Self {
        use burn::backend::DispatchDevice;
        match device.clone().inner().as_dispatch() {
            #[cfg(feature = "flex")]
            DispatchDevice::Flex(_) => Self::Cpu,
            #[cfg(feature = "cube")]
            DispatchDevice::Cube(_) => Self::Gpu,
            // Reached by the backends that have no kernels here.
            #[allow(unreachable_patterns)]
            _ => Self::Elsewhere,
        }
    }

    /// Whether the operations of `extension` run here.
    #[cfg(any(feature = "flex", feature = "cube"))]
    fn has_kernels(self) -> bool {
        self != Self::Elsewhere
    }
}
