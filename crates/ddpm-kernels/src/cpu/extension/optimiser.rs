//! [`crate::adam_step`] and [`crate::sum_of_squares`] on burn's CPU backend.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::super::isa::Isa;
use super::super::optimiser;
use super::{contiguous, tensor};
use crate::optimiser::{AdamState, AdamStep};

/// What this crate adds to a backend outside autodiff.
#[backend_extension(Flex)]
pub(crate) trait Optimise: Backend {
    fn adam_kernel(
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        exp_avg: FloatTensor<Self>,
        exp_avg_sq: FloatTensor<Self>,
        ema: FloatTensor<Self>,
        step: AdamStep,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

    fn sum_of_squares_kernel(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Optimise for Flex {
    fn adam_kernel(
        weight: FlexTensor,
        grad: FlexTensor,
        exp_avg: FlexTensor,
        exp_avg_sq: FlexTensor,
        ema: FlexTensor,
        step: AdamStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let [mut weight, grad, mut exp_avg, mut exp_avg_sq, mut ema] =
            [weight, grad, exp_avg, exp_avg_sq, ema].map(contiguous::<f32>);
        optimiser::adam(
            Isa::best(),
            weight.storage_mut(),
            grad.storage(),
            [
                exp_avg.storage_mut(),
                exp_avg_sq.storage_mut(),
                ema.storage_mut(),
            ],
            step,
        );
        (weight, exp_avg, exp_avg_sq, ema)
    }

    fn sum_of_squares_kernel(x: FlexTensor) -> FlexTensor {
        let x = contiguous::<f32>(x);
        let sum = optimiser::sum_of_squares(Isa::best(), x.storage());
        tensor(vec![sum as f32], [1])
    }
}

pub(crate) fn adam_step(state: AdamState, grad: Tensor<1>, step: AdamStep) -> AdamState {
    let (weight, exp_avg, exp_avg_sq, ema) = <Dispatch as Optimise>::adam_kernel(
        state.weight.into_dispatch(),
        grad.into_dispatch(),
        state.exp_avg.into_dispatch(),
        state.exp_avg_sq.into_dispatch(),
        state.ema.into_dispatch(),
        step,
    );
    AdamState {
        weight: Tensor::from_dispatch(weight),
        exp_avg: Tensor::from_dispatch(exp_avg),
        exp_avg_sq: Tensor::from_dispatch(exp_avg_sq),
        ema: Tensor::from_dispatch(ema),
    }
}

pub(crate) fn sum_of_squares(x: Tensor<1>) -> f64 {
    let sum = <Dispatch as Optimise>::sum_of_squares_kernel(x.into_dispatch());
    f64::from(Tensor::<1>::from_dispatch(sum).into_scalar::<f32>())
}
