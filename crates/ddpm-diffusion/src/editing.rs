//! Changing images with a trained network: one idea a file, none of them knows a sampler or a network.
//!
//! What an idea needs of the reverse process it does around it: [`Kept`] and [`Tile`] are denoisers around a denoiser,
//! which any sampler walks with; [`Plan::from_strength`](crate::Plan::from_strength) leaves out the beginning of the way;
//! [`invert`] goes it backwards, [`RePaint`] there and back.

mod inpaint;
mod invert;
mod repaint;
mod resize;
mod slerp;
mod strength;
mod tile;

pub use inpaint::{Kept, Replace};
pub use invert::invert;
pub use repaint::{Jumps, Operation, RePaint};
pub use resize::resize_bilinear;
pub use slerp::{angles, slerp};
pub use strength::{noised, steps_left};
pub use tile::{Tile, Tiling};
