//! The kernels for burn's CPU backend, and how autodiff finds them.

mod convolution;
mod extension;
mod matmul;
mod normalisation;

pub(crate) use extension::{conv2d, group_norm};
