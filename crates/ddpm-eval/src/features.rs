//! What an extractor sees in a set of images.

use crate::error::EvalError;
use crate::rows::Rows;

/// One row an image of everything that an extractor says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    /// What distances are computed from, `[n, dim]`.
    pub pooled: Rows,
    /// Features that keep their places (sFID), of extractors that have them.
    pub spatial: Option<Rows>,
    /// A classifier's logits, `[n, classes]`.
    pub logits: Option<Rows>,
    /// The class that each image is of, where that is known.
    pub labels: Option<Vec<usize>>,
}

impl Features {
    /// How many images there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pooled.count()
    }

    /// Appends those of more images.
    ///
    /// # Errors   [`EvalError::Shape`] if they are of another extractor
    pub fn append(&mut self, more: Self) -> Result<(), EvalError> {
        if self.count() == 0 {
            *self = more;
            return Ok(());
        }
        self.pooled.append(more.pooled)?;
        for (own, more) in [
            (&mut self.spatial, more.spatial),
            (&mut self.logits, more.logits),
        ] {
            match (own, more) {
                (Some(own), Some(more)) => own.append(more)?,
                (own, _) => *own = None,
            }
        }
        match (&mut self.labels, more.labels) {
            (Some(own), Some(more)) => own.extend(more),
            (own, _) => *own = None,
        }
        Ok(())
    }

    /// Those of some images, in the order given.
    ///
    /// # Panics   if there is no image of one of these numbers
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            pooled: self.pooled.select(indices),
            spatial: self.spatial.as_ref().map(|rows| rows.select(indices)),
            logits: self.logits.as_ref().map(|rows| rows.select(indices)),
            labels: self
                .labels
                .as_ref()
                .map(|labels| indices.iter().map(|&i| labels[i]).collect()),
        }
    }

    /// Those of at most `most` images, spread evenly over all.
    #[must_use]
    pub fn spread(&self, most: usize) -> Self {
        self.select(&crate::rows::spread(self.count(), most))
    }

    /// The class that a classifier sees in each image; none without one.
    #[must_use]
    pub fn seen(&self) -> Option<Vec<usize>> {
        let logits = self.logits.as_ref()?;
        Some(
            (0..logits.count())
                .map(|i| largest(logits.row(i)))
                .collect(),
        )
    }
}

/// The number of the largest, the first of several.
pub(crate) fn largest(values: &[f32]) -> usize {
    let better = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).fold(0, better)
}
