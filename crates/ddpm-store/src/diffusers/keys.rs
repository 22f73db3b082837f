//! Taking a foreign configuration apart, key by key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Result, StoreError, excerpt};

/// A configuration's keys, taken out one by one, so that the rest is what nobody has asked for.
pub(super) struct Keys<'a> {
    pub(super) path: &'a Path,
    pub(super) keys: Map<String, Value>,
}

impl Keys<'_> {
    /// `null` means the default, as a missing key does.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    /// Whether there is such a key, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    fn typed<T>(
        &mut self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.refusal(key, &value, expected)),
        }
    }

    /// A number; infinities are words in JSON.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", number)
    }

    /// A whole number from 0.
    pub(super) fn count(&mut self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number", count)
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.typed(key, "a name in quotes", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    pub(super) fn numbers(&mut self, key: &str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(number).collect()
        })
    }

    pub(super) fn counts(&mut self, key: &str) -> Result<Option<Vec<usize>>> {
        self.typed(key, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(count).collect()
        })
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Map<String, Value>>> {
        self.typed(key, "an object", |value| value.as_object().cloned())
    }

    /// Passes over keys that say nothing here.
    pub(super) fn drop(&mut self, keys: &[&str]) {
        for key in keys {
            self.keys.remove(*key);
        }
    }

    /// The refusal of a value, as JSON in the message.
    pub(super) fn refusal(&self, key: &str, value: &Value, supported: &'static str) -> StoreError {
        unsupported(self.path, key, value, supported)
    }

    /// What was made of the keys, or why nothing can be.
    pub(super) fn made<T, E: ToString>(&self, made: Result<T, E>) -> Result<T> {
        made.map_err(|error| StoreError::format(self.path, "scheduler configuration", error))
    }
}

/// The refusal of a value, as JSON in the message.
pub(super) fn unsupported(
    path: &Path,
    key: &str,
    value: &Value,
    supported: &'static str,
) -> StoreError {
    StoreError::Unsupported {
        path: path.to_owned(),
        key: excerpt(key),
        value: excerpt(&value.to_string()),
        supported,
    }
}

fn count(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("inf" | "Infinity") => Some(f64::INFINITY),
        Some("-inf" | "-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}
