//! Features of images: one row of numbers an image.

use faer::Mat;
use rayon::prelude::*;

use crate::error::EvalError;

/// One row an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// `[n, dim]`, row-major
    values: Vec<f32>,
    dim: usize,
}

impl Rows {
    /// # Shapes   `values`: `[n, dim]`
    ///
    /// # Errors   [`EvalError::Shape`] if they are not whole rows
    pub fn new(values: Vec<f32>, dim: usize) -> Result<Self, EvalError> {
        match dim > 0 && values.len().is_multiple_of(dim) {
            true => Ok(Self { values, dim }),
            false => Err(EvalError::Shape {
                what: "features",
                expected: format!("rows of {dim} numbers"),
                got: format!("{} numbers", values.len()),
            }),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Numbers in a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `[n, dim]`, row-major.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One row.
    ///
    /// # Panics   if there is no row of that number
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// Appends the rows of another, or becomes it if it has none.
    ///
    /// # Errors   [`EvalError::Shape`] if they are of another length
    pub fn append(&mut self, other: Self) -> Result<(), EvalError> {
        if self.values.is_empty() {
            *self = other;
            return Ok(());
        }
        if other.dim != self.dim {
            return Err(EvalError::Shape {
                what: "features",
                expected: format!("rows of {} numbers", self.dim),
                got: format!("{}", other.dim),
            });
        }
        self.values.extend(other.values);
        Ok(())
    }

    /// Some of the rows, in the order given.
    ///
    /// # Panics   if there is no row of one of these numbers
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            values: indices.iter().flat_map(|&i| self.row(i)).copied().collect(),
            dim: self.dim,
        }
    }

    /// At most `most` rows, spread evenly over all.
    #[must_use]
    pub fn spread(&self, most: usize) -> Self {
        match self.count() <= most {
            true => self.clone(),
            false => self.select(&spread(self.count(), most)),
        }
    }

    /// Refuses features that no figure can be made of. `of` says whose they are.
    ///
    /// # Errors   [`EvalError::NotFinite`]
    pub fn check(&self, of: &'static str) -> Result<(), EvalError> {
        match self.values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(EvalError::NotFinite {
                image: at / self.dim,
                feature: at % self.dim,
                of,
            }),
            None => Ok(()),
        }
    }

    /// The rows as columns of a matrix of f64, `[dim, n]`, each less `centre`.
    pub(crate) fn columns(&self, centre: Option<&[f64]>) -> Mat<f64> {
        Mat::from_fn(self.dim, self.count(), |feature, image| {
            f64::from(self.values[image * self.dim + feature])
                - centre.map_or(0.0, |centre| centre[feature])
        })
    }

    /// The mean of each number over the rows.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        // Each sum goes through the rows in order, whichever thread has it.
        let n = self.count() as f64;
        let sum = |feature: usize| {
            let of_rows = self.values.iter().skip(feature).step_by(self.dim);
            of_rows.map(|&value| f64::from(value)).sum::<f64>() / n
        };
        (0..self.dim).into_par_iter().map(sum).collect()
    }
}

/// `most` numbers below `count`, spread evenly.
#[must_use]
pub fn spread(count: usize, most: usize) -> Vec<usize> {
    let taken = most.min(count);
    (0..taken).map(|i| i * count / taken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_evenly_and_appended_in_order() {
        let mut rows = Rows::new((0..10).map(|x| x as f32).collect(), 2).unwrap();
        assert_eq!((rows.count(), rows.row(3)), (5, &[6.0, 7.0][..]));
        assert_eq!(rows.spread(2).values(), [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(rows.spread(9), rows);
        assert_eq!(rows.mean(), [4.0, 5.0]);
        rows.append(Rows::new(vec![1.0, 2.0], 2).unwrap()).unwrap();
        assert_eq!(rows.row(5), [1.0, 2.0]);
        assert!(rows.append(Rows::new(vec![1.0; 3], 3).unwrap()).is_err());
        assert!(Rows::new(vec![1.0; 3], 2).is_err());
    }

    #[test]
    fn features_that_are_not_finite_are_named() {
        let rows = Rows::new(vec![0.0, 1.0, 2.0, f32::NAN], 2).unwrap();
        let refused = rows.check("generated").unwrap_err().to_string();
        assert!(refused.contains("feature 1 of image 1"), "{refused}");
    }
}
