//! Mean and covariance of features.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

use crate::error::EvalError;
use crate::rows::Rows;

/// Rows that are added to the covariance at a time.
const BLOCK: usize = 1024;

/// Mean and covariance of the features of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// How many images they are of, where that is known.
    pub count: Option<usize>,
    /// `[dim]`
    pub mean: Vec<f64>,
    /// `[dim, dim]`, divided by n - 1
    pub covariance: Mat<f64>,
}

impl Moments {
    /// Of the rows of a set.
    ///
    /// # Errors   [`EvalError::Few`] for less than two
    pub fn of(rows: &Rows, of: &'static str) -> Result<Self, EvalError> {
        Self::weighted(rows, None, of)
    }

    /// Of rows of which each is there as often as `times` says.
    pub(crate) fn weighted(
        rows: &Rows,
        times: Option<&[u32]>,
        of: &'static str,
    ) -> Result<Self, EvalError> {
        let (n, dim) = (rows.count(), rows.dim());
        if n < 2 {
            return Err(EvalError::Few {
                figure: "the Fréchet distance",
                needed: 2,
                got: n,
                of,
            });
        }
        let mean = match times {
            None => rows.mean(),
            Some(times) => weighted_mean(rows, times),
        };
        let mut covariance = Mat::<f64>::zeros(dim, dim);
        let kept: Vec<usize> = match times {
            None => (0..n).collect(),
            Some(times) => (0..n).filter(|&i| times[i] > 0).collect(),
        };
        for block in kept.chunks(BLOCK) {
            let columns = Mat::from_fn(dim, block.len(), |feature, at| {
                let image = block[at];
                let weight = times.map_or(1.0, |times| f64::from(times[image]).sqrt());
                (f64::from(rows.row(image)[feature]) - mean[feature]) * weight
            });
            matmul(
                &mut covariance,
                Accum::Add,
                &columns,
                columns.transpose(),
                1.0 / (n as f64 - 1.0),
                Par::rayon(0),
            );
        }
        Ok(Self {
            count: Some(n),
            mean,
            covariance,
        })
    }

    /// How many features there are.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Whether there are too few images to fill all dimensions: the covariance is then singular.
    #[must_use]
    pub fn is_singular(&self) -> bool {
        self.count.is_some_and(|count| count <= self.dim())
    }
}

fn weighted_mean(rows: &Rows, times: &[u32]) -> Vec<f64> {
    let mut sums = vec![0.0; rows.dim()];
    for (image, &times) in times.iter().enumerate().filter(|(_, times)| **times > 0) {
        for (sum, &value) in sums.iter_mut().zip(rows.row(image)) {
            *sum += f64::from(times) * f64::from(value);
        }
    }
    let n = rows.count() as f64;
    sums.iter().map(|sum| sum / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_their_definition() {
        let rows = Rows::new(vec![1.0, 2.0, 3.0, 6.0, 5.0, 1.0], 2).unwrap();
        let found = Moments::of(&rows, "generated").unwrap();
        assert_eq!(found.mean, [3.0, 3.0]);
        let expected = [[4.0, -1.0], [-1.0, 7.0]];
        for (i, row) in expected.iter().enumerate() {
            for (j, expected) in row.iter().enumerate() {
                assert!((found.covariance[(i, j)] - expected).abs() < 1e-12);
            }
        }
        assert!(!found.is_singular());
        assert!(Moments::of(&rows.select(&[0]), "generated").is_err());
    }

    #[test]
    fn a_row_that_is_there_twice_counts_twice() {
        let rows = Rows::new(vec![1.0, 2.0, 3.0, 6.0, 5.0, 1.0], 2).unwrap();
        let twice = Moments::of(&rows.select(&[0, 0, 2]), "generated").unwrap();
        let weighted = Moments::weighted(&rows, Some(&[2, 0, 1]), "generated").unwrap();
        assert_eq!(twice.mean, weighted.mean);
        assert!((&twice.covariance - &weighted.covariance).norm_max() < 1e-12);
    }
}
