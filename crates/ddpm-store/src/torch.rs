//! What `torch.save` and `pickle.dump` write, read as data: nothing in a file is ever called.
//!
//! A pickle is a program for a small stack machine, which in Python may call any function. `pickle` runs that
//! program over plain values: a call becomes a node that says what would have been called with what, and a handful of
//! names (`OrderedDict`, `torch._utils._rebuild_tensor_v2`, …) are understood as the data they stand for.
//!
//! Three containers: a zip archive (torch 1.6 and later), a row of pickles with the storages behind them (before), and a
//! plain pickle whose tensors bring their storages as nested files of the second kind (EDM's snapshots).
//!
//! Numbers stay in the file until a tensor is read. Every length is checked against the file before memory is set aside
//! for it, and `pickle` bounds what the rest may take.

mod archive;
mod collect;
mod input;
mod legacy;
mod numbers;
mod pickle;
mod storage;
mod tensor;
#[cfg(test)]
mod tests;
mod value;

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use tensor::TorchTensor;
pub use value::Value;

use self::input::Input;
use self::pickle::Pickle;
use crate::error::{Result, StoreError};
use crate::json;
use crate::tensors::{TensorEntry, TensorListing};

/// An opened file of PyTorch's.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    content: Content,
}

/// A pickled object, and where its storages lie in the file.
#[derive(Debug)]
struct Content {
    pickle: Pickle,
    /// By key; those of a plain pickle are in its nodes.
    storages: HashMap<String, Range<u64>>,
}

impl TorchFile {
    /// Reads all of the file but its numbers.
    ///
    /// # Errors   [`StoreError::Format`] for what is not such a file, is cut or altered, or would run a program;
    /// [`StoreError::Io`]
    pub fn open(path: &Path) -> Result<Self> {
        // Looked at first: opening a named pipe would wait for somebody to write to it.
        let metadata = fs::metadata(path).map_err(StoreError::io(path, "open"))?;
        if !metadata.is_file() {
            return Err(malformed(path, "this is not a plain file"));
        }
        let file = File::open(path).map_err(StoreError::io(path, "open"))?;
        let bytes = file.metadata().map_err(StoreError::io(path, "read"))?.len();
        let content = Self::content(path, &file, bytes)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            content,
        })
    }

    fn content(path: &Path, file: &File, bytes: u64) -> Result<Content> {
        let mut input = Input::new(path, file, 0..bytes)?;
        let head = input.peek(263)?;
        if head.starts_with(b"PK\x03\x04") {
            return archive::read(path, file, bytes);
        }
        if legacy::begins(head) {
            return legacy::read(&mut input, pickle::MAX_OPCODES);
        }
        if head.get(257..262) == Some(b"ustar") {
            let problem = "this is the tar form that torch wrote before 2017; load it in Python and save it again with \
                           `torch.save`";
            return Err(malformed(path, problem));
        }
        if head.starts_with(json::LFS_MARK) {
            return Err(malformed(path, json::LFS));
        }
        if head.first() != Some(&pickle::PROTO) {
            let problem = "it begins neither as a zip archive nor as a pickle; give what `torch.save` or `pickle.dump` \
                           wrote";
            return Err(malformed(path, problem));
        }
        let pickle = Pickle::read(&mut input)?;
        if input.rest() > 0 {
            let problem = format!("{} bytes follow the end of its pickle", input.rest());
            return Err(malformed(path, problem));
        }
        Ok(Content {
            pickle,
            storages: HashMap::new(),
        })
    }

    /// Whether a file begins as a zip archive or a pickle; `false` where it cannot be read.
    pub fn looks_like(path: &Path) -> bool {
        let Ok(metadata) = fs::metadata(path) else {
            return false;
        };
        let head = || {
            let file = File::open(path).ok()?;
            let mut input = Input::new(path, &file, 0..metadata.len()).ok()?;
            let head = input.peek(9).ok()?;
            // A header of safetensors may have 640 bytes, which are 0x280, or more whose number ends with that.
            let safetensors = head.get(4..9) == Some(b"\0\0\0\0{");
            let pickle = head.first() == Some(&pickle::PROTO) && !safetensors;
            Some(head.starts_with(b"PK\x03\x04") || pickle)
        };
        metadata.is_file() && head() == Some(true)
    }

    /// The object that was saved.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        Value::new(self, self.content.pickle.root())
    }

    /// Names, types and shapes of all its tensors, without reading their numbers.
    ///
    /// # Errors   those of [`Value::tensors`]
    pub fn listing(&self) -> Result<TensorListing> {
        let entry = |tensor: TorchTensor| TensorEntry {
            name: tensor.name,
            dtype: tensor.dtype.to_string(),
            shape: tensor.shape,
        };
        let tensors = self.root().tensors()?;
        Ok(TensorListing {
            entries: tensors.into_iter().map(entry).collect(),
            ..TensorListing::default()
        })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn malformed(path: &Path, problem: impl ToString) -> StoreError {
    StoreError::format(path, "PyTorch file", problem)
}
