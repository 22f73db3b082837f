//! [`crate::group_norm`] on GPUs.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Cube};
use burn_cubecl::tensor::CubeTensor;

use super::super::norm::{self, Moments};
use super::super::tensor::{channels_first_view, channels_last, dense};
use crate::group_norm::GroupNormOptions;

/// What the backward pass reads: x, weight and bias in the kernels' layout.
type State = ([CubeTensor; 3], Moments, GroupNormOptions);

fn forward([x, weight, bias]: [CubeTensor; 3], options: GroupNormOptions) -> (CubeTensor, State) {
    let (x, weight, bias) = (channels_last(x), dense(weight), dense(bias));
    let moments = norm::moments(&x, options);
    let y = norm::forward(&x, [&weight, &bias], &moments, options);
    (
        channels_first_view(y),
        ([x, weight, bias], moments, options),
    )
}

/// The operation without autodiff.
pub(super) fn plain(tensors: [CubeTensor; 3], options: GroupNormOptions) -> CubeTensor {
    forward(tensors, options).0
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Cube, 3> for NormBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([x, weight, bias], moments, options) = ops.state;
        let dy = channels_last(grads.consume::<Cube>(&ops.node));
        let (dx, [d_weight, d_bias]) = norm::backward(&x, &dy, [&weight, &bias], &moments, options);
        for (node, gradient) in
            ops.parents
                .into_iter()
                .zip([channels_first_view(dx), d_weight, d_bias])
        {
            if let Some(node) = node {
                grads.register::<Cube>(node.id, gradient);
            }
        }
    }
}

/// The operation under autodiff.
pub(super) fn tracked<C: CheckpointStrategy>(
    tensors: [FloatTensor<Autodiff<Cube, C>>; 3],
    options: GroupNormOptions,
) -> FloatTensor<Autodiff<Cube, C>> {
    let nodes = [0, 1, 2].map(|i: usize| tensors[i].node());
    let prepared = NormBackward.prepare::<C>(nodes).compute_bound().stateful();
    let (y, state) = forward(tensors.map(|tensor| tensor.into_primitive()), options);
    match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(state, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}
