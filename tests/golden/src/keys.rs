//! Taking an object apart, key by key: what nobody asks for is an error.

use anyhow::{Context, bail};
use serde_json::{Map, Value};

/// An object's keys, taken out one by one, so that the rest is what nobody knows.
#[derive(Default)]
pub struct Keys(Map<String, Value>);

impl Keys {
    /// All keys of an object.
    #[must_use]
    pub fn new(keys: Map<String, Value>) -> Self {
        Self(keys)
    }

    /// What is left of them.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// `null` means the default, as a missing key does.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// A value that is left for another to take.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    fn typed<T>(
        &mut self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> anyhow::Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(unsupported(key, &value, expected)),
        }
    }

    /// A number; infinities are words in JSON.
    ///
    /// # Errors   for anything else
    pub fn number(&mut self, key: &str) -> anyhow::Result<Option<f64>> {
        self.typed(key, "a number", number)
    }

    /// A whole number from 0.
    ///
    /// # Errors   for anything else
    pub fn count(&mut self, key: &str) -> anyhow::Result<Option<usize>> {
        self.typed(key, "a whole number", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    /// True or false.
    ///
    /// # Errors   for anything else
    pub fn boolean(&mut self, key: &str) -> anyhow::Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A word.
    ///
    /// # Errors   for anything else
    pub fn text(&mut self, key: &str) -> anyhow::Result<Option<String>> {
        self.typed(key, "a name in quotes", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    /// A list of numbers.
    ///
    /// # Errors   for anything else
    pub fn numbers(&mut self, key: &str) -> anyhow::Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(number).collect()
        })
    }

    /// A list of whole numbers from 0.
    ///
    /// # Errors   for anything else
    pub fn counts(&mut self, key: &str) -> anyhow::Result<Option<Vec<usize>>> {
        let count = |value: &Value| usize::try_from(value.as_u64()?).ok();
        self.typed(key, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(count).collect()
        })
    }

    /// An object within.
    ///
    /// # Errors   for anything else
    pub fn object(&mut self, key: &str) -> anyhow::Result<Option<Keys>> {
        self.typed(key, "an object", |value| {
            value.as_object().cloned().map(Self)
        })
    }

    /// Passes over keys that say nothing of the figures.
    pub fn drop(&mut self, keys: &[&str]) {
        for key in keys {
            self.0.remove(*key);
        }
    }

    /// Refuses keys that nobody has asked for.
    ///
    /// # Errors   naming them
    pub fn finish(&self) -> anyhow::Result<()> {
        let unknown: Vec<&str> = self.0.keys().map(String::as_str).collect();
        match unknown.is_empty() {
            true => Ok(()),
            false => bail!("has keys without a meaning here: {}", unknown.join(", ")),
        }
    }
}

/// What must be there.
///
/// # Errors   naming the key if it is not
pub fn needed<T>(found: anyhow::Result<Option<T>>, key: &str) -> anyhow::Result<T> {
    found?.with_context(|| format!("`{key}` is missing"))
}

/// The refusal of a value, as JSON in the message.
pub fn unsupported(key: &str, value: &Value, supported: &str) -> anyhow::Error {
    anyhow::anyhow!("{key} is {value}; expected {supported}")
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("inf" | "Infinity") => Some(f64::INFINITY),
        Some("-inf" | "-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}
