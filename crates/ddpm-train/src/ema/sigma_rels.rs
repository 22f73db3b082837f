//! The lengths of the averages that are tracked.

use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

/// The most averages that are tracked at a time: each is one more copy of the weights.
pub const MOST: usize = 8;

/// A short list of σ_rel.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct SigmaRels {
    values: [f64; MOST],
    count: usize,
}

impl SigmaRels {
    /// A list of these, if they are not too many.
    #[must_use]
    pub fn new(values: &[f64]) -> Option<Self> {
        let mut list = Self::default();
        list.values.get_mut(..values.len())?.copy_from_slice(values);
        list.count = values.len();
        Some(list)
    }

    pub(super) fn is_none(&self) -> bool {
        self.is_empty()
    }
}

impl Deref for SigmaRels {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values[..self.count]
    }
}

impl std::fmt::Debug for SigmaRels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.deref().fmt(f)
    }
}

impl Serialize for SigmaRels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for SigmaRels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<f64>::deserialize(deserializer)?;
        let most = format!("at most {MOST} numbers, since each is one more copy of the weights");
        Self::new(&values).ok_or_else(|| D::Error::invalid_length(values.len(), &&*most))
    }
}
