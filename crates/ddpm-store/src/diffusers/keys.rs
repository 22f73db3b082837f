//! Taking a foreign configuration apart, key by key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Result, StoreError, excerpt};

/// A configuration's keys, taken out one by one, so that the rest is what nobody knows.
pub(super) struct Keys<'a> {
    pub(super) path: &'a Path,
    pub(super) keys: Map<String, Value>,
}

impl Keys<'_> {
    /// `null` means the default, as a missing key does.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(unsupported(self.path, key, &value, expected)),
        }
    }

    pub(super) fn number(&mut self, key: &'static str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(super) fn count(&mut self, key: &'static str) -> Result<Option<usize>> {
        self.typed(key, "a whole number", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        self.typed(key, "a name in quotes", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    pub(super) fn numbers(&mut self, key: &'static str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })
    }

    /// Warns of the keys that nobody has asked for.
    pub(super) fn finish(self, harmless: &[&str]) {
        // Keys with an underscore say who wrote the file.
        let unknown: Vec<_> = self
            .keys
            .keys()
            .filter(|key| !key.starts_with('_') && !harmless.contains(&key.as_str()))
            .collect();
        if !unknown.is_empty() {
            let unknown = excerpt(&format!("{unknown:?}"));
            tracing::warn!(path = %self.path.display(), unknown, "passing over unknown scheduler keys, as diffusers does");
        }
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
