//! [`crate::Convolution`] on GPUs.

use std::sync::PoisonError;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Cube};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;

use super::super::gemm::Geometry;
use super::super::matrix::Addends;
use super::super::norm::{self, Moments};
use super::super::packed::PackedWeight;
use super::super::tensor::{channels_first_view, channels_last, dense};
use super::super::{convolution, images};
use crate::conv2d::{Options, WeightCache};

/// Weights as kernels read them, and the tensor that they were packed from. Holding that tensor keeps its memory from
/// being given to another, so that the same memory means the same weights.
#[derive(Debug)]
pub(crate) struct CachedWeight {
    weight: CubeTensor,
    packed: PackedWeight,
}

/// The operands in the kernels' layout.
#[derive(Debug, Clone)]
struct Operands {
    x: CubeTensor,
    norm: [CubeTensor; 2],
    weight: PackedWeight,
    bias_rows: usize,
    moments: Option<Moments>,
    /// Of the doubled x, if it is doubled.
    geometry: Geometry,
    options: Options,
}

impl Operands {
    /// What the convolution reads: x, or x normalised, or that doubled.
    fn input(&self) -> CubeTensor {
        let x = match (self.options.norm, &self.moments) {
            (Some(options), Some(moments)) => {
                let [weight, bias] = &self.norm;
                norm::forward(&self.x, [weight, bias], moments, options)
            }
            _ => self.x.clone(),
        };
        if self.options.conv.upsample_nearest_2x {
            images::doubled(&x)
        } else {
            x
        }
    }
}

fn packed(cache: Option<&WeightCache>, weight: CubeTensor, dtype: DType) -> PackedWeight {
    let Some(cache) = cache else {
        return PackedWeight::new(weight, dtype);
    };
    let mut entry = cache.cube.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = entry.as_ref() {
        let (a, b) = (&entry.weight.handle, &weight.handle);
        let same = std::ptr::eq(a.memory.descriptor(), b.memory.descriptor());
        if same && a.offset_start == b.offset_start && entry.packed.dtype() == dtype {
            return entry.packed.clone();
        }
    }
    let packed = PackedWeight::new(weight.clone(), dtype);
    *entry = Some(CachedWeight {
        weight,
        packed: packed.clone(),
    });
    packed
}

/// The result, seen with channels first, and what the backward pass needs.
fn forward(tensors: [CubeTensor; 6], options: Options, tracking: bool) -> (CubeTensor, Operands) {
    let [x, norm_weight, norm_bias, weight, bias, residual] = tensors;
    let x = channels_last(x);
    let [norm_weight, norm_bias, bias] = [norm_weight, norm_bias, bias].map(dense);
    let moments = options.norm.map(|options| norm::moments(&x, options));
    let shape: [usize; 4] = weight.meta.shape().dims();
    let cache = options.cache.as_ref().filter(|_| !tracking);
    let mut operands = Operands {
        weight: packed(cache, weight, x.dtype),
        bias_rows: bias.meta.shape()[0],
        norm: [norm_weight, norm_bias],
        moments,
        geometry: convolution::geometry(&x, shape, options.conv),
        x,
        options,
    };
    let input = operands.input();
    operands.geometry = convolution::geometry(&input, shape, operands.options.conv);
    let residual = operands.options.residual.then(|| channels_last(residual));
    let added = Addends {
        bias: &bias,
        residual: residual.as_ref(),
    };
    let y = convolution::forward(&input, &operands.weight, added, operands.geometry);
    (channels_first_view(y), operands)
}

/// The operation without autodiff.
pub(super) fn plain(tensors: [CubeTensor; 6], options: Options) -> CubeTensor {
    forward(tensors, options, false).0
}

#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Cube, 6> for ConvolutionBackward {
    type State = Operands;

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let operands = ops.state;
        let dy = grads.consume::<Cube>(&ops.node);
        let [
            to_x,
            to_norm_weight,
            to_norm_bias,
            to_weight,
            to_bias,
            to_residual,
        ] = ops.parents;
        // What is absent is another tensor's clone: only what is there has a gradient.
        let (has_norm, has_residual) = (operands.options.norm.is_some(), operands.options.residual);
        if let Some(node) = to_residual.filter(|_| has_residual) {
            grads.register::<Cube>(node.id, dy.clone());
        }
        let dy = channels_last(dy);
        if let Some(node) = to_bias {
            let d = convolution::bias_gradient(&dy, operands.bias_rows);
            grads.register::<Cube>(node.id, d);
        }
        if let Some(node) = to_weight {
            let input = operands.input();
            let d = convolution::weight_gradient(&input, &dy, operands.geometry);
            grads.register::<Cube>(node.id, d);
        }
        let to_norm = has_norm && (to_norm_weight.is_some() || to_norm_bias.is_some());
        if to_x.is_none() && !to_norm {
            return;
        }
        let mut d = convolution::data_gradient(&dy, &operands.weight, operands.geometry);
        drop(dy);
        if operands.options.conv.upsample_nearest_2x {
            d = images::undoubled(&d);
        }
        if let (Some(options), Some(moments)) = (operands.options.norm, &operands.moments) {
            let [weight, bias] = &operands.norm;
            let (dx, [d_weight, d_bias]) =
                norm::backward(&operands.x, &d, [weight, bias], moments, options);
            for (node, gradient) in [(to_norm_weight, d_weight), (to_norm_bias, d_bias)] {
                if let Some(node) = node {
                    grads.register::<Cube>(node.id, gradient);
                }
            }
            d = dx;
        }
        if let Some(node) = to_x {
            grads.register::<Cube>(node.id, channels_first_view(d));
        }
    }
}

/// The operation under autodiff.
pub(super) fn tracked<C: CheckpointStrategy>(
    tensors: [FloatTensor<Autodiff<Cube, C>>; 6],
    options: Options,
) -> FloatTensor<Autodiff<Cube, C>> {
    let nodes = [0, 1, 2, 3, 4, 5].map(|i: usize| tensors[i].node());
    let prepared = ConvolutionBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful();
    let tensors = tensors.map(|tensor| tensor.into_primitive());
    let (y, operands) = forward(tensors, options, true);
    match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(operands, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}
