//! What a network is told besides the noisy image and its time.

mod config;
pub mod picture;

use std::ops::Range;

use burn::tensor::{Int, Tensor};

use crate::DiffusionError;

pub use config::{ColumnScale, ConditionConfig, PictureKind};

/// One entry an image, each optional.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Classes: `[batch]`.
    pub labels: Option<Tensor<1, Int>>,
    /// Numbers that describe the image: `[batch, numbers]`.
    pub vector: Option<Tensor<2>>,
    /// A picture that the image is made from, such as a smaller or a grey one brought to its size (Saharia et al.
    /// 2021): `[batch, channels of the picture, height, width]`, in [-1, 1].
    pub picture: Option<Tensor<4>>,
    /// The image that an earlier evaluation expected, for networks that condition on themselves (Chen et al. 2023):
    /// `[batch, channels, height, width]`.
    pub x0: Option<Tensor<4>>,
}

impl Condition {
    /// The classes alone.
    #[must_use]
    pub fn of_labels(labels: Option<Tensor<1, Int>>) -> Self {
        Self {
            labels,
            ..Self::default()
        }
    }

    /// The entries of some images of the batch.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let images = |of: &Option<Tensor<4>>| of.clone().map(|of| of.slice([rows.clone()]));
        Self {
            labels: self.labels.clone().map(|of| of.slice([rows.clone()])),
            vector: self.vector.clone().map(|of| of.slice([rows.clone()])),
            picture: images(&self.picture),
            x0: images(&self.x0),
        }
    }

    /// The entries of a batch, followed by those of another. What either lacks, the result lacks.
    #[must_use]
    pub fn then(&self, other: &Self) -> Self {
        fn both<T>(a: &Option<T>, b: &Option<T>, cat: fn(Vec<T>) -> T) -> Option<T>
        where
            T: Clone,
        {
            Some(cat(vec![a.clone()?, b.clone()?]))
        }
        let images = |parts| Tensor::cat(parts, 0);
        Self {
            labels: both(&self.labels, &other.labels, |parts| Tensor::cat(parts, 0)),
            vector: both(&self.vector, &other.vector, |parts| Tensor::cat(parts, 0)),
            picture: both(&self.picture, &other.picture, images),
            x0: both(&self.x0, &other.x0, images),
        }
    }

    /// What a network reads of `x`: x̂0, the image and the picture, one after the other where they are there.
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`; returns `[batch, all channels, height, width]`
    #[must_use]
    pub fn input(&self, x: Tensor<4>) -> Tensor<4> {
        let (before, after) = (self.x0.clone(), self.picture.clone());
        match (&before, &after) {
            (None, None) => x,
            _ => {
                let parts = before.into_iter().chain([x]).chain(after);
                Tensor::cat(parts.collect(), 1)
            }
        }
    }

    /// # Errors   [`DiffusionError::Batch`] unless there is one entry an image
    pub(crate) fn check(&self, batch: usize) -> Result<(), DiffusionError> {
        let entries = [
            ("class labels", self.labels.as_ref().map(|of| of.dims()[0])),
            ("vectors", self.vector.as_ref().map(|of| of.dims()[0])),
            ("pictures", self.picture.as_ref().map(|of| of.dims()[0])),
        ];
        for (what, got) in entries {
            if let Some(got) = got.filter(|&got| got != batch) {
                return Err(DiffusionError::Batch {
                    what,
                    expected: batch,
                    got,
                });
            }
        }
        Ok(())
    }
}
