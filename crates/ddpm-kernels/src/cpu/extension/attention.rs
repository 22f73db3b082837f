//! [`crate::attention`] on burn's CPU backend.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::bf16;

use super::super::attention::{self, Shape};
use super::super::element::Element;
use super::super::isa::Isa;
use super::{contiguous, is_bf16, tensor};

fn shape(qkv: &FlexTensor, heads: usize) -> Shape {
    let [batch, channels, height, width] = qkv.shape().dims();
    Shape {
        batch,
        heads,
        dim: channels / 3 / heads,
        tokens: height * width,
    }
}

/// The result, the input as it was read, and the logarithms of the normalisers.
pub(super) fn forward(qkv: FlexTensor, heads: usize) -> (FlexTensor, FlexTensor, Vec<f32>) {
    match is_bf16(&qkv) {
        true => forward_of::<bf16>(qkv, heads),
        false => forward_of::<f32>(qkv, heads),
    }
}

fn forward_of<E: Element>(qkv: FlexTensor, heads: usize) -> (FlexTensor, FlexTensor, Vec<f32>) {
    let qkv = contiguous::<E>(qkv);
    let [batch, channels, height, width] = qkv.shape().dims();
    assert!(
        heads > 0 && channels.is_multiple_of(3 * heads),
        "queries, keys and values of every head"
    );
    let (y, normaliser) = attention::forward(Isa::best(), shape(&qkv, heads), E::values(&qkv));
    let y = tensor(y, [batch, channels / 3, height, width]);
    (y, qkv, normaliser)
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Debug, Clone)]
struct State {
    qkv: FlexTensor,
    y: FlexTensor,
    normaliser: Arc<Vec<f32>>,
    heads: usize,
}

impl Backward<Flex, 1> for AttentionBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        match is_bf16(&ops.state.qkv) {
            true => backward_of::<bf16>(ops, grads),
            false => backward_of::<f32>(ops, grads),
        }
    }
}

fn backward_of<E: Element>(ops: Ops<State, 1>, grads: &mut Gradients) {
    let state = ops.state;
    let dy = contiguous::<E>(grads.consume::<Flex>(&ops.node));
    let [to_qkv] = ops.parents;
    let dqkv = attention::backward(
        Isa::best(),
        shape(&state.qkv, state.heads),
        E::values(&state.qkv),
        (E::values(&state.y), &state.normaliser),
        E::values(&dy),
    );
    if let Some(node) = to_qkv {
        grads.register::<Flex>(node.id, tensor(dqkv, state.qkv.shape()));
    }
}

/// The operation under autodiff.
pub(super) fn tracked<C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<Flex, C>>,
    heads: usize,
) -> FloatTensor<Autodiff<Flex, C>> {
    let prepared = AttentionBackward
        .prepare::<C>([qkv.node()])
        .compute_bound()
        .stateful();
    let (y, qkv, normaliser) = forward(qkv.into_primitive(), heads);
    match prepared {
        OpsKind::Tracked(prepared) => {
            let state = State {
                qkv,
                y: y.clone(),
                normaliser: Arc::new(normaliser),
                heads,
            };
            prepared.finish(state, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}
