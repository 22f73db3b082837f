//! Weights that were split over several files, with an index that says which tensor lies where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::TensorFile;
use crate::atomic::parent;
use crate::error::{Result, StoreError};
use crate::{io, json};

/// A hundred thousand tensors.
const MAX_INDEX_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads all tensors of a `….safetensors.index.json` from the files beside it.
///
/// # Errors   [`StoreError::Format`] for a bad index, [`StoreError::Tensor`] for a tensor that is not in
/// the file the index names or holds NaN or an infinity, and those of [`TensorFile::read`]
pub fn read_sharded(index_path: &Path) -> Result<TensorFile> {
    let bytes = io::read_bounded(index_path, MAX_INDEX_BYTES)?;
    let malformed = |problem: String| StoreError::format(index_path, "safetensors index", problem);
    let index: Index = json::from_bytes(index_path, "safetensors index", &bytes)?;
    let files: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let mut all = TensorFile::default();
    let mut found = BTreeSet::new();
    for file in files {
        // A name with a directory in it could lead anywhere on the disk.
        if !matches!(
            Path::new(file).components().collect::<Vec<_>>()[..],
            [Component::Normal(_)]
        ) {
            return Err(malformed(format!(
                "`{file}` is not the name of a file beside it"
            )));
        }
        let path = parent(index_path).join(file);
        let shard = TensorFile::read(&path)?;
        super::check_finite(&path, &shard.tensors)?;
        all.metadata.extend(shard.metadata);
        for tensor in shard.tensors {
            if index
                .weight_map
                .get(&tensor.name)
                .is_some_and(|name| name == file)
            {
                found.insert(tensor.name.clone());
                all.tensors.push(tensor);
            }
        }
    }
    match index
        .weight_map
        .iter()
        .find(|(name, _)| !found.contains(*name))
    {
        Some((name, file)) => Err(StoreError::tensor(
            index_path,
            name,
            format!("not in {file}, where the index puts it; copy all shards of one model"),
        )),
        None => Ok(all),
    }
}
