//! [`crate::attention`] on burn's CPU backend.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};

use super::super::attention::{self, Shape};
use super::super::isa::Isa;
use super::{contiguous, tensor};

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
    let qkv = contiguous(qkv);
    let [batch, channels, height, width] = qkv.shape().dims();
    assert!(
        heads > 0 && channels.is_multiple_of(3 * heads),
        "queries, keys and values of every head"
    );
    let (y, normaliser) = attention::forward(Isa::best(), shape(&qkv, heads), qkv.storage());
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
        let state = ops.state;
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let [to_qkv] = ops.parents;
        let dqkv = attention::backward(
            Isa::best(),
            shape(&state.qkv, state.heads),
            state.qkv.storage(),
            (state.y.storage(), &state.normaliser),
            dy.storage(),
        );
        if let Some(node) = to_qkv {
            grads.register::<Flex>(node.id, tensor(dqkv, state.qkv.shape()));
        }
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
