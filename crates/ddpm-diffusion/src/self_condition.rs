//! Networks that are told what they expected last.

use std::cell::RefCell;

use burn::tensor::Tensor;
use ddpm_schedule::{Level, Stop};

use crate::denoiser::{Denoiser, Estimate};
use crate::{Condition, DiffusionError};

/// Tells the network the x̂0 of the evaluation before, zeros at first (Chen et al. 2023, algorithm 2).
#[derive(Debug)]
pub struct SelfConditioned<D> {
    /// What estimates x̂0.
    inner: D,
    last: RefCell<Option<Tensor<4>>>,
}

impl<D> SelfConditioned<D> {
    /// Before the first evaluation of a batch.
    #[must_use]
    pub fn new(inner: D) -> Self {
        Self {
            inner,
            last: RefCell::default(),
        }
    }
}

impl<D: Denoiser> Denoiser for SelfConditioned<D> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let last = self.last.borrow_mut().take();
        // Another batch's estimate would be of another shape, or of other images.
        let x0 = last.filter(|last| last.dims() == x.dims());
        let condition = Condition {
            x0: Some(x0.unwrap_or_else(|| x.zeros_like())),
            ..condition.clone()
        };
        let estimate = self.inner.denoise(x, at, &condition)?;
        *self.last.borrow_mut() = Some(estimate.x0.clone());
        Ok(estimate)
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}
