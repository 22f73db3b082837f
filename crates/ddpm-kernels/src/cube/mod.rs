//! The kernels of GPUs, written once in CubeCL for CUDA, ROCm, Metal, Vulkan and WebGPU.
//!
//! Images lie in memory with channels last, `[batch, height, width, channels]`, and are seen by burn as
//! `[batch, channels, height, width]` with strides to match; an operation copies only what comes otherwise.
//! Images and the copies of weights that meet them are f32, f16 or bf16; sums, normalisations, softmax and
//! gradients of parameters are f32.

mod algorithm;
mod attention;
mod convolution;
mod dropout;
mod extension;
mod finite;
mod gemm;
mod graph;
mod hopper;
mod images;
mod matrix;
#[cfg(feature = "nccl")]
pub(crate) mod nccl;
mod norm;
mod optimiser;
mod packed;
mod relayout;
mod sums;
mod tensor;

pub(crate) use algorithm::{allow_tf32, export, import, lacks};
pub(crate) use extension::*;
pub(crate) use finite::{DeviceStats, PendingStats, wait};
pub(crate) use graph::{CapturedGraph, capture, same_memory};

#[cfg(test)]
#[cfg(all(feature = "flex", feature = "wgpu"))]
mod tests;
