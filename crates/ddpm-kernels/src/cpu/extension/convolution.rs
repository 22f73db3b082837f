//! [`crate::Convolution`] on burn's CPU backend.

use std::sync::{Arc, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::{Tensor, bf16};

use super::super::convolution::{self, Algorithm, Operands, Shape, Wanted, Weights};
use super::super::element::Element;
use super::super::isa::Isa;
use super::super::normalisation::Moments;
use super::{contiguous, is_bf16, tensor};
use crate::conv2d::{Conv2dOptions, Options, WeightCache};

/// Packed weights and the tensor that they were packed from. Holding that tensor keeps its memory from
/// being written or given to another, so that equal addresses mean equal weights.
#[derive(Debug)]
pub(crate) struct CachedWeight {
    weight: FlexTensor,
    algorithm: Algorithm,
    packed: Arc<Weights>,
}

/// Whether the kernel reads a doubled input for such weights.
pub(crate) fn can_double(weight: &Tensor<4>, options: Conv2dOptions) -> bool {
    let [_, _, rows, columns] = weight.dims();
    rows == 3 && columns == 3 && options.stride == 1 && options.padding == (1, 1)
}

fn shape(x: &FlexTensor, weight: &FlexTensor, options: &Options) -> Shape {
    let [batch, input, height, width] = x.shape().dims();
    let [output, _, kernel, _] = weight.shape().dims();
    Shape {
        batch,
        input,
        output,
        height,
        width,
        kernel,
        options: options.conv,
        norm: options.norm,
    }
}

/// Kernels go by the shapes of x and the weight and read without looking, so everything else must fit.
fn check(
    shape: &Shape,
    [norm_weight, norm_bias, weight, bias]: [&FlexTensor; 4],
    residual: Option<&FlexTensor>,
) {
    let rows_of = |tensor: &FlexTensor, channels: usize| {
        let [rows, columns]: [usize; 2] = tensor.shape().dims();
        columns == channels && (rows == 1 || rows == shape.batch)
    };
    let [_, input, _, columns]: [usize; 4] = weight.shape().dims();
    assert!(
        input == shape.input && columns == shape.kernel,
        "a weight [out, {}, k, k]",
        shape.input
    );
    assert!(rows_of(bias, shape.output), "a bias [1 or batch, out]");
    if shape.norm.is_some() {
        assert!(
            rows_of(norm_weight, shape.input) && rows_of(norm_bias, shape.input),
            "a normalisation [1 or batch, in]"
        );
        assert_eq!(norm_weight.shape(), norm_bias.shape(), "one of each");
    }
    if let Some(residual) = residual {
        let (height, width) = shape.out();
        let dims: [usize; 4] = residual.shape().dims();
        assert_eq!(
            dims,
            [shape.batch, shape.output, height, width],
            "a residual of the result's shape"
        );
    }
}

fn operands<'a, E: Element>(
    [x, norm_weight, norm_bias, bias]: [&'a FlexTensor; 4],
    residual: Option<&'a FlexTensor>,
) -> Operands<'a, E> {
    Operands {
        x: E::values(x),
        norm: [norm_weight.storage(), norm_bias.storage()],
        bias: bias.storage(),
        residual: residual.map_or(&[], E::values),
    }
}

/// The result, the tensors as they were read, and the moments of x if it is normalised. Without
/// `tracking` the packed weights are kept for the next call.
pub(super) fn forward(
    tensors: [FlexTensor; 6],
    options: &Options,
    tracking: bool,
) -> (FlexTensor, [FlexTensor; 5], Option<Moments>) {
    match is_bf16(&tensors[0]) {
        true => forward_of::<bf16>(tensors, options, tracking),
        false => forward_of::<f32>(tensors, options, tracking),
    }
}

