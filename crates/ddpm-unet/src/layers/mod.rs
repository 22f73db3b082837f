//! The few layers that the networks are built of, with PyTorch's parameter names and layouts.

mod activation;
mod conv;
mod dropout;
mod linear;
mod norm;

pub use activation::Activation;
pub use conv::{Conv2d, ConvEpilogue, ConvTranspose2d};
pub use dropout::{Dropout, DropoutRng};
pub use linear::Linear;
pub use norm::GroupNorm;
pub(crate) use norm::check_groups;
