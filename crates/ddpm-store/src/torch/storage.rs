//! Storages: what tensors' numbers lie in, and where that is in the file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;

use super::input::Input;
use super::pickle::{Id, Node, Pickle};
use super::{Content, TorchFile, legacy, malformed};
use crate::error::{Result, StoreError};

/// What a tensor's numbers lie in.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) key: String,
    /// `None`: bytes, whose tensors say what they are.
    pub(super) dtype: Option<Dtype>,
    pub(super) numbers: u64,
    /// Where a view of a storage begins (before torch 0.4).
    pub(super) start: u64,
}

/// Storages in files within the file, by where those begin.
pub(super) type Nested = HashMap<u64, (Storage, Range<u64>)>;

/// Such a file has about thirty.
const MAX_NESTED_OPCODES: u32 = 1000;

impl Storage {
    /// A persistent value: ("storage", type, key, device, numbers[, (key, start, numbers)]).
    fn read(pickle: &Pickle, id: Id, path: &Path) -> Result<Self> {
        let unknown = |what: &str| {
            let problem =
                format!("a storage {what}; the file was altered, or it is of another program");
            malformed(path, problem)
        };
        let parts = pickle.sequence(id);
        let [kind, class, key, _device, numbers, view @ ..] = parts else {
            return Err(unknown("is not described by five values"));
        };
        if pickle.text(*kind) != Some("storage") {
            return Err(unknown("is called something else"));
        }
        let number = |id: Id| pickle.int(id).and_then(|number| u64::try_from(number).ok());
        let class = pickle
            .global(*class)
            .ok_or_else(|| unknown("has no type"))?;
        let start = match view.first().map(|&view| pickle.sequence(view)) {
            Some(&[_, start, _]) => number(start).ok_or_else(|| unknown("begins nowhere"))?,
            _ => 0,
        };
        Ok(Self {
            key: pickle
                .text(*key)
                .ok_or_else(|| unknown("has no key"))?
                .to_owned(),
            dtype: storage_type(class).map_err(|class| {
                malformed(
                    path,
                    format!("a storage is a `{class}`, which is not supported"),
                )
            })?,
            numbers: number(*numbers).ok_or_else(|| unknown("has no length"))?,
            start,
        })
    }

    /// All that a pickle names, by key.
    pub(super) fn all(pickle: &Pickle, path: &Path) -> Result<HashMap<String, Self>> {
        let mut found = HashMap::new();
        for node in pickle.nodes() {
            if let Node::Persistent(id) = node {
                let storage = Self::read(pickle, *id, path)?;
                found.insert(storage.key.clone(), storage);
            }
        }
        Ok(found)
    }

    pub(super) fn bytes(&self, path: &Path) -> Result<u64> {
        let size = self.dtype.map_or(1, bytes_of) as u64;
        self.numbers.checked_mul(size).ok_or_else(|| {
            malformed(
                path,
                format!("storage {} claims {} numbers", self.key, self.numbers),
            )
        })
    }
}

pub(super) fn bytes_of(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// The numbers of `torch.FloatStorage` and its like, or the name of what is not supported.
fn storage_type(class: &str) -> Result<Option<Dtype>, &str> {
    let name = class.strip_prefix("torch.").unwrap_or(class);
    let name = name.strip_prefix("cuda.").unwrap_or(name);
    Ok(Some(match name {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        "ComplexFloatStorage" => Dtype::C64,
        "UntypedStorage" | "storage.UntypedStorage" => return Ok(None),
        _ => return Err(class),
    }))
}

/// `torch.float32` and its like.
pub(super) fn torch_type(name: &str) -> Option<Dtype> {
    Some(match name.strip_prefix("torch.")? {
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        "complex64" => Dtype::C64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        _ => return None,
    })
}

impl TorchFile {
    /// A storage and where it lies.
    pub(super) fn storage(
        &self,
        name: &str,
        id: Id,
        known: &mut Nested,
    ) -> Result<(Storage, Range<u64>)> {
        let Content { pickle, storages } = &self.content;
        let missing = |key: &str| {
            let problem = format!(
                "its storage {key} is not in the file, which was cut or altered; take another copy"
            );
            StoreError::tensor(&self.path, name, problem)
        };
        match pickle.node(id) {
            Node::Persistent(id) => {
                let storage = Storage::read(pickle, *id, &self.path)?;
                let place = storages
                    .get(&storage.key)
                    .cloned()
                    .ok_or_else(|| missing(&storage.key))?;
                Ok((storage, place))
            }
            // A file within the file, which holds the storage alone.
            Node::Made(made)
                if pickle.global(made.maker) == Some("torch.storage._load_from_bytes") =>
            {
                let bytes = pickle.sequence(made.arguments).first();
                let Some(Node::Bytes(place)) = bytes.map(|&id| pickle.node(id)) else {
                    return Err(missing("without bytes"));
                };
                if let Some(found) = known.get(&place.start) {
                    return Ok(found.clone());
                }
                let mut input = Input::new(&self.path, &self.file, Range::clone(place))?;
                if !legacy::begins(input.peek(15)?) {
                    return Err(missing("in a form that torch does not nest"));
                }
                let nested = legacy::read(&mut input, MAX_NESTED_OPCODES)?;
                let Node::Persistent(id) = nested.pickle.node(nested.pickle.root()) else {
                    return Err(missing("nested"));
                };
                let storage = Storage::read(&nested.pickle, *id, &self.path)?;
                let inner = nested.storages.get(&storage.key);
                let inner = inner.cloned().ok_or_else(|| missing(&storage.key))?;
                known.insert(place.start, (storage.clone(), inner.clone()));
                Ok((storage, inner))
            }
            _ => Err(missing("of an unknown kind")),
        }
    }
}
