//! Fully connected layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ddpm_kernels::{WeightCache, linear};

use crate::init::Init;

/// y = x·Wᵀ + b, with W kept as `[out, in]` as PyTorch does.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    cache: WeightCache,
}

impl Linear {
    /// A layer with PyTorch's default initial values.
    pub fn new(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            weight: init.fan_in([output, input], input),
            bias: init.fan_in([output], input),
            cache: WeightCache::default(),
        }
    }

    /// A layer of these parameters: `[out, in]` and `[out]`.
    pub fn of(weight: Param<Tensor<2>>, bias: Param<Tensor<1>>) -> Self {
        Self {
            weight,
            bias,
            cache: WeightCache::default(),
        }
    }

    /// The weight, `[out, in]`.
    pub fn weight(&self) -> Tensor<2> {
        self.weight.val()
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Tensor<1> {
        self.bias.val()
    }

    /// The last layer of a residual branch (zero under [`crate::InitKind::Zero`]).
    pub fn last_of_branch(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            weight: init.last_of_branch([output, input], input),
            bias: init.last_of_branch([output], input),
            cache: WeightCache::default(),
        }
    }

    /// # Shapes   `x`: `[rows, in]`; returns `[rows, out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        linear(x, self.weight.val(), self.bias.val(), Some(&self.cache))
    }

    /// The same with more added to the bias: `[out]`.
    pub fn forward_and(&self, x: Tensor<2>, more: Tensor<1>) -> Tensor<2> {
        let bias = self.bias.val() + more;
        linear(x, self.weight.val(), bias, Some(&self.cache))
    }

    /// Weight and bias as those of a 1×1 convolution: the layer applied to each pixel.
    ///
    /// # Shapes   returns `[out, in, 1, 1]` and `[1, out]`
    pub fn per_pixel(&self) -> (Tensor<4>, Tensor<2>) {
        let weight = self.weight.val().unsqueeze_dims::<4>(&[2, 3]);
        (weight, self.bias.val().unsqueeze())
    }
}
