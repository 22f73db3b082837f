//! Small JSON files.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic;
use crate::error::{Result, StoreError};
use crate::io;

/// Far above any configuration or manifest, far below what could hurt.
const MAX_JSON_BYTES: u64 = 64 << 20;

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = io::read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| StoreError::format(path, "JSON", error))
}

pub(crate) fn write_pretty(path: &Path, value: &impl Serialize) -> Result<()> {
    atomic::write_file(path, &to_bytes(path, value)?)
}

/// Indented, with a newline at the end, as Python's libraries write theirs.
pub(crate) fn to_bytes(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| StoreError::format(path, "JSON", error))?;
    bytes.push(b'\n');
    Ok(bytes)
}
