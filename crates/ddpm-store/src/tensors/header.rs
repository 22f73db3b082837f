//! The header of a safetensors file, checked in full.
//!
//! The safetensors crate reads a header into a hash map, where the second of two equal names wins
//! silently, and its errors do not name the tensor; so the map is read here, with its types.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{Result, StoreError};
use crate::json;

/// Python's own limit, so that whatever it wrote can be read.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;
pub(super) const METADATA_KEY: &str = "__metadata__";

/// Tensors in the order of their bytes, which cover the rest of the file without gap or overlap.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) tensors: Vec<(String, TensorInfo)>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads the header of a file of `file_bytes` and leaves `input` at its first number.
pub(super) fn read(path: &Path, file_bytes: u64, input: &mut impl Read) -> Result<Header> {
    let malformed = |problem: String| StoreError::format(path, "safetensors", problem);
    if file_bytes < LENGTH_BYTES {
        return Err(malformed(format!(
            "it has {file_bytes} bytes and needs at least 8"
        )));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    input
        .read_exact(&mut length)
        .map_err(StoreError::io(path, "read"))?;
    // A header of 640 bytes begins as a pickle does.
    let is_pickle = length.starts_with(b"\x80\x02") && length[4..] != [0; 4];
    if length.starts_with(b"PK\x03\x04") || is_pickle {
        return Err(malformed(super::PICKLE.to_owned()));
    }
    if json::LFS_MARK.starts_with(&length) {
        return Err(malformed(json::LFS.to_owned()));
    }
    let header_bytes = u64::from_le_bytes(length);
    let limit = MAX_HEADER_BYTES.min(file_bytes - LENGTH_BYTES);
    if header_bytes > limit {
        return Err(malformed(format!(
            "its header claims {header_bytes} bytes where at most {limit} are possible"
        )));
    }
    let mut json = vec![0; header_bytes as usize];
    input
        .read_exact(&mut json)
        .map_err(StoreError::io(path, "read"))?;
    let text = std::str::from_utf8(&json)
        .map_err(|error| malformed(format!("its header is not UTF-8: {error}")))?;
    let mut header: Header = serde_json::from_str(text)
        .map_err(|error| malformed(format!("its header is not what it should be: {error}")))?;
    header.tensors.sort_by_key(|(_, info)| info.data_offsets);
    check(path, &header, file_bytes - LENGTH_BYTES - header_bytes)?;
    Ok(header)
}

fn check(path: &Path, header: &Header, data_bytes: u64) -> Result<()> {
    let mut position = 0;
    for (name, info) in &header.tensors {
        let (start, end) = info.data_offsets;
        let broken = |problem: String| Err(StoreError::tensor(path, name, problem));
        if start != position || end < start {
            return broken(format!(
                "its bytes are said to be {start}..{end}, but the tensor before it ends at {position}"
            ));
        }
        let bits = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |bits, &extent| {
                bits.checked_mul(extent)
            });
        match bits {
            Some(bits) if bits % 8 == 0 && bits / 8 == end - start => {}
            Some(bits) => {
                return broken(format!(
                    "shape {:?} of {} takes {} bytes, but it has {}",
                    info.shape,
                    info.dtype,
                    bits / 8,
                    end - start
                ));
            }
            None => return broken(format!("shape {:?} overflows", info.shape)),
        }
        position = end;
    }
    if position as u64 != data_bytes {
        let problem = format!(
            "its tensors take {position} bytes, but {data_bytes} follow the header; the file was cut or extended"
        );
        return Err(StoreError::format(path, "safetensors", problem));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map from tensor names to their types, shapes and offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header {
            tensors: Vec::new(),
            metadata: BTreeMap::new(),
        };
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!(
                    "the name `{name}` comes twice"
                )));
            }
            let wrong = |error| A::Error::custom(format_args!("`{name}`: {error}"));
            if name == METADATA_KEY {
                header.metadata = map.next_value().map_err(wrong)?;
            } else {
                let info = map.next_value::<TensorInfo>().map_err(wrong)?;
                header.tensors.push((name, info));
            }
        }
        Ok(header)
    }
}
