//! A set's two files: what it says, and its tensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};

use crate::Case;
use crate::keys::{Keys, unsupported};

/// `NAME.json` and, where there is one, `NAME.safetensors`.
pub struct Source {
    /// The object that the JSON file is.
    pub json: Map<String, Value>,
    tensors: HashMap<String, Series>,
}

/// A tensor whose first dimension counts tensors that are compared one by one.
#[derive(Debug, Clone)]
pub struct Series {
    /// The shape of the whole.
    pub shape: Vec<usize>,
    /// All values.
    pub values: Vec<f64>,
    /// Whether they are bytes.
    pub is_bytes: bool,
}

impl Source {
    /// Reads both files.
    ///
    /// # Errors   if one cannot be read, or is not what its name says
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = with(path, "json");
        let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
        let json: Map<String, Value> =
            serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
        let file = with(path, "safetensors");
        let tensors = match file.is_file() {
            true => read_tensors(&file)?,
            false => HashMap::new(),
        };
        Ok(Self { json, tensors })
    }

    /// Reads `NAME.safetensors` alone.
    ///
    /// # Errors   if it cannot be read, or is not what its name says
    pub fn tensors(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            json: Map::new(),
            tensors: read_tensors(&with(path, "safetensors"))?,
        })
    }

    /// A tensor by its name.
    ///
    /// # Errors   if there is none
    pub fn tensor(&self, name: &str) -> anyhow::Result<&Series> {
        self.tensors
            .get(name)
            .with_context(|| format!("there is no tensor {name}"))
    }

    /// The names of all tensors that begin so, in order.
    #[must_use]
    pub fn names(&self, start: &str) -> Vec<&str> {
        let names = self.tensors.keys().map(String::as_str);
        let mut names: Vec<&str> = names.filter(|name| name.starts_with(start)).collect();
        names.sort_unstable();
        names
    }

    /// A case for each object of a list, whose difference `check` tells; keys that it leaves over fail it. A list that is
    /// missing has none.
    ///
    /// `named_by`: the keys whose values are the name of what has no `name`
    pub fn cases(
        &self,
        list: &str,
        named_by: &[&str],
        limit: impl Fn(&Map<String, Value>) -> f64,
        check: impl Fn(&str, &mut Keys) -> anyhow::Result<f64>,
    ) -> Vec<Case> {
        let listed = match self.json.get(list) {
            None => return Vec::new(),
            Some(Value::Array(listed)) => listed,
            Some(other) => {
                let problem = unsupported(list, other, "a list of cases");
                return vec![Case::new(list, 0.0, Err(problem))];
            }
        };
        let each = listed.iter().enumerate().map(|(index, case)| {
            let Value::Object(case) = case else {
                let problem = unsupported("a case", case, "an object");
                return Case::new(format!("{list}[{index}]"), 0.0, Err(problem));
            };
            let words = named_by
                .iter()
                .filter_map(|key| Some(format!("{key} {}", case.get(*key)?)));
            let name = match case.get("name").and_then(Value::as_str) {
                Some(name) => name.to_owned(),
                None => format!("{list}[{index}]: {}", words.collect::<Vec<_>>().join(", ")),
            };
            let mut keys = Keys::new(case.clone());
            keys.drop(&["name"]);
            let checked = check(&name, &mut keys).and_then(|found| keys.finish().map(|()| found));
            Case::new(name, limit(case), checked)
        });
        each.collect()
    }

    /// A case that fails for every key of the JSON file that is not one of these, but prose.
    #[must_use]
    pub fn unknown(&self, known: &[&str]) -> Vec<Case> {
        let unknown = self
            .json
            .iter()
            .filter(|(key, value)| !known.contains(&key.as_str()) && !is_prose(value));
        let fail = |(key, _)| {
            let problem = anyhow::anyhow!("no part of this set that is known");
            Case::new(key, 0.0, Err(problem))
        };
        unknown.map(fail).collect()
    }
}

fn read_tensors(file: &Path) -> anyhow::Result<HashMap<String, Series>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let read = SafeTensors::deserialize(&bytes).with_context(|| file.display().to_string())?;
    let series = read.iter().map(|(name, view)| {
        let series = Series::read(view.dtype(), view.shape(), view.data());
        Ok((
            name.to_owned(),
            series.with_context(|| format!("tensor {name}"))?,
        ))
    });
    series.collect()
}

/// Whether a value is words for a reader, however arranged.
fn is_prose(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(list) => list.iter().all(Value::is_string),
        Value::Object(keys) => keys.values().all(Value::is_string),
        _ => false,
    }
}

impl Series {
    fn read(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> anyhow::Result<Self> {
        let values = match dtype {
            Dtype::F32 => {
                let (each, _) = bytes.as_chunks();
                each.iter()
                    .map(|&bytes| f64::from(f32::from_le_bytes(bytes)))
                    .collect()
            }
            Dtype::F64 => {
                let (each, _) = bytes.as_chunks();
                each.iter()
                    .map(|&bytes| f64::from_le_bytes(bytes))
                    .collect()
            }
            Dtype::I32 => {
                let (each, _) = bytes.as_chunks();
                each.iter()
                    .map(|&bytes| f64::from(i32::from_le_bytes(bytes)))
                    .collect()
            }
            Dtype::U8 => bytes.iter().map(|&byte| f64::from(byte)).collect(),
            other => bail!("is of {other:?}; expected F32, F64, I32 or U8"),
        };
        Ok(Self {
            shape: shape.to_vec(),
            values,
            is_bytes: dtype == Dtype::U8,
        })
    }

    /// How many tensors follow each other.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// One of them.
    ///
    /// # Errors   if there are fewer
    pub fn at(&self, index: usize) -> anyhow::Result<&[f64]> {
        let size = self
            .shape
            .get(1..)
            .unwrap_or_default()
            .iter()
            .product::<usize>();
        let found = self.values.get(index * size..(index + 1) * size);
        found.with_context(|| format!("there are {} tensors, no number {index}", self.len()))
    }

    /// The whole as images.
    ///
    /// # Errors   unless it has four dimensions
    pub fn images(&self, dtype: DType) -> anyhow::Result<Tensor<4>> {
        let shape: [usize; 4] = self
            .shape
            .as_slice()
            .try_into()
            .context("is no batch of images")?;
        Ok(images(&self.values, shape, dtype))
    }
}

/// A path with one more extension, dots in its name left alone.
fn with(path: &Path, extension: &str) -> PathBuf {
    PathBuf::from(format!("{}.{extension}", path.display()))
}

/// The whole as a tensor.
///
/// # Errors   unless it has so many dimensions
pub fn tensor<const D: usize>(series: &Series, device: &Device) -> anyhow::Result<Tensor<D>> {
    let shape: [usize; D] = series
        .shape
        .as_slice()
        .try_into()
        .with_context(|| format!("has not {D} dimensions"))?;
    let values: Vec<f32> = series.values.iter().map(|&value| value as f32).collect();
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

/// Values as images.
#[must_use]
pub fn images(values: &[f64], shape: [usize; 4], dtype: DType) -> Tensor<4> {
    let data = TensorData::new(values.to_vec(), shape);
    Tensor::from_data(data, (&Device::flex(), dtype))
}

/// The values of images.
///
/// # Errors   if the device fails
pub fn values(x: &Tensor<4>) -> anyhow::Result<Vec<f64>> {
    let data = x.clone().try_into_data();
    let data = data.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(data.iter::<f64>().collect())
}
