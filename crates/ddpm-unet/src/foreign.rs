//! Networks of other programs as networks of this crate: pure functions on named tensors, which know no files.

pub mod edm;
pub mod lucidrains;
pub mod openai;

use std::collections::BTreeMap;

use crate::error::{UnetError, excerpt};

/// A tensor's name, its shape and its values, row by row.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// The tensors of a file, from which each is taken once.
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    /// # Errors   [`UnetError::Foreign`] for a tensor whose shape is not that of its values, or that comes twice
    fn new(tensors: impl IntoIterator<Item = Named>) -> Result<Self, UnetError> {
        let mut all = BTreeMap::new();
        for (name, shape, data) in tensors {
            if shape
                .iter()
                .try_fold(1usize, |n, side| n.checked_mul(*side))
                != Some(data.len())
            {
                let problem = format!("has {} values and the shape {shape:?}", data.len());
                return Err(wrong(&name, problem));
            }
            if all.insert(name.clone(), (shape, data)).is_some() {
                return Err(wrong(&name, "is there twice".into()));
            }
        }
        Ok(Self(all))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// # Errors   [`UnetError::Foreign`] if there is none
    fn shape(&self, name: &str) -> Result<&[usize], UnetError> {
        match self.0.get(name) {
            Some((shape, _)) => Ok(shape),
            None => Err(wrong(name, "is missing".into())),
        }
    }

    /// # Errors   [`UnetError::Foreign`] if there is none, or one of another rank
    fn sides<const D: usize>(&self, name: &str) -> Result<[usize; D], UnetError> {
        let shape = self.shape(name)?;
        shape.try_into().map_err(|_| {
            let problem = format!("has the shape {shape:?}; expected {D} dimensions");
            wrong(name, problem)
        })
    }

    /// # Errors   [`UnetError::Foreign`] if there is none
    fn take(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>), UnetError> {
        let found = self.0.remove(name);
        found.ok_or_else(|| wrong(name, "is missing".into()))
    }

    /// # Errors   [`UnetError::Foreign`] for the first tensor that nobody took
    fn finish(self, of: &str) -> Result<(), UnetError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(wrong(&name, format!("is no tensor of {of}"))),
        }
    }
}

/// What is wrong with a tensor of another program.
fn wrong(name: &str, problem: String) -> UnetError {
    UnetError::Foreign {
        name: excerpt(name),
        problem,
    }
}
