//! Named tensors in safetensors files, as f32.
//!
//! The format: eight bytes of length, a JSON header of names, types, shapes and offsets, then the
//! numbers, little-endian and without gaps. Reading never trusts a header: every offset is checked
//! against the file's length before a byte is allocated for it.

pub(crate) mod convert;
mod header;
mod shards;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use safetensors::tensor::TensorInfo;

pub use self::shards::read_sharded;
pub(crate) use self::write::{check, write_to};

use self::header::Header;
use crate::atomic;
use crate::error::{Result, StoreError};

/// A tensor with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The parameter's name, e.g. `conv_in.weight`.
    pub name: String,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The numbers in row-major order: as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// The contents of a safetensors file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorFile {
    /// The tensors in the order of the file.
    pub tensors: Vec<NamedTensor>,
    /// Free texts of the header.
    pub metadata: BTreeMap<String, String>,
}

/// A tensor's line in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// The parameter's name.
    pub name: String,
    /// The type as the file says it: `F32`, `BF16`, …
    pub dtype: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

/// The header of a safetensors file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorListing {
    /// One entry a tensor, in the order of the file.
    pub entries: Vec<TensorEntry>,
    /// Free texts of the header.
    pub metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Tensors without metadata.
    #[must_use]
    pub fn new(tensors: Vec<NamedTensor>) -> Self {
        Self {
            tensors,
            metadata: BTreeMap::new(),
        }
    }

    /// The tensor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Reads a file: F32, F16, BF16, F64 and the integers (by `as f32`), all turned into f32.
    ///
    /// # Errors   [`StoreError::Format`] for what is not a sound safetensors file (PyTorch pickles
    /// among it), [`StoreError::Tensor`] for a type without a counterpart here, [`StoreError::Io`]
    pub fn read(path: &Path) -> Result<Self> {
        let (header, mut file) = open(path)?;
        let mut tensors = Vec::with_capacity(header.tensors.len());
        for (name, info) in header.tensors {
            let data = read_data(path, &name, &info, &mut file)?;
            tensors.push(NamedTensor {
                name,
                shape: info.shape,
                data,
            });
        }
        Ok(Self {
            tensors,
            metadata: header.metadata,
        })
    }

    /// Writes the file atomically, as f32 in the order of the names, with `format = pt` in the
    /// metadata (without which Python's libraries refuse it). Equal contents give equal bytes.
    ///
    /// # Errors   [`StoreError::Tensor`] if a name comes twice or a shape does not fit its numbers,
    /// [`StoreError::Io`]
    pub fn write(&self, path: &Path) -> Result<()> {
        check(path, &self.tensors)?;
        atomic::write_file_with(path, |out| write_to(out, &self.tensors, &self.metadata))
    }
}

/// Names, types and shapes of a file, without reading its numbers.
///
/// # Errors   [`StoreError::Format`], [`StoreError::Io`]
pub fn list_tensors(path: &Path) -> Result<TensorListing> {
    let (header, _) = open(path)?;
    let entries = header.tensors.into_iter().map(|(name, info)| TensorEntry {
        name,
        dtype: info.dtype.to_string(),
        shape: info.shape,
    });
    Ok(TensorListing {
        entries: entries.collect(),
        metadata: header.metadata,
    })
}

/// Refuses weights that no network can compute with.
///
/// # Errors   [`StoreError::Tensor`] naming the first tensor of `path` that holds NaN or an infinity
pub fn check_finite(path: &Path, tensors: &[NamedTensor]) -> Result<()> {
    for tensor in tensors {
        if let Some(at) = tensor.data.iter().position(|number| !number.is_finite()) {
            let problem = format!(
                "number {at} of {} is {}; the model is damaged or its training diverged, so take another copy or an \
                 earlier checkpoint",
                tensor.data.len(),
                tensor.data.get(at).copied().unwrap_or(f32::NAN)
            );
            return Err(StoreError::tensor(path, &tensor.name, problem));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<(Header, BufReader<File>)> {
    refuse_pickle_name(path)?;
    let refuse = || StoreError::format(path, "safetensors", "this is not a plain file");
    // Looked at first: opening a named pipe would wait for somebody to write to it.
    let metadata = fs::metadata(path).map_err(StoreError::io(path, "open"))?;
    if !metadata.is_file() {
        return Err(refuse());
    }
    let file = File::open(path).map_err(StoreError::io(path, "open"))?;
    let metadata = file.metadata().map_err(StoreError::io(path, "read"))?;
    if !metadata.is_file() {
        return Err(refuse());
    }
    let mut file = BufReader::with_capacity(1 << 16, file);
    let header = header::read(path, metadata.len(), &mut file)?;
    Ok((header, file))
}

/// The reason for refusing PyTorch's own formats, in one sentence.
pub(crate) const PICKLE: &str = "this is a PyTorch pickle, which can run any code when it is opened; \
    convert it in Python with `model.save_pretrained(directory, safe_serialization=True)`";

fn refuse_pickle_name(path: &Path) -> Result<()> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("bin" | "pt" | "pth" | "ckpt" | "pkl") => {
            Err(StoreError::format(path, "safetensors", PICKLE))
        }
        _ => Ok(()),
    }
}

fn read_data(path: &Path, name: &str, info: &TensorInfo, file: &mut impl Read) -> Result<Vec<f32>> {
    let element_bytes = convert::element_bytes(info.dtype).ok_or_else(|| {
        let problem = format!("type {} is not supported; convert it to F32", info.dtype);
        StoreError::tensor(path, name, problem)
    })?;
    // The header's check ties the offsets to the file's length and to the shape.
    let mut bytes_left = info.data_offsets.1 - info.data_offsets.0;
    let mut data = Vec::with_capacity(bytes_left / element_bytes);
    let mut chunk = vec![0; bytes_left.min(1 << 16)];
    while bytes_left > 0 {
        let part = &mut chunk[..bytes_left.min(1 << 16)];
        file.read_exact(part)
            .map_err(StoreError::io(path, "read"))?;
        convert::extend(info.dtype, part, &mut data);
        bytes_left -= part.len();
    }
    Ok(data)
}
