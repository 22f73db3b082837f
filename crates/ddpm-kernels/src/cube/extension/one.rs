//! Operations of one image tensor, or two, whose gradient needs no more than their inputs.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Cube};
use burn_cubecl::tensor::CubeTensor;

use super::super::dropout::{Drop, dropped};
use super::super::tensor::{channels_first_view, channels_last, dims};
use super::super::{attention, images};

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Cube, 1> for AttentionBackward {
    type State = (CubeTensor, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (qkv, heads) = ops.state;
        let dy = channels_last(grads.consume::<Cube>(&ops.node));
        let [to_qkv] = ops.parents;
        if let Some(node) = to_qkv {
            let d = attention::backward(&qkv, &dy, heads);
            grads.register::<Cube>(node.id, channels_first_view(d));
        }
    }
}

/// [`crate::attention`] without autodiff.
pub(super) fn attention(qkv: CubeTensor, heads: usize) -> CubeTensor {
    channels_first_view(attention::forward(&channels_last(qkv), heads))
}

/// [`crate::attention`] under autodiff.
pub(super) fn attention_tracked<C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<Cube, C>>,
    heads: usize,
) -> FloatTensor<Autodiff<Cube, C>> {
    let prepared = AttentionBackward
        .prepare::<C>([qkv.node()])
        .compute_bound()
        .stateful();
    let qkv = channels_last(qkv.into_primitive());
    let y = channels_first_view(attention::forward(&qkv, heads));
    match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((qkv, heads), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct ConcatenateBackward;

impl Backward<Cube, 2> for ConcatenateBackward {
    /// Channels of either.
    type State = [usize; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_a, of_b] = ops.state;
        let dy = channels_last(grads.consume::<Cube>(&ops.node));
        let [to_a, to_b] = ops.parents;
        for (node, from, count) in [(to_a, 0, of_a), (to_b, of_a, of_b)] {
            if let Some(node) = node {
                let d = images::channels(&dy, from, count);
                grads.register::<Cube>(node.id, channels_first_view(d));
            }
        }
    }
}

/// [`crate::concat_channels`] without autodiff.
pub(super) fn concat_channels(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    let [a, b] = [a, b].map(channels_last);
    channels_first_view(images::concatenated(&a, &b))
}

/// [`crate::concat_channels`] under autodiff.
pub(super) fn concatenate_tracked<C: CheckpointStrategy>(
    tensors: [FloatTensor<Autodiff<Cube, C>>; 2],
) -> FloatTensor<Autodiff<Cube, C>> {
    let prepared = ConcatenateBackward
        .prepare::<C>([tensors[0].node(), tensors[1].node()])
        .compute_bound()
        .stateful();
    let [a, b] = tensors.map(|tensor| channels_last(tensor.into_primitive()));
    let y = channels_first_view(images::concatenated(&a, &b));
    match prepared {
        OpsKind::Tracked(prepared) => prepared.finish([dims(&a)[3], dims(&b)[3]], y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct DoubleBackward;

impl Backward<Cube, 1> for DoubleBackward {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = channels_last(grads.consume::<Cube>(&ops.node));
        let [to_x] = ops.parents;
        if let Some(node) = to_x {
            grads.register::<Cube>(node.id, channels_first_view(images::undoubled(&dy)));
        }
    }
}

/// [`crate::upsample_nearest_2x`] without autodiff.
pub(super) fn upsample_nearest_2x(x: CubeTensor) -> CubeTensor {
    channels_first_view(images::doubled(&channels_last(x)))
}

/// [`crate::upsample_nearest_2x`] under autodiff.
pub(super) fn double_tracked<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Cube, C>>,
) -> FloatTensor<Autodiff<Cube, C>> {
    let prepared = DoubleBackward
        .prepare::<C>([x.node()])
        .compute_bound()
        .stateful();
    let y = upsample_nearest_2x(x.into_primitive());
    match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl Backward<Cube, 1> for DropoutBackward {
    type State = Drop;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = channels_last(grads.consume::<Cube>(&ops.node));
        let [to_x] = ops.parents;
        if let Some(node) = to_x {
            let d = dropped(&dy, &ops.state);
            grads.register::<Cube>(node.id, channels_first_view(d));
        }
    }
}

/// [`crate::dropout`] without autodiff.
pub(super) fn dropout(x: CubeTensor, drop: &Drop) -> CubeTensor {
    channels_first_view(dropped(&channels_last(x), drop))
}

/// [`crate::dropout`] under autodiff.
pub(super) fn dropout_tracked<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Cube, C>>,
    drop: Drop,
) -> FloatTensor<Autodiff<Cube, C>> {
    let prepared = DropoutBackward
        .prepare::<C>([x.node()])
        .compute_bound()
        .stateful();
    let y = dropout(x.into_primitive(), &drop);
    match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(drop, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}
