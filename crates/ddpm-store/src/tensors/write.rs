//! Writing safetensors with the same bytes for the same contents.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::NamedTensor;
use super::header::METADATA_KEY;
use crate::error::{Result, StoreError};

const F32_BYTES: usize = 4;

/// What must hold before a byte is written: names once each, and as many numbers as the shape says.
pub(crate) fn check(path: &Path, tensors: &[NamedTensor]) -> Result<()> {
    let mut seen = HashSet::new();
    for tensor in tensors {
        if tensor.name == METADATA_KEY {
            return Err(StoreError::tensor(
                path,
                &tensor.name,
                "the format reserves this name",
            ));
        }
        if !seen.insert(tensor.name.as_str()) {
            return Err(StoreError::tensor(
                path,
                &tensor.name,
                "the name comes twice",
            ));
        }
        let elements = tensor
            .shape
            .iter()
            .try_fold(1_usize, |count, &extent| count.checked_mul(extent));
        if elements != Some(tensor.data.len()) {
            let problem = format!(
                "shape {:?} does not fit {} numbers",
                tensor.shape,
                tensor.data.len()
            );
            return Err(StoreError::tensor(path, &tensor.name, problem));
        }
    }
    Ok(())
}

/// Streams a safetensors file of tensors that [`check`] has passed.
pub(crate) fn write_to(
    out: &mut dyn Write,
    tensors: &[NamedTensor],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut sorted: Vec<&NamedTensor> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut metadata = metadata.clone();
    metadata.insert("format".to_owned(), "pt".to_owned());

    let mut header = serde_json::to_vec(&HeaderMap {
        tensors: &sorted,
        metadata: &metadata,
    })?;
    // The numbers start at a multiple of eight, so that a reader may map them.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut bytes = Vec::with_capacity(1 << 16);
    for tensor in sorted {
        for numbers in tensor.data.chunks((1 << 16) / F32_BYTES) {
            bytes.clear();
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

struct HeaderMap<'a> {
    tensors: &'a [&'a NamedTensor],
    metadata: &'a BTreeMap<String, String>,
}

impl Serialize for HeaderMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.tensors.len() + 1))?;
        map.serialize_entry(METADATA_KEY, self.metadata)?;
        let mut start = 0;
        for tensor in self.tensors {
            let end = start + tensor.data.len() * F32_BYTES;
            let info = TensorInfo {
                dtype: Dtype::F32,
                shape: tensor.shape.clone(),
                data_offsets: (start, end),
            };
            map.serialize_entry(&tensor.name, &info)?;
            start = end;
        }
        map.end()
    }
}
