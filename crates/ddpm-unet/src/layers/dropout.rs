//! Dropout whose mask is a pure function of (seed, step, layer, image).

use std::cell::Cell;

use burn::module::Module;
use burn::tensor::Tensor;
use ddpm_kernels::{DropoutKey, dropout};

/// Where the masks of one training forward come from; `None` in a forward call means inference.
///
/// Image r of the global batch gets the same mask in layer l of step s, however the batch is split.
#[derive(Debug)]
pub struct DropoutRng {
    key: DropoutKey,
    first_row: u64,
    layer: Cell<u64>,
}

impl DropoutRng {
    /// Masks of the step of `key`, whose first image here is row `first_row` of the global batch.
    pub fn new(key: DropoutKey, first_row: u64) -> Self {
        Self {
            key,
            first_row,
            layer: Cell::new(0),
        }
    }

    /// Layers that have drawn their masks.
    pub(crate) fn layers(&self) -> u64 {
        self.layer.get()
    }

    /// Lets the next layer be number `layers`: masks are drawn again.
    pub(crate) fn rewind(&self, layers: u64) {
        self.layer.set(layers);
    }
}

/// Zeroes each element with probability p and scales the rest by 1/(1-p) (Srivastava et al. 2014).
#[derive(Module, Debug)]
pub struct Dropout {
    #[module(skip)]
    probability: f64,
}

/// Rows of one global batch that a mask address has room for.
const ROWS_PER_LAYER: u64 = 1 << 24;

impl Dropout {
    /// `probability` in [0, 1).
    pub fn new(probability: f64) -> Self {
        Self { probability }
    }

    /// Whether anything is dropped.
    pub fn is_active(&self, rng: Option<&DropoutRng>) -> bool {
        rng.is_some() && self.probability > 0.0
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub fn forward(&self, x: Tensor<4>, rng: Option<&DropoutRng>) -> Tensor<4> {
        let Some(rng) = rng.filter(|_| self.probability > 0.0) else {
            return x;
        };
        let layer = rng.layer.replace(rng.layer.get() + 1);
        let first = layer * ROWS_PER_LAYER + rng.first_row;
        dropout(x, self.probability, &rng.key, first)
    }
}
