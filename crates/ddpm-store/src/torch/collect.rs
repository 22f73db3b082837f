//! All tensors of a value, by names made of its keys.

use std::collections::HashSet;

use super::pickle::Node;
use super::storage::Nested;
use super::tensor::TorchTensor;
use super::value::Value;
use super::{TorchFile, malformed};
use crate::error::{Result, StoreError};
use crate::tensors::NamedTensor;

/// Deeper than any model has modules.
const MAX_DEPTH: usize = 48;
/// A value that is used again and again would otherwise be looked at as often.
const MAX_VISITS: usize = 1 << 18;
const MAX_NAME_BYTES: usize = 1 << 10;
/// Tensors may share storages, but not so that reading them all takes any multiple of the file: as f32 a file of bytes
/// takes four times its size, and each storage may be had under a few names.
const MAX_EXPANSION: u64 = 16;
const FREE_BYTES: u64 = 1 << 20;

impl Value<'_> {
    /// The tensors of a state dict, of dicts and lists around it, or of a module (its parameters and buffers), their keys
    /// joined by dots. What is not a tensor is passed over.
    ///
    /// # Errors   [`StoreError::Tensor`] naming one that contradicts itself or is of a kind that is not supported,
    /// [`StoreError::Format`] if values are nested without end or tensors repeat the same numbers over and over
    pub fn tensors(self) -> Result<Vec<TorchTensor>> {
        let mut found = Found::default();
        self.collect("", 0, &mut found)?;
        let bytes: u64 = found
            .tensors
            .iter()
            .map(|tensor| 4 * tensor.numbers() as u64)
            .sum();
        let limit = self
            .file
            .bytes
            .saturating_mul(MAX_EXPANSION)
            .saturating_add(FREE_BYTES);
        if bytes > limit {
            let problem = format!(
                "its tensors take {bytes} bytes and the file has {}: they repeat the same numbers, which no checkpoint does",
                self.file.bytes
            );
            return Err(malformed(&self.file.path, problem));
        }
        Ok(found.tensors)
    }

    /// [`tensors`](Self::tensors) with their numbers.
    ///
    /// # Errors   as there and of [`TorchFile::read`]
    pub fn read_tensors(self) -> Result<Vec<NamedTensor>> {
        self.tensors()?
            .iter()
            .map(|tensor| self.file.read(tensor))
            .collect()
    }

    fn collect(self, name: &str, depth: usize, found: &mut Found) -> Result<()> {
        let refuse = |problem: &str| Err(malformed(&self.file.path, problem));
        found.visits += 1;
        if depth > MAX_DEPTH {
            return refuse(
                "its values are nested too deep, or one is within itself; no checkpoint is like that",
            );
        }
        if found.visits > MAX_VISITS {
            return refuse("its values refer to each other over and over; no checkpoint does that");
        }
        if name.len() > MAX_NAME_BYTES {
            return refuse(
                "the name of a tensor is over a kibibyte long; no checkpoint has such names",
            );
        }
        let below = |key: &str| match name.is_empty() {
            true => key.to_owned(),
            false => format!("{name}.{key}"),
        };
        match self.node() {
            Node::Dict(entries) => {
                for &(key, value) in entries {
                    let key = match self.file.content.pickle.node(key) {
                        Node::Text(text) => text.to_string(),
                        Node::Int(number) => number.to_string(),
                        _ => continue,
                    };
                    self.at(value).collect(&below(&key), depth + 1, found)?;
                }
            }
            Node::Sequence(elements) => {
                for (index, &element) in elements.iter().enumerate() {
                    self.at(element)
                        .collect(&below(&index.to_string()), depth + 1, found)?;
                }
            }
            Node::Made(made) => match self.file.tensor(name, made, &mut found.nested)? {
                Some(tensor) => found.add(self.file, tensor)?,
                None => {
                    for part in ["_parameters", "_buffers", "_modules"] {
                        if let Some(part) = self.get(part) {
                            part.collect(name, depth + 1, found)?;
                        }
                    }
                    for &(key, value) in &made.entries {
                        if let Some(key) = self.file.content.pickle.text(key) {
                            self.at(value).collect(&below(key), depth + 1, found)?;
                        }
                    }
                }
            },
            _ => {}
        }
        Ok(())
    }
}

#[derive(Default)]
struct Found {
    tensors: Vec<TorchTensor>,
    names: HashSet<String>,
    nested: Nested,
    visits: usize,
}

impl Found {
    fn add(&mut self, file: &TorchFile, tensor: TorchTensor) -> Result<()> {
        if !self.names.insert(tensor.name.clone()) {
            let problem = "comes twice; the file was altered";
            return Err(StoreError::tensor(&file.path, &tensor.name, problem));
        }
        self.tensors.push(tensor);
        Ok(())
    }
}