fn forward_of<E: Element>(
    [x, norm_weight, norm_bias, weight, bias, residual]: [FlexTensor; 6],
    options: &Options,
    tracking: bool,
) -> (FlexTensor, [FlexTensor; 5], Option<Moments>) {
    let x = contiguous::<E>(x);
    let [norm_weight, norm_bias, weight, bias] =
        [norm_weight, norm_bias, weight, bias].map(contiguous::<f32>);
    let residual = options.residual.then(|| contiguous::<E>(residual));
    let shape = shape(&x, &weight, options);
    let isa = Isa::best();
    let algorithm = shape.algorithm::<E>(tracking);
    let packed = match &options.cache {
        Some(cache) if !tracking => cached(cache, &weight, algorithm, || {
            convolution::pack(isa, shape, algorithm, weight.storage())
        }),
        _ => Arc::new(convolution::pack(isa, shape, algorithm, weight.storage())),
    };
    let residual = residual.as_ref();
    check(&shape, [&norm_weight, &norm_bias, &weight, &bias], residual);
    let operands = operands::<E>([&x, &norm_weight, &norm_bias, &bias], residual);
    let (y, moments) = convolution::forward(isa, shape, operands, algorithm, &packed);
    let (height, width) = shape.out();
    let y = tensor(y, [shape.batch, shape.output, height, width]);
    (y, [x, norm_weight, norm_bias, weight, bias], moments)
}

fn cached(
    cache: &WeightCache,
    weight: &FlexTensor,
    algorithm: Algorithm,
    pack: impl FnOnce() -> Weights,
) -> Arc<Weights> {
    let mut entry = cache.entry.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = entry.as_ref() {
        let same = Arc::ptr_eq(&entry.weight.data_arc(), &weight.data_arc());
        if same && entry.algorithm == algorithm {
            return entry.packed.clone();
        }
    }
    let packed = Arc::new(pack());
    *entry = Some(CachedWeight {
        weight: weight.clone(),
        algorithm,
        packed: packed.clone(),
    });
    packed
}

#[derive(Debug)]
struct ConvolutionBackward;

#[derive(Debug, Clone)]
struct State {
    x: FlexTensor,
    norm: [FlexTensor; 2],
    weight: FlexTensor,
    bias: FlexTensor,
    moments: Option<Moments>,
    options: Options,
}

impl Backward<Flex, 6> for ConvolutionBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        match is_bf16(&ops.state.x) {
            true => backward_of::<bf16>(ops, grads),
            false => backward_of::<f32>(ops, grads),
        }
    }
}

fn backward_of<E: Element>(ops: Ops<State, 6>, grads: &mut Gradients) {
    let state = ops.state;
    let dy = contiguous::<E>(grads.consume::<Flex>(&ops.node));
    let [
        to_x,
        to_norm_weight,
        to_norm_bias,
        to_weight,
        to_bias,
        to_residual,
    ] = ops.parents;
    let shape = shape(&state.x, &state.weight, &state.options);
    let wanted = Wanted {
        x: to_x.is_some() || to_norm_weight.is_some() || to_norm_bias.is_some(),
        weight: to_weight.is_some(),
        bias: to_bias.is_some(),
    };
    let [norm_weight, norm_bias] = &state.norm;
    let gradients = convolution::backward(
        Isa::best(),
        shape,
        operands::<E>([&state.x, norm_weight, norm_bias, &state.bias], None),
        state.weight.storage(),
        state.moments.as_ref(),
        E::values(&dy),
        wanted,
    );
    let [d_norm_weight, d_norm_bias] = gradients.norm;
    if let Some(node) = to_x {
        let dx = tensor(gradients.x, state.x.shape());
        grads.register::<Flex>(node.id, dx);
    }
    let found = [
        (to_norm_weight, d_norm_weight, norm_weight.shape()),
        (to_norm_bias, d_norm_bias, norm_bias.shape()),
        (to_weight, gradients.weight, state.weight.shape()),
        (to_bias, gradients.bias, state.bias.shape()),
    ];
    for (node, values, shape) in found {
        if let Some(node) = node {
            grads.register::<Flex>(node.id, tensor(values, shape));
        }
    }
    if let Some(node) = to_residual {
        grads.register::<Flex>(node.id, dy);
    }
}

/// The operation under autodiff.
pub(super) fn tracked<C: CheckpointStrategy>(
    tensors: [FloatTensor<Autodiff<Flex, C>>; 6],
    options: Options,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [0, 1, 2, 3, 4, 5].map(|i: usize| tensors[i].node());
    let prepared = ConvolutionBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful();
    let tensors = tensors.map(|tensor| tensor.into_primitive());
    let (y, [x, norm_weight, norm_bias, weight, bias], moments) = forward(tensors, &options, true);
    match prepared {
        OpsKind::Tracked(prepared) => {
            let state = State {
                x,
                norm: [norm_weight, norm_bias],
                weight,
                bias,
                moments,
                options,
            };
            prepared.finish(state, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}
