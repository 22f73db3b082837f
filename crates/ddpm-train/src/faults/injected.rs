//! What goes wrong, and when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use ddpm_data::Batch;

use crate::optim::ParamGrads;
use crate::step::TrainState;

/// What goes bad in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One pixel of the batch.
    Batch,
    /// One number of a parameter, from this step on.
    Parameter,
    /// The mean loss.
    Loss,
    /// One number of the gradient.
    Gradient,
}

/// One bad number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Poison {
    /// In which step, from 1.
    pub step: u64,
    /// Where.
    pub place: Place,
    /// The number.
    pub value: f32,
    /// Whether it comes again when the step is done again.
    pub again: bool,
}

#[derive(Debug)]
struct Faults {
    poisons: Vec<Poison>,
    stall: Option<(u64, Duration)>,
}

static FAULTS: Mutex<Faults> = Mutex::new(Faults {
    poisons: Vec::new(),
    stall: None,
});

/// Adds a bad number.
pub fn poison(poison: Poison) {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    faults.poisons.push(poison);
}

/// Makes step `step`, from 1, take so much longer.
pub fn stall(step: u64, time: Duration) {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).stall = Some((step, time));
}

/// The bad number of a place in a step; each but once unless it comes again.
fn bad(step: u64, place: Place) -> Option<f32> {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let found = faults
        .poisons
        .iter()
        .position(|poison| poison.step == step && poison.place == place)?;
    let poison = faults.poisons[found];
    if !poison.again {
        faults.poisons.swap_remove(found);
    }
    Some(poison.value)
}

pub(super) fn in_batch(state: TrainState, mut batch: Arc<Batch>) -> (TrainState, Arc<Batch>) {
    let step = state.step + 1;
    if let Some(value) = bad(step, Place::Batch)
        && let Some(pixel) = Arc::make_mut(&mut batch).pixels.first_mut()
    {
        *pixel = value;
    }
    match bad(step, Place::Parameter) {
        Some(value) => {
            let model = replace_first_parameter(state.model, value);
            (TrainState { model, ..state }, batch)
        }
        None => (state, batch),
    }
}

/// In the place of each micro-batch's own loss.
pub(super) fn in_losses(step: u64, losses: Tensor<1>, images: &[usize]) -> Tensor<1> {
    let Some(value) = bad(step, Place::Loss) else {
        return losses;
    };
    let mut start = 0;
    let mut replaced = Vec::new();
    for &images in images {
        replaced.push(losses.clone().narrow(0, start, 1).full_like(value));
        replaced.push(losses.clone().narrow(0, start + 1, images));
        start += 1 + images;
    }
    Tensor::cat(replaced, 0)
}

pub(super) fn in_gradient(step: u64, grads: ParamGrads) -> ParamGrads {
    let stall = FAULTS.lock().unwrap_or_else(PoisonError::into_inner).stall;
    if let Some((at, time)) = stall
        && at == step
    {
        std::thread::sleep(time);
    }
    let Some(value) = bad(step, Place::Gradient) else {
        return grads;
    };
    let mut flat = grads.flat().to_vec();
    if let Some(first) = flat.first_mut() {
        *first = replace_first(first.clone(), value);
    }
    ParamGrads::of(grads.trained().to_vec(), flat)
}

/// A flat tensor with another first number.
fn replace_first(tensor: Tensor<1>, value: f32) -> Tensor<1> {
    let first = Tensor::from_floats([value], &tensor.device());
    let rest = tensor.clone().narrow(0, 1, tensor.dims()[0] - 1);
    Tensor::cat(vec![first, rest], 0)
}

/// The network with the first number of its first parameter replaced.
fn replace_first_parameter<M: Module>(module: M, value: f32) -> M {
    struct First(Option<f32>);
    impl ModuleMapper for First {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(value) = self.0.take() else {
                return param;
            };
            let (id, tensor, mapper) = param.consume();
            let (shape, require_grad) = (tensor.shape(), tensor.is_require_grad());
            let flat = replace_first(tensor.inner().reshape([shape.num_elements()]), value);
            let value = Tensor::from_inner(flat.reshape(shape));
            Param::from_mapped_value(id, value.set_require_grad(require_grad), mapper)
        }
    }
    module.map(&mut First(Some(value)))
}
