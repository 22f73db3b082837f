//! The kernels as operations of burn's backend for GPUs, with their gradients.

mod convolution;
mod group_norm;
mod one;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, BackendTensor, Cube, Dispatch, backend_extension};
use burn::backend::{DispatchKindConversion, DispatchTensor};
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;

use super::dropout::Drop;
use super::finite::{self, Decision, DeviceStats, PendingStats};
use super::optimiser;
use crate::conv2d::Options;
use crate::extension::Kernels;
use crate::finite::Clip;
use crate::group_norm::GroupNormOptions;
use crate::optimiser::{AdamState, AdamStep};
pub(crate) use convolution::CachedWeight;

impl Kernels for Cube {
    fn convolution_kernel(
        x: CubeTensor,
        norm_weight: CubeTensor,
        norm_bias: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        residual: CubeTensor,
        options: Options,
    ) -> CubeTensor {
        convolution::plain([x, norm_weight, norm_bias, weight, bias, residual], options)
    }

    fn group_norm_kernel(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        options: GroupNormOptions,
    ) -> CubeTensor {
        group_norm::plain([x, weight, bias], options)
    }

    fn attention_kernel(qkv: CubeTensor, heads: usize) -> CubeTensor {
        one::attention(qkv, heads)
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Cube, C> {
    fn convolution_kernel(
        x: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        norm_bias: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        convolution::tracked::<C>([x, norm_weight, norm_bias, weight, bias, residual], options)
    }

    fn group_norm_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self> {
        group_norm::tracked::<C>([x, weight, bias], options)
    }

    fn attention_kernel(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        one::attention_tracked::<C>(qkv, heads)
    }
}

/// What GPUs have kernels for and the CPU needs none.
#[backend_extension(Autodiff, Cube)]
pub(crate) trait Images: Backend {
    fn concatenate_kernel(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    fn double_kernel(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn dropout_kernel(
        x: FloatTensor<Self>,
        key: FloatTensor<Self>,
        probability: f64,
        first: u64,
    ) -> FloatTensor<Self>;
}

impl Images for Cube {
    fn concatenate_kernel(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        one::concat_channels(a, b)
    }

    fn double_kernel(x: CubeTensor) -> CubeTensor {
        one::upsample_nearest_2x(x)
    }

    fn dropout_kernel(x: CubeTensor, key: CubeTensor, probability: f64, first: u64) -> CubeTensor {
        let drop = Drop {
            key,
            probability,
            first,
        };
        one::dropout(x, &drop)
    }
}

impl<C: CheckpointStrategy> Images for Autodiff<Cube, C> {
    fn concatenate_kernel(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        one::concatenate_tracked::<C>([a, b])
    }

    fn double_kernel(x: FloatTensor<Self>) -> FloatTensor<Self> {
        one::double_tracked::<C>(x)
    }

    fn dropout_kernel(
        x: FloatTensor<Self>,
        key: FloatTensor<Self>,
        probability: f64,
        first: u64,
    ) -> FloatTensor<Self> {
        let drop = Drop {
            key: key.into_primitive(),
            probability,
            first,
        };
        one::dropout_tracked::<C>(x, drop)
    }
}

pub(crate) fn concat_channels(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Images>::concatenate_kernel(a, b))
}

pub(crate) fn upsample_nearest_2x(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Images>::double_kernel(x.into_dispatch()))
}

pub(crate) fn dropout(x: Tensor<4>, key: Tensor<1>, probability: f64, first: u64) -> Tensor<4> {
    let (x, key) = (x.into_dispatch(), key.into_dispatch());
    let y = <Dispatch as Images>::dropout_kernel(x, key, probability, first);
    Tensor::from_dispatch(y)
}

/// The tensor of a GPU behind one without autodiff.
pub(crate) fn primitive<const D: usize>(x: Tensor<D>) -> CubeTensor {
    match <DispatchTensor as DispatchKindConversion<Cube>>::try_into_backend(x.into_dispatch()) {
        Ok(tensor) => tensor.float(),
        Err(problem) => unreachable!("a GPU's tensor without autodiff: {problem}"),
    }
}

fn tensor(x: CubeTensor) -> Tensor<1> {
    of_dimensions(x)
}

/// A tensor without autodiff, of as many dimensions as `x` has.
pub(crate) fn of_dimensions<const D: usize>(x: CubeTensor) -> Tensor<D> {
    Tensor::from_dispatch(DispatchTensor::from_backend(BackendTensor::<Cube>::Float(
        x,
    )))
}

/// Tensors brought into one piece of memory; see [`optimiser::flatten`].
pub(crate) fn flatten(parts: Vec<CubeTensor>) -> Vec<Tensor<1>> {
    optimiser::flatten(parts).into_iter().map(tensor).collect()
}

pub(crate) fn add_all(a: Vec<Tensor<1>>, b: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    let [a, b] = [a, b].map(|tensors| tensors.into_iter().map(primitive).collect());
    optimiser::add_all(a, b).into_iter().map(tensor).collect()
}

/// See [`finite::measure`].
pub(crate) fn measure(losses: Tensor<1>, grads: &[Tensor<1>]) -> DeviceStats {
    finite::measure(
        primitive(losses),
        grads.iter().cloned().map(primitive).collect(),
    )
}

pub(crate) fn adam_all(
    states: Vec<AdamState>,
    grads: Vec<Tensor<1>>,
    step: AdamStep,
) -> Vec<AdamState> {
    adam(states, grads, step, None)
}

/// See [`crate::adam_steps_if_finite`].
pub(crate) fn adam_all_if_finite(
    states: Vec<AdamState>,
    grads: Vec<Tensor<1>>,
    step: AdamStep,
    clip: Clip,
    measured: DeviceStats,
    found_inf: &Tensor<1>,
) -> (Vec<AdamState>, PendingStats) {
    let (decision, coming) = finite::decide(measured, clip, primitive(found_inf.clone()));
    (adam(states, grads, step, Some(decision)), coming)
}

fn adam(
    states: Vec<AdamState>,
    grads: Vec<Tensor<1>>,
    step: AdamStep,
    decision: Option<Decision>,
) -> Vec<AdamState> {
    let mut columns: [Vec<CubeTensor>; 4] = Default::default();
    for state in states {
        let values = [state.weight, state.exp_avg, state.exp_avg_sq, state.ema];
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(primitive(value));
        }
    }
    let grads = grads.into_iter().map(primitive).collect();
    let [weight, exp_avg, exp_avg_sq, ema] =
        optimiser::adam_all(columns, grads, step, decision).map(|c| c.into_iter().map(tensor));
    weight
        .zip(exp_avg)
        .zip(exp_avg_sq.zip(ema))
        .map(|((weight, exp_avg), (exp_avg_sq, ema))| AdamState {
            weight,
            exp_avg,
            exp_avg_sq,
            ema,
        })
        .collect()
}
