//! The kernels as operations of burn's CPU backend, with their gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Bytes, DType, Shape, Tensor};

use super::{convolution, normalisation};
use crate::conv2d::Conv2dOptions;
use crate::group_norm::GroupNormOptions;

/// What this crate adds to a backend.
#[backend_extension(Autodiff, Flex)]
pub(crate) trait Kernels: Backend {
    fn conv2d_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    fn group_norm_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self>;
}

pub(crate) fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let [x, weight, bias] = [
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ];
    Tensor::from_dispatch(<Dispatch as Kernels>::conv2d_kernel(
        x, weight, bias, options,
    ))
}

pub(crate) fn group_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    options: GroupNormOptions,
) -> Tensor<4> {
    let [x, weight, bias] = [
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ];
    Tensor::from_dispatch(<Dispatch as Kernels>::group_norm_kernel(
        x, weight, bias, options,
    ))
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    let layout = Layout::contiguous(shape.into());
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

fn conv_shape(x: &FlexTensor, weight: &FlexTensor, options: Conv2dOptions) -> convolution::Shape {
    let [batch, input, height, width] = x.shape().dims();
    let [output, _, kernel, _] = weight.shape().dims();
    convolution::Shape {
        batch,
        input,
        output,
        height,
        width,
        kernel,
        options,
    }
}

fn norm_shape(x: &FlexTensor, options: GroupNormOptions) -> normalisation::Shape {
    let [batch, channels, height, width] = x.shape().dims();
    normalisation::Shape {
        batch,
        channels,
        plane: height * width,
        options,
    }
}

impl Kernels for Flex {
    fn conv2d_kernel(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: Conv2dOptions,
    ) -> FlexTensor {
        let shape = conv_shape(&x, &weight, options);
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let y = convolution::forward(shape, x.storage(), weight.storage(), bias.storage());
        tensor(
            y,
            [
                shape.batch,
                shape.output,
                shape.out_height(),
                shape.out_width(),
            ],
        )
    }

    fn group_norm_kernel(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: GroupNormOptions,
    ) -> FlexTensor {
        let shape = norm_shape(&x, options);
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let y = normalisation::forward(shape, x.storage(), weight.storage(), bias.storage());
        tensor(y, x.shape())
    }
}

#[derive(Debug)]
struct ConvBackward;

impl Backward<Flex, 3> for ConvBackward {
    type State = (FlexTensor, FlexTensor, Conv2dOptions);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, options) = ops.state;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [x, weight] = [x, weight].map(|tensor| tensor.to_contiguous());
        let [to_x, to_weight, to_bias] = ops.parents;
        let wanted = convolution::Wanted {
            x: to_x.is_some(),
            weight: to_weight.is_some(),
            bias: to_bias.is_some(),
        };
        let shape = conv_shape(&x, &weight, options);
        let [dx, dweight, dbias] =
            convolution::backward(shape, x.storage(), weight.storage(), dy.storage(), wanted);
        if let Some(node) = to_x {
            grads.register::<Flex>(node.id, tensor(dx, x.shape()));
        }
        if let Some(node) = to_weight {
            grads.register::<Flex>(node.id, tensor(dweight, weight.shape()));
        }
        if let Some(node) = to_bias {
            grads.register::<Flex>(node.id, tensor(dbias, [shape.output]));
        }
    }
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = (FlexTensor, FlexTensor, FlexTensor, GroupNormOptions);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, bias, options) = ops.state;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let shape = norm_shape(&x, options);
        let [dx, dweight, dbias] = normalisation::backward(
            shape,
            x.storage(),
            weight.storage(),
            bias.storage(),
            dy.storage(),
        );
        let [to_x, to_weight, to_bias] = ops.parents;
        if let Some(node) = to_x {
            grads.register::<Flex>(node.id, tensor(dx, x.shape()));
        }
        if let Some(node) = to_weight {
            grads.register::<Flex>(node.id, tensor(dweight, weight.shape()));
        }
        if let Some(node) = to_bias {
            grads.register::<Flex>(node.id, tensor(dbias, bias.shape()));
        }
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn conv2d_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let prepared = ConvBackward
            .prepare::<C>([x.node(), weight.node(), bias.node()])
            .compute_bound()
            .stateful();
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
        let state = (x.clone(), weight.clone(), options);
        let y = Flex::conv2d_kernel(x, weight, bias, options);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(state, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn group_norm_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self> {
        let prepared = NormBackward
            .prepare::<C>([x.node(), weight.node(), bias.node()])
            .compute_bound()
            .stateful();
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
        let state = (x.clone(), weight.clone(), bias.clone(), options);
        let y = Flex::group_norm_kernel(x, weight, bias, options);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(state, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}
