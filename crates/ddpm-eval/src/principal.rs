//! The directions in which a set varies most.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par, Side};

use crate::error::EvalError;
use crate::rows::Rows;

/// Images that the directions are found from.
const MOST: usize = 4096;

/// A centre and directions of length 1 through it.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// `[dim]`
    pub centre: Vec<f64>,
    /// `[dim, components]`
    pub directions: Mat<f64>,
}

impl Principal {
    /// The first `components` principal components of up to 4,096 of the rows, spread evenly.
    ///
    /// # Errors   [`EvalError::Eigenvalues`]
    pub fn of(rows: &Rows, components: usize) -> Result<Self, EvalError> {
        let rows = rows.spread(MOST);
        let (n, dim) = (rows.count(), rows.dim());
        let centre = rows.mean();
        // [dim, n]
        let centred = rows.columns(Some(&centre));
        // Of X·Xᵀ and Xᵀ·X the smaller one: they have the same eigenvalues but for zeros.
        let few = n < dim;
        let side = n.min(dim);
        let mut products = Mat::<f64>::zeros(side, side);
        let all = Par::rayon(0);
        match few {
            true => matmul(
                &mut products,
                Accum::Replace,
                centred.transpose(),
                &centred,
                1.0,
                all,
            ),
            false => matmul(
                &mut products,
                Accum::Replace,
                &centred,
                centred.transpose(),
                1.0,
                all,
            ),
        }
        let found = products.self_adjoint_eigen(Side::Lower);
        let found = found.map_err(|_| EvalError::Eigenvalues { dim })?;
        let kept = components.min(side);
        // The eigenvalues come in rising order.
        let vectors = Mat::from_fn(side, kept, |i, j| found.U()[(i, side - 1 - j)]);
        let directions = match few {
            false => vectors,
            true => {
                let mut longer = Mat::<f64>::zeros(dim, kept);
                matmul(&mut longer, Accum::Replace, &centred, &vectors, 1.0, all);
                for column in longer.col_iter_mut() {
                    let length = column.norm_l2().max(f64::MIN_POSITIVE);
                    column.iter_mut().for_each(|x| *x /= length);
                }
                longer
            }
        };
        Ok(Self { centre, directions })
    }

    /// Each row by how far it lies from the centre in each direction.
    ///
    /// # Errors   [`EvalError::Shape`] for rows of another length
    pub fn project(&self, rows: &Rows) -> Result<Rows, EvalError> {
        if rows.dim() != self.centre.len() {
            return Err(EvalError::Shape {
                what: "features",
                expected: format!("the reference's {}", self.centre.len()),
                got: format!("{}", rows.dim()),
            });
        }
        let kept = self.directions.ncols();
        let mut projected = Mat::<f64>::zeros(kept, rows.count());
        matmul(
            &mut projected,
            Accum::Replace,
            self.directions.transpose(),
            rows.columns(Some(&self.centre)),
            1.0,
            Par::rayon(0),
        );
        let values = (0..rows.count())
            .flat_map(|image| projected.col_as_slice(image).iter().map(|&x| x as f32));
        Rows::new(values.collect(), kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_direction_comes_first_with_many_and_with_few_images() {
        // Along (3, 4)/5 with a little across.
        let point = |i: usize| {
            let (along, across) = (i as f32 - 4.0, if i.is_multiple_of(2) { 0.1 } else { -0.1 });
            [0.6 * along - 0.8 * across, 0.8 * along + 0.6 * across, 0.0]
        };
        for n in [9, 2] {
            let rows = Rows::new((0..n).flat_map(point).collect(), 3).unwrap();
            let found = Principal::of(&rows, 1).unwrap();
            let direction = [found.directions[(0, 0)], found.directions[(1, 0)]];
            let along = (0.6 * direction[0] + 0.8 * direction[1]).abs();
            assert!(along > 0.97, "{n}: {direction:?}");
            let projected = found.project(&rows).unwrap();
            assert_eq!((projected.count(), projected.dim()), (n, 1));
        }
    }
}
