//! The network of EDM2 (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models"):
//! magnitudes are kept throughout, so that what a layer learns is a direction alone.
//!
//! Parameter names are those of that program below `unet.`; gains, scalars there, are `[1]` here. Weights are normalised
//! in every forward pass. That program also writes the normalised weights back after each step ("forced" normalisation,
//! eq. 66), which keeps their magnitudes, and so the effective learning rate, from growing; here that is left to the
//! forward pass alone.

mod block;
mod config;
mod mp;
mod section;
#[cfg(test)]
mod tests;
mod unet;

pub(crate) use block::{Edm2BlockPlan, Flavour};
pub use config::Edm2Config;
pub use section::Edm2Section;
pub use unet::Edm2UNet;
