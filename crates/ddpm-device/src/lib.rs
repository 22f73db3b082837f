//! Which of the devices that are compiled in and really there does the work.
//!
//! Only programs use this: a library is handed a device. The cargo features are the kinds of device that a program
//! can drive, and programs forward theirs to these.
//!
//! - [`Choice`] and [`parse_list`]: what `--device` and `--devices` ask for
//! - [`resolve`]: the device itself, once it has answered
//! - [`list`]: everything that could be asked for, with what its driver says of it
//!
//! ```
//! use ddpm_device::{Choice, resolve};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let choice: Choice = "cpu".parse()?;
//! assert_eq!(resolve(choice)?.name, "cpu");
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "wgpu")]
mod at_once;
mod choice;
mod choices;
mod details;
mod error;
mod listing;
mod pick;
mod present;
mod quietly;
#[cfg(feature = "wgpu")]
mod software;

pub use choice::{Choice, Gpu, Unit};
pub use choices::parse_list;
pub use details::Details;
pub use error::{ChoiceError, DeviceError};
pub use listing::{Listed, Listing, list};
pub use pick::{Picked, resolve, resolve_for_rank};
