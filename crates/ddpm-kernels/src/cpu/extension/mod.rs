//! The kernels as operations of burn's CPU backend, with their gradients.

mod attention;
mod convolution;
mod group_norm;
mod optimiser;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::{DType, Shape};

use super::element::Element;
use crate::conv2d::Options;
use crate::extension::Kernels;
use crate::group_norm::GroupNormOptions;
pub(crate) use convolution::{CachedWeight, can_double};
pub(crate) use optimiser::{adam_step, sum_of_squares};

impl Kernels for Flex {
    fn convolution_kernel(
        x: FlexTensor,
        norm_weight: FlexTensor,
        norm_bias: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        options: Options,
    ) -> FlexTensor {
        convolution::forward(
            [x, norm_weight, norm_bias, weight, bias, residual],
            &options,
            false,
        )
        .0
    }

    fn group_norm_kernel(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: GroupNormOptions,
    ) -> FlexTensor {
        group_norm::forward([x, weight, bias], options).0
    }

    fn attention_kernel(qkv: FlexTensor, heads: usize) -> FlexTensor {
        attention::forward(qkv, heads).0
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
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
        attention::tracked::<C>(qkv, heads)
    }
}

/// A tensor that owns `values`.
fn tensor<E: Element>(values: Vec<E>, shape: impl Into<Shape>) -> FlexTensor {
    E::tensor(values, shape.into())
}

/// The tensor itself if its values lie in order in memory of their own, else a copy of them.
fn contiguous<E: Element>(tensor: FlexTensor) -> FlexTensor {
    let whole = |tensor: &FlexTensor| E::values(tensor).len() == tensor.shape().num_elements();
    if tensor.is_contiguous() && whole(&tensor) {
        return tensor;
    }
    let copy = tensor.to_contiguous();
    if whole(&copy) {
        return copy;
    }
    // A part of larger memory that is in order already.
    let shape = copy.shape();
    let first = copy.layout().start_offset();
    let values = E::values(&copy)[first..][..shape.num_elements()].to_vec();
    self::tensor(values, shape)
}

/// Whether a tensor's values are bf16; else they are f32.
fn is_bf16(tensor: &FlexTensor) -> bool {
    match tensor.dtype() {
        DType::BF16 => true,
        DType::F32 => false,
        other => panic!("the CPU's kernels compute on f32 and bf16, not on {other:?}"),
    }
}
