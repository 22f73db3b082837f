//! Tensors of a pickle: calls of `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)` and its relatives.

use std::ops::Range;

use safetensors::Dtype;

use super::TorchFile;
use super::pickle::{Id, Made, Node};
use super::storage::{Nested, Storage, bytes_of, torch_type};
use crate::error::{Result, StoreError};

/// A tensor of a [`TorchFile`], whose numbers are still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchTensor {
    /// Its keys, joined by dots.
    pub name: String,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The type of its numbers in the file, by safetensors' name.
    pub dtype: Dtype,
    /// The first byte of each number is `first + Σ index·stride·size`, all of them within this range of the file.
    pub(super) place: Range<u64>,
    pub(super) strides: Vec<usize>,
}

impl TorchTensor {
    /// As many numbers as the product of its shape.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
}

impl TorchFile {
    /// The tensor that a call makes; `None` if it makes something else.
    ///
    /// # Errors   [`StoreError::Tensor`] for one that contradicts itself or its storage, or is of a kind that is not
    /// supported
    pub(super) fn tensor(
        &self,
        name: &str,
        made: &Made,
        nested: &mut Nested,
    ) -> Result<Option<TorchTensor>> {
        let maker = self.content.pickle.global(made.maker).unwrap_or_default();
        let Some(function) = ["torch._utils.", "torch._tensor."]
            .iter()
            .find_map(|module| maker.strip_prefix(module))
        else {
            return Ok(None);
        };
        self.rebuilt(name, function, made.arguments, nested, 0)
            .map(Some)
    }

    fn rebuilt(
        &self,
        name: &str,
        function: &str,
        arguments: Id,
        nested: &mut Nested,
        depth: usize,
    ) -> Result<TorchTensor> {
        let pickle = &self.content.pickle;
        let refuse = |problem: &str| Err(StoreError::tensor(&self.path, name, problem));
        let short = |id: Id| pickle.global(id)?.rsplit('.').next();
        match (function, pickle.sequence(arguments)) {
            (
                "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3",
                [storage, offset, shape, stride, rest @ ..],
            ) => {
                let dtype = match function {
                    "_rebuild_tensor_v3" => rest.get(2).and_then(|&dtype| pickle.global(dtype)),
                    _ => None,
                };
                let storage = self.storage(name, *storage, nested)?;
                self.view(name, storage, dtype, [*offset, *shape, *stride])
            }
            // A parameter is around a tensor.
            ("_rebuild_parameter" | "_rebuild_parameter_with_state", [inner, ..]) if depth < 4 => {
                let (function, inner) = match pickle.node(*inner) {
                    Node::Made(made) => (short(made.maker), made.arguments),
                    _ => (None, *inner),
                };
                self.rebuilt(name, function.unwrap_or_default(), inner, nested, depth + 1)
            }
            ("_rebuild_from_type_v2", [function, _, inner, ..]) if depth < 4 => {
                let function = short(*function).unwrap_or_default();
                self.rebuilt(name, function, *inner, nested, depth + 1)
            }
            _ => refuse(&format!(
                "is made by `{function}`, which is not supported; save it as an ordinary tensor (`.dequantize()`, `.to_dense()`)"
            )),
        }
    }

    /// `[offset, size, stride]` of a storage, checked.
    fn view(
        &self,
        name: &str,
        (storage, place): (Storage, Range<u64>),
        dtype: Option<&str>,
        layout: [Id; 3],
    ) -> Result<TorchTensor> {
        let refuse = |problem: String| StoreError::tensor(&self.path, name, problem);
        let pickle = &self.content.pickle;
        let dtype = match (storage.dtype, dtype) {
            (_, Some(own)) => torch_type(own).ok_or_else(|| {
                refuse(format!(
                    "its type is {own}, which is not supported; convert it to float32"
                ))
            })?,
            (Some(dtype), None) => dtype,
            (None, None) => return Err(refuse("does not say the type of its numbers".into())),
        };
        let size = bytes_of(dtype);
        let bytes = storage.bytes(&self.path)?;
        if place.end - place.start != bytes {
            return Err(refuse(format!(
                "its storage {} should have {bytes} bytes and has {}; the file was altered, so take another copy",
                storage.key,
                place.end - place.start
            )));
        }
        let number = |id: Id| {
            pickle
                .int(id)
                .and_then(|number| usize::try_from(number).ok())
        };
        let numbers = |id: Id| -> Option<Vec<usize>> {
            pickle.sequence(id).iter().map(|&id| number(id)).collect()
        };
        let [offset, shape, strides] = layout;
        let whole = (number(offset), numbers(shape), numbers(strides));
        let (Some(offset), Some(shape), Some(strides)) = whole else {
            return Err(refuse(
                "its layout is not made of natural numbers; the file was altered".into(),
            ));
        };
        if shape.len() != strides.len() || shape.len() > 64 {
            return Err(refuse(format!(
                "has {} extents and {} strides",
                shape.len(),
                strides.len()
            )));
        }
        let held = usize::try_from(bytes).unwrap_or(usize::MAX) / size;
        let product = |(total, &extent): (usize, &usize)| total.checked_mul(extent);
        let total = shape
            .iter()
            .try_fold(1, |total, extent| product((total, extent)));
        let outside = || {
            refuse(format!(
                "shape {shape:?} with strides {strides:?} from number {offset} on does not fit the {held} numbers of its \
                 storage; save it with `.contiguous()`, or take another copy of the file"
            ))
        };
        // A view that repeats its numbers could be of any size.
        let total = total.filter(|&total| total <= held).ok_or_else(outside)?;
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(0usize, |last, (&extent, &stride)| {
                last.checked_add(extent.saturating_sub(1).checked_mul(stride)?)
            });
        let start = usize::try_from(storage.start)
            .ok()
            .and_then(|start| start.checked_add(offset));
        let range = match (start, last) {
            (Some(start), _) if total == 0 && start <= held => start..start,
            (Some(start), Some(last)) => match start.checked_add(last) {
                Some(last) if last < held => start..last + 1,
                _ => return Err(outside()),
            },
            _ => return Err(outside()),
        };
        Ok(TorchTensor {
            name: name.to_owned(),
            shape,
            dtype,
            place: place.start + (range.start * size) as u64
                ..place.start + (range.end * size) as u64,
            strides,
        })
    }
}
