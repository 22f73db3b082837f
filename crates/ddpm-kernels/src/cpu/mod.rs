//! The kernels for burn's CPU backend, and how autodiff finds them.

// Kernels index several arrays in step, and compute in the order that the registers want.
#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes index several arrays at once"
)]
#![allow(
    clippy::inline_always,
    reason = "what a kernel calls must be compiled for its instructions"
)]

mod attention;
mod blocked;
mod convolution;
mod direct;
mod element;
mod extension;
mod isa;
mod matrix;
mod memory;
mod normalisation;
mod optimiser;
mod packed;
mod product;
mod tile;
mod vector;
mod winograd;

pub(crate) use extension::{CachedWeight, adam_step, can_double, sum_of_squares};

#[cfg(test)]
pub(crate) use isa::for_each_isa;
#[cfg(test)]
mod tests;
