//! [`crate::group_norm`] on burn's CPU backend.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::bf16;

use super::super::element::Element;
use super::super::isa::Isa;
use super::super::normalisation::{self, Moments, Shape};
use super::{contiguous, is_bf16, tensor};
use crate::group_norm::GroupNormOptions;

fn shape(x: &FlexTensor, options: GroupNormOptions) -> Shape {
    let [batch, channels, height, width] = x.shape().dims();
    Shape {
        batch,
        channels,
        plane: height * width,
        options,
    }
}

/// The result, the tensors as they were read, and the moments of x.
pub(super) fn forward(
    tensors: [FlexTensor; 3],
    options: GroupNormOptions,
) -> (FlexTensor, [FlexTensor; 3], Moments) {
    match is_bf16(&tensors[0]) {
        true => forward_of::<bf16>(tensors, options),
        false => forward_of::<f32>(tensors, options),
    }
}

fn forward_of<E: Element>(
    [x, weight, bias]: [FlexTensor; 3],
    options: GroupNormOptions,
) -> (FlexTensor, [FlexTensor; 3], Moments) {
    let x = contiguous::<E>(x);
    let [weight, bias] = [weight, bias].map(contiguous::<f32>);
    let shape = shape(&x, options);
    let (y, moments) = normalisation::forward(
        Isa::best(),
        shape,
        E::values(&x),
        weight.storage(),
        bias.storage(),
    );
    (tensor(y, x.shape()), [x, weight, bias], moments)
}

type State = ([FlexTensor; 3], Moments, GroupNormOptions);

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        match is_bf16(&ops.state.0[0]) {
            true => backward_of::<bf16>(ops, grads),
            false => backward_of::<f32>(ops, grads),
        }
    }
}

fn backward_of<E: Element>(ops: Ops<State, 3>, grads: &mut Gradients) {
    let ([x, weight, bias], moments, options) = ops.state;
    let mut dy = contiguous::<E>(grads.consume::<Flex>(&ops.node));
    let [dweight, dbias] = normalisation::backward(
        Isa::best(),
        shape(&x, options),
        E::values(&x),
        [weight.storage(), bias.storage()],
        &moments,
        E::values_mut(&mut dy),
    );
    let [to_x, to_weight, to_bias] = ops.parents;
    if let Some(node) = to_x {
        grads.register::<Flex>(node.id, dy);
    }
    if let Some(node) = to_weight {
        grads.register::<Flex>(node.id, tensor(dweight, weight.shape()));
    }
    if let Some(node) = to_bias {
        grads.register::<Flex>(node.id, tensor(dbias, bias.shape()));
    }
}

/// The operation under autodiff.
pub(super) fn tracked<C: CheckpointStrategy>(
    tensors: [FloatTensor<Autodiff<Flex, C>>; 3],
    options: GroupNormOptions,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [0, 1, 2].map(|i: usize| tensors[i].node());
    let prepared = NormBackward.prepare::<C>(nodes).compute_bound().stateful();
    let (y, tensors, moments) = forward(tensors.map(|tensor| tensor.into_primitive()), options);
    match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((tensors, moments, options), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}
