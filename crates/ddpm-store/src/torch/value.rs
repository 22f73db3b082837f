//! A value of a pickle, looked at by key.

use super::TorchFile;
use super::input::Input;
use super::pickle::{Id, Made, Node};

/// More than any arguments have.
const MAX_JSON_VALUES: usize = 10_000;

/// A value of a [`TorchFile`].
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    pub(super) file: &'a TorchFile,
    id: Id,
}

/// What NVIDIA's `torch_utils.persistence` makes objects with: a class's source text, which is not run, and its state.
const PERSISTENT: &str = "torch_utils.persistence._reconstruct_persistent_obj";

impl<'a> Value<'a> {
    pub(super) fn new(file: &'a TorchFile, id: Id) -> Self {
        Self { file, id }
    }

    pub(super) fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    pub(super) fn node(self) -> &'a Node {
        self.file.content.pickle.node(self.id)
    }

    fn made(self) -> Option<&'a Made> {
        match self.node() {
            Node::Made(made) => Some(made),
            _ => None,
        }
    }

    /// An entry of a dict by its key, or an attribute of an object by its name.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Self> {
        let pickle = &self.file.content.pickle;
        let of = |entries: &[(Id, Id)]| {
            // A later entry replaces an earlier one.
            let found = entries
                .iter()
                .rfind(|(name, _)| pickle.text(*name) == Some(key));
            found.map(|&(_, value)| self.at(value))
        };
        match self.node() {
            Node::Dict(entries) => of(entries),
            Node::Made(made) => of(&made.entries).or_else(|| match self.state()?.node() {
                Node::Dict(entries) => of(entries),
                _ => None,
            }),
            _ => None,
        }
    }

    /// The keys of a dict that are texts, in its order.
    #[must_use]
    pub fn keys(self) -> Vec<&'a str> {
        let entries = match self.node() {
            Node::Dict(entries) => entries.as_slice(),
            Node::Made(made) => made.entries.as_slice(),
            _ => &[],
        };
        let pickle = &self.file.content.pickle;
        entries
            .iter()
            .filter_map(|&(key, _)| pickle.text(key))
            .collect()
    }

    /// The attributes of an object.
    fn state(self) -> Option<Self> {
        let made = self.made()?;
        match self.persistent() {
            Some(description) => description.get("state"),
            None => made.state.map(|state| self.at(state)),
        }
    }

    /// What an object of `torch_utils.persistence` is made of.
    fn persistent(self) -> Option<Self> {
        let pickle = &self.file.content.pickle;
        let made = self.made()?;
        (pickle.global(made.maker) == Some(PERSISTENT))
            .then(|| pickle.sequence(made.arguments).first())?
            .map(|&description| self.at(description))
    }

    /// The name of an object's class, without its module.
    #[must_use]
    pub fn class(self) -> Option<&'a str> {
        if let Some(description) = self.persistent() {
            return description.get("class_name")?.text();
        }
        let whole = self.file.content.pickle.global(self.made()?.maker)?;
        whole.rsplit('.').next()
    }

    /// A text.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        self.file.content.pickle.text(self.id)
    }

    /// An integer.
    #[must_use]
    pub fn int(self) -> Option<i64> {
        self.file.content.pickle.int(self.id)
    }

    /// True or false.
    #[must_use]
    pub fn bool(self) -> Option<bool> {
        match *self.node() {
            Node::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Python's `None`.
    #[must_use]
    pub fn is_none(self) -> bool {
        matches!(self.node(), Node::None)
    }

    /// A number of any kind, also one of NumPy's.
    #[must_use]
    pub fn float(self) -> Option<f64> {
        match *self.node() {
            Node::Int(number) => Some(number as f64),
            Node::Float(number) => Some(number),
            _ => self.numpy(),
        }
    }

    /// `numpy.core.multiarray.scalar(dtype('f8'), bytes)`, bytes as they are or as the text that protocol 2 makes of them.
    fn numpy(self) -> Option<f64> {
        let pickle = &self.file.content.pickle;
        let made = self.made()?;
        if !pickle.global(made.maker)?.ends_with(".multiarray.scalar") {
            return None;
        }
        let &[kind, bytes] = pickle.sequence(made.arguments) else {
            return None;
        };
        let kind = pickle.sequence(self.at(kind).made()?.arguments).first()?;
        let bytes: Vec<u8> = match pickle.node(bytes) {
            Node::Bytes(place) if place.end - place.start <= 8 => {
                let input = Input::new(&self.file.path, &self.file.file, (**place).clone());
                input
                    .and_then(|mut input| input.bytes(input.rest() as usize))
                    .ok()?
            }
            Node::Made(made) if pickle.global(made.maker) == Some("_codecs.encode") => {
                let text = pickle.text(*pickle.sequence(made.arguments).first()?)?;
                text.chars()
                    .map(|letter| u8::try_from(letter).ok())
                    .collect::<Option<_>>()?
            }
            // Of Python 2.
            Node::Text(text) => text.as_bytes().to_vec(),
            _ => return None,
        };
        match pickle.text(*kind)? {
            "f8" => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
            "f4" => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            "i8" => Some(i64::from_le_bytes(bytes.try_into().ok()?) as f64),
            "i4" => Some(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            _ => None,
        }
    }

    /// Nested dicts and lists of plain values as JSON; `None` for tensors, objects, numbers that are not finite and what is
    /// nested deeper than any arguments are.
    #[must_use]
    pub fn json(self) -> Option<serde_json::Value> {
        let mut values = MAX_JSON_VALUES;
        self.json_within(&mut values, 8)
    }

    fn json_within(self, values: &mut usize, depth: usize) -> Option<serde_json::Value> {
        *values = values.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        Some(match self.node() {
            Node::None => serde_json::Value::Null,
            Node::Bool(value) => (*value).into(),
            Node::Int(number) => (*number).into(),
            Node::Text(text) => (**text).into(),
            Node::Sequence(elements) => {
                let elements = elements.iter().map(|&element| self.at(element));
                elements
                    .map(|element| element.json_within(values, depth))
                    .collect::<Option<_>>()?
            }
            Node::Dict(entries) => {
                let pickle = &self.file.content.pickle;
                let entry = |&(key, value): &(Id, Id)| {
                    Some((
                        pickle.text(key)?.to_owned(),
                        self.at(value).json_within(values, depth)?,
                    ))
                };
                entries
                    .iter()
                    .map(entry)
                    .collect::<Option<serde_json::Map<_, _>>>()?
                    .into()
            }
            _ => serde_json::Number::from_f64(self.float()?)?.into(),
        })
    }

    /// The elements of a list, tuple or set; none of anything else.
    #[must_use]
    pub fn elements(self) -> Vec<Self> {
        let elements = self.file.content.pickle.sequence(self.id);
        elements.iter().map(|&element| self.at(element)).collect()
    }
}
