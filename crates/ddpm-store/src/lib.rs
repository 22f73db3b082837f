//! Bytes on disk: atomic writes, checkpoints, run directories, safetensors, diffusers directories, PyTorch's files (read), NumPy's archives (written), image grids and metric logs.
//!
//! Invariants: nothing here knows a network, a device or a random number: weights are named tensors.
//! Nothing is read before its length is checked, nothing is written but through [`atomic`] or appended to
//! the metric log, and only a [`RunWriter`] writes below a run directory.
//!
//! ```
//! use ddpm_store::{GridOptions, ImageBatch};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("grid.png");
//! // Four grey images of 8×8 pixels in [-1, 1].
//! let images = ImageBatch::new(vec![0.0; 4 * 64], [4, 1, 8, 8])?;
//! images.grid(GridOptions::default())?.save_png(&path)?;
//! # Ok(())
//! # }
//! ```

pub mod atomic;
pub mod averages;
pub mod checkpoint;
pub mod diffusers;
mod error;
#[cfg(feature = "faults")]
pub mod faults;
pub mod images;
mod io;
mod json;
pub mod metrics;
pub mod npz;
pub mod plot;
mod run_dir;
mod seam;
pub mod tensors;
pub mod torch;
pub mod trend;

pub use checkpoint::{Checkpoint, CheckpointInfo, CheckpointSummary};
pub use diffusers::DiffusersModel;
pub use error::{Instead, Result, StoreError};
pub use images::{Grid, GridOptions, ImageBatch};
pub use metrics::{MetricsLog, last_metrics, read_metrics};
pub use run_dir::{RunDir, RunWriter};
pub use tensors::{NamedTensor, TensorFile};
