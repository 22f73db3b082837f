//! What a network is told besides the noisy image and its time.

use std::ops::Range;

use burn::tensor::{Int, Tensor};

use crate::DiffusionError;

/// One entry an image, each optional.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Classes: `[batch]`.
    pub labels: Option<Tensor<1, Int>>,
    /// The image that an earlier evaluation expected, for networks that condition on themselves (Chen et al. 2023):
    /// `[batch, channels, height, width]`.
    pub x0: Option<Tensor<4>>,
}

impl Condition {
    /// The classes alone.
    #[must_use]
    pub fn of_labels(labels: Option<Tensor<1, Int>>) -> Self {
        Self { labels, x0: None }
    }

    /// The entries of some images of the batch.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        Self {
            labels: self
                .labels
                .clone()
                .map(|labels| labels.slice([rows.clone()])),
            x0: self.x0.clone().map(|x0| x0.slice([rows])),
        }
    }

    /// # Errors   [`DiffusionError::Batch`] unless there is one entry an image
    pub(crate) fn check(&self, batch: usize) -> Result<(), DiffusionError> {
        match self.labels.as_ref().map(|labels| labels.dims()[0]) {
            Some(got) if got != batch => Err(DiffusionError::Batch {
                what: "class labels",
                expected: batch,
                got,
            }),
            _ => Ok(()),
        }
    }
}
