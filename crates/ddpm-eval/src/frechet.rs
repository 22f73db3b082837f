//! The Fréchet distance of two normal distributions (Dowson & Landau 1982; Heusel et al. 2017 for features of Inception: FID).
//!
//! d² = |μ₁ - μ₂|² + tr(C₁ + C₂ - 2·(C₁·C₂)^½)
//!
//! The trace of the root is that of the symmetric C₁^½·C₂·C₁^½, which has the same eigenvalues and no imaginary parts.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par, Side};

use crate::error::EvalError;
use crate::moments::Moments;

/// One side of a distance, with what is computed once.
#[derive(Debug, Clone)]
pub struct FrechetReference<'a> {
    moments: &'a Moments,
    /// S with C = S·Sᵀ: the eigenvectors, each times the root of its eigenvalue.
    root: Mat<f64>,
}

impl<'a> FrechetReference<'a> {
    /// # Errors   [`EvalError::Eigenvalues`] if the covariance has none
    pub fn new(moments: &'a Moments) -> Result<Self, EvalError> {
        let dim = moments.dim();
        let found = moments.covariance.self_adjoint_eigen(Side::Lower);
        let found = found.map_err(|_| EvalError::Eigenvalues { dim })?;
        let (vectors, values) = (found.U(), found.S());
        // A covariance of fewer images than dimensions has eigenvalues of about -1e-16.
        let root = Mat::from_fn(dim, dim, |i, j| vectors[(i, j)] * values[j].max(0.0).sqrt());
        Ok(Self { moments, root })
    }

    /// The squared distance, as FID has it.
    ///
    /// # Errors   [`EvalError::Shape`] if the features differ in number, [`EvalError::Eigenvalues`]
    pub fn distance(&self, other: &Moments) -> Result<f64, EvalError> {
        let dim = self.moments.dim();
        if other.dim() != dim {
            return Err(EvalError::Shape {
                what: "features",
                expected: format!("the reference's {dim}"),
                got: format!("{}", other.dim()),
            });
        }
        // Sᵀ·C₂·S has the eigenvalues of C₁^½·C₂·C₁^½.
        let mut half = Mat::<f64>::zeros(dim, dim);
        let all = Par::rayon(0);
        matmul(
            &mut half,
            Accum::Replace,
            &other.covariance,
            &self.root,
            1.0,
            all,
        );
        let mut product = Mat::<f64>::zeros(dim, dim);
        matmul(
            &mut product,
            Accum::Replace,
            self.root.transpose(),
            &half,
            1.0,
            all,
        );
        let values = product.self_adjoint_eigenvalues(Side::Lower);
        let values = values.map_err(|_| EvalError::Eigenvalues { dim })?;
        let cross: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
        let means = self.moments.mean.iter().zip(&other.mean);
        let means: f64 = means.map(|(a, b)| (a - b).powi(2)).sum();
        let traces = trace(&self.moments.covariance) + trace(&other.covariance);
        Ok(means + traces - 2.0 * cross)
    }
}

/// The squared distance of two sets of features.
///
/// # Errors   as [`FrechetReference::distance`]
pub fn frechet_distance(a: &Moments, b: &Moments) -> Result<f64, EvalError> {
    FrechetReference::new(a)?.distance(b)
}

fn trace(matrix: &Mat<f64>) -> f64 {
    (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagonal(mean: [f64; 2], variances: [f64; 2]) -> Moments {
        Moments {
            count: None,
            mean: mean.to_vec(),
            covariance: Mat::from_fn(2, 2, |i, j| if i == j { variances[i] } else { 0.0 }),
        }
    }

    #[test]
    fn distance_of_independent_features_is_the_sum_of_each() {
        let a = diagonal([1.0, 0.0], [4.0, 9.0]);
        let b = diagonal([0.0, 2.0], [1.0, 16.0]);
        // (1 + 4) + (2 - 1)² + (3 - 4)²
        let found = frechet_distance(&a, &b).unwrap();
        assert!((found - 7.0).abs() < 1e-12, "{found}");
        assert!(frechet_distance(&a, &a).unwrap().abs() < 1e-12);
    }

    #[test]
    fn a_singular_covariance_has_a_distance() {
        let a = diagonal([0.0, 0.0], [1.0, 0.0]);
        let b = diagonal([0.0, 0.0], [0.0, 1.0]);
        assert!((frechet_distance(&a, &b).unwrap() - 2.0).abs() < 1e-12);
    }
}
