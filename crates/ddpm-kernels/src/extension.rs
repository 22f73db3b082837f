//! The operations as burn's extension mechanism wants them: one trait, implemented by the backends that have
//! kernels here.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor};

use crate::conv2d::{Convolution, Options};
use crate::group_norm::GroupNormOptions;

/// What this crate adds to a backend.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub(crate) trait Kernels: Backend {
    /// `norm_weight`, `norm_bias` and `residual` are not read if `options` says that there are none.
    #[allow(clippy::too_many_arguments, reason = "tensors cannot be grouped here")]
    fn convolution_kernel(
        x: FloatTensor<Self>,
        norm_weight: FloatTensor<Self>,
        norm_bias: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self>;

    fn group_norm_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self>;

    fn attention_kernel(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

pub(crate) fn convolution(convolution: Convolution<'_>, x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    let options = Options {
        conv: convolution.options,
        norm: convolution.norm.as_ref().map(|norm| norm.options),
        residual: convolution.residual.is_some(),
        cache: convolution.cache.map(crate::WeightCache::share),
    };
    let bias = convolution.bias;
    let absent = || absent(&bias, &device);
    let (norm_weight, norm_bias) = match convolution.norm {
        Some(norm) => (norm.weight, norm.bias),
        None => (absent(), absent()),
    };
    let residual = match convolution.residual {
        Some(residual) => residual.into_dispatch(),
        None => absent().into_dispatch(),
    };
    Tensor::from_dispatch(<Dispatch as Kernels>::convolution_kernel(
        x.into_dispatch(),
        norm_weight.into_dispatch(),
        norm_bias.into_dispatch(),
        convolution.weight.into_dispatch(),
        bias.into_dispatch(),
        residual,
        options,
    ))
}

/// Something in the place of a tensor that is not read. On a GPU a tensor of its own would cost a kernel.
fn absent(bias: &Tensor<2>, device: &Device) -> Tensor<2> {
    #[cfg(feature = "cube")]
    if crate::Place::of(device) == crate::Place::Gpu {
        return bias.clone();
    }
    let _ = bias;
    Tensor::zeros([1, 1], device)
}

pub(crate) fn group_norm(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<2>,
    options: GroupNormOptions,
) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Kernels>::group_norm_kernel(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        options,
    ))
}

pub(crate) fn attention(qkv: Tensor<4>, heads: usize) -> Tensor<4> {
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(<Dispatch as Kernels>::attention_kernel(qkv, heads))
}
