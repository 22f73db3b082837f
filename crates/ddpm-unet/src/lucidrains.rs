//! The `Unet` of denoising-diffusion-pytorch 2 (lucidrains): root-mean-square normalisation over channels, linear
//! attention on every level but those with full attention, both with learned keys and values.

mod attention;
mod block;
mod config;
mod section;
#[cfg(test)]
mod tests;
mod unet;

pub use config::LucidrainsConfig;
pub(crate) use config::MEMORY;
pub use section::LucidrainsSection;
pub use unet::LucidrainsUNet;
