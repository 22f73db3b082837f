//! [`crate::group_norm`] on burn's CPU backend.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};

use super::super::isa::Isa;
use super::super::normalisation::{self, Moments, Shape};
use super::{contiguous, tensor};
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
    let [x, weight, bias] = tensors.map(contiguous);
    let shape = shape(&x, options);
    let (y, moments) = normalisation::forward(
        Isa::best(),
        shape,
        x.storage(),
        weight.storage(),
        bias.storage(),
    );
    (tensor(y, x.shape()), [x, weight, bias], moments)
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = ([FlexTensor; 3], Moments, GroupNormOptions);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([x, weight, bias], moments, options) = ops.state;
        let mut dy = contiguous(grads.consume::<Flex>(&ops.node));
        let [dweight, dbias] = normalisation::backward(
            Isa::best(),
            shape(&x, options),
            x.storage(),
            [weight.storage(), bias.storage()],
            &moments,
            dy.storage_mut(),
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
