//! Convolutions.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::conv_transpose2d;
use burn::tensor::ops::ConvTransposeOptions;
use ddpm_kernels::{Conv2dOptions, Convolution, Norm, WeightCache};

use crate::init::Init;

/// What stands around a convolution and is computed with it.
#[derive(Debug, Default)]
pub struct ConvEpilogue {
    /// The normalisation of the input, as [`super::norm::NormAct::defer_to_conv`] gives it.
    pub norm: Option<Norm>,
    /// Whether the input is doubled by nearest neighbour.
    pub upsample_nearest_2x: bool,
    /// Taken instead of the layer's own bias, one for each image: `[batch, out]`.
    pub bias: Option<Tensor<2>>,
    /// Added to the result.
    pub residual: Option<Tensor<4>>,
}

/// Square-kernel 2-d convolution with bias; weight `[out, in, k, k]`.
#[derive(Module, Debug)]
pub struct Conv2d {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    padding: (usize, usize),
    #[module(skip)]
    cache: WeightCache,
}

impl Conv2d {
    /// A `kernel`×`kernel` convolution that keeps the size (odd kernels).
    pub fn same(input: usize, output: usize, kernel: usize, init: &mut Init) -> Self {
        let fan_in = input * kernel * kernel;
        Self {
            weight: init.fan_in([output, input, kernel, kernel], fan_in),
            bias: init.fan_in([output], fan_in),
            stride: 1,
            padding: (kernel / 2, kernel / 2),
            cache: WeightCache::default(),
        }
    }

    /// A convolution of these parameters: `[out, in, k, k]` and `[out]`, with `padding` zeros around.
    pub fn of(weight: Param<Tensor<4>>, bias: Param<Tensor<1>>, padding: usize) -> Self {
        Self {
            weight,
            bias,
            stride: 1,
            padding: (padding, padding),
            cache: WeightCache::default(),
        }
    }

    /// The last convolution of a residual branch (zero under [`crate::InitKind::Zero`]).
    pub fn last_of_branch(input: usize, output: usize, init: &mut Init) -> Self {
        let fan_in = input * 9;
        Self {
            weight: init.last_of_branch([output, input, 3, 3], fan_in),
            bias: init.last_of_branch([output], fan_in),
            stride: 1,
            padding: (1, 1),
            cache: WeightCache::default(),
        }
    }

    /// A 3×3 convolution of stride 2. `padding = 0` pads one row below and one column right
    /// instead of all around, as diffusers' `downsample_padding` does.
    pub fn halve(channels: usize, padding: usize, init: &mut Init) -> Self {
        let mut conv = Self::same(channels, channels, 3, init);
        conv.stride = 2;
        conv.padding = if padding == 0 {
            (0, 1)
        } else {
            (padding, padding)
        };
        conv
    }

    /// # Shapes   `x`: `[batch, in, height, width]`; returns `[batch, out, height', width']`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_around(x, ConvEpilogue::default())
    }

    /// The weight, `[out, in, k, k]`.
    pub fn weight(&self) -> Tensor<4> {
        self.weight.val()
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Tensor<1> {
        self.bias.val()
    }

    /// The convolution with what stands around it, as one operation where the device has one.
    ///
    /// # Shapes   `x`: `[batch, in, height, width]`; returns `[batch, out, height', width']`
    pub fn forward_around(&self, x: Tensor<4>, around: ConvEpilogue) -> Tensor<4> {
        let convolution = Convolution {
            norm: around.norm,
            weight: self.weight.val(),
            bias: around.bias.unwrap_or_else(|| self.bias.val().unsqueeze()),
            residual: around.residual,
            options: Conv2dOptions {
                stride: self.stride,
                padding: self.padding,
                upsample_nearest_2x: around.upsample_nearest_2x,
            },
            cache: Some(&self.cache),
        };
        convolution.forward(x)
    }
}

/// 2×2 transposed convolution of stride 2 with bias: doubles height and width;
/// weight `[in, out, 2, 2]`.
#[derive(Module, Debug)]
pub struct ConvTranspose2d {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl ConvTranspose2d {
    /// A layer with PyTorch's default initial values (its fan-in counts the output channels).
    pub fn new(input: usize, output: usize, init: &mut Init) -> Self {
        let fan_in = output * 4;
        Self {
            weight: init.fan_in([input, output, 2, 2], fan_in),
            bias: init.fan_in([output], fan_in),
        }
    }

    /// # Shapes   `x`: `[batch, in, height, width]`; returns `[batch, out, 2·height, 2·width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1);
        let weight = self.weight.val().cast(x.dtype());
        let bias = self.bias.val().cast(x.dtype());
        conv_transpose2d(x, weight, Some(bias), options)
    }
}
