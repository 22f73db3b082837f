//! What a batch is trained towards, as tensors of its device.

use burn::tensor::Tensor;

use super::Objective;
use crate::bound::{BoundRows, ROWS};

/// What an output is compared with.
#[derive(Debug, Clone)]
pub struct Target {
    /// What the network should output: `[batch, channels, height, width]`.
    pub value: Tensor<4>,
    /// How much the error of each image counts: `[batch]`.
    pub weights: Tensor<1>,
    /// What the loss of an image counts besides in the mean, where times are drawn by their losses: `[batch]`.
    pub counts: Option<Tensor<1>>,
    /// The logarithm of each image's uncertainty, where it is learned: `[batch]`.
    pub uncertainty: Option<Tensor<1>>,
    /// What the variational bound is made of, where it is in the loss.
    pub bound: Option<BoundTarget>,
}

/// What the variational bound of a batch is made of.
#[derive(Debug, Clone)]
pub struct BoundTarget {
    /// The images: `[batch, channels, height, width]`.
    pub x0: Tensor<4>,
    /// The noisy ones: the same.
    pub x: Tensor<4>,
    /// c_skip and c_out of each image: `[batch, 1, 1, 1]`.
    pub c_skip: Tensor<4>,
    /// See `c_skip`.
    pub c_out: Tensor<4>,
    /// Of each image's time step.
    pub rows: BoundRows,
}

/// The loss of a batch.
#[derive(Debug, Clone)]
pub struct LossOut {
    /// The mean of `per_image`, as they count: `[1]`.
    pub loss: Tensor<1>,
    /// The loss of each image, weight included: `[batch]`, without gradient.
    pub per_image: Tensor<1>,
}

impl Target {
    /// Everything that an output is compared with, images and rows of numbers apart: for devices that record a step.
    ///
    /// # Shapes   `[batch, channels, height, width]` and `[batch]`, as many as [`Objective::target_of`] takes
    #[must_use]
    pub fn into_parts(self) -> (Vec<Tensor<4>>, Vec<Tensor<1>>) {
        let (mut images, mut rows) = (vec![self.value], vec![self.weights]);
        rows.extend(self.counts);
        rows.extend(self.uncertainty);
        if let Some(bound) = self.bound {
            let BoundRows {
                x0_coef,
                x_coef,
                log_small,
                log_large,
                first,
            } = bound.rows;
            images.extend([bound.x0, bound.x]);
            let all = [
                bound.c_skip,
                bound.c_out,
                x0_coef,
                x_coef,
                log_small,
                log_large,
                first,
            ];
            rows.extend(all.map(|row| {
                let [batch, ..] = row.dims();
                row.reshape([batch])
            }));
        }
        (images, rows)
    }
}

impl Objective {
    /// How many images and rows of numbers [`Target::into_parts`] gives.
    #[must_use]
    pub fn target_parts(&self) -> (usize, usize) {
        let config = self.config();
        let learned = [config.importance.is_some(), config.uncertainty.is_some()];
        let rows = 1 + learned.into_iter().filter(|is| *is).count();
        match self.has_bound() {
            true => (3, rows + 2 + ROWS),
            false => (1, rows),
        }
    }

    /// The inverse of [`Target::into_parts`]; none if there are too few.
    #[must_use]
    pub fn target_of(&self, images: Vec<Tensor<4>>, rows: Vec<Tensor<1>>) -> Option<Target> {
        let config = self.config();
        let (mut images, mut rows) = (images.into_iter(), rows.into_iter());
        let (value, weights) = (images.next()?, rows.next()?);
        let counts = match config.importance {
            Some(_) => Some(rows.next()?),
            None => None,
        };
        let uncertainty = match config.uncertainty {
            Some(_) => Some(rows.next()?),
            None => None,
        };
        let mut row = || {
            let row = rows.next()?;
            let [batch] = row.dims();
            Some(row.reshape([batch, 1, 1, 1]))
        };
        let bound = match images.next() {
            None => None,
            Some(x0) => Some(BoundTarget {
                x0,
                x: images.next()?,
                c_skip: row()?,
                c_out: row()?,
                rows: BoundRows {
                    x0_coef: row()?,
                    x_coef: row()?,
                    log_small: row()?,
                    log_large: row()?,
                    first: row()?,
                },
            }),
        };
        Some(Target {
            value,
            weights,
            counts,
            uncertainty,
            bound,
        })
    }
}
