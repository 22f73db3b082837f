//! Changes of resolution between the levels.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, interpolate};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions};

use crate::init::Init;
use crate::layers::{Conv2d, ConvEpilogue, DropoutRng};
use crate::resnet::ResnetBlock;

/// 3×3 convolution of stride 2.
#[derive(Module, Debug)]
pub struct ConvDownsample {
    conv: Conv2d,
}

/// Nearest-neighbour doubling, then a 3×3 convolution.
#[derive(Module, Debug)]
pub struct ConvUpsample {
    conv: Conv2d,
}

/// One change of resolution at the end of a level.
#[expect(
    clippy::large_enum_variant,
    reason = "a network has a handful of these"
)]
#[derive(Module, Debug)]
pub enum Resample {
    /// Halving by a strided convolution.
    ConvDown(ConvDownsample),
    /// Doubling by nearest neighbour and a convolution.
    ConvUp(ConvUpsample),
    /// A residual block that halves or doubles inside.
    Resnet(ResnetBlock),
}

impl Resample {
    /// Halving by a strided convolution; see [`Conv2d::halve`] for `padding`.
    pub fn conv_down(channels: usize, padding: usize, init: &mut Init) -> Self {
        Self::ConvDown(ConvDownsample {
            conv: Conv2d::halve(channels, padding, init),
        })
    }

    /// Doubling by nearest neighbour and a convolution.
    pub fn conv_up(channels: usize, init: &mut Init) -> Self {
        Self::ConvUp(ConvUpsample {
            conv: Conv2d::same(channels, channels, 3, init),
        })
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`, `temb`: `[batch, time_embedding_dim]`;
    /// returns `[batch, channels, height/2, width/2]` or `[…, 2·height, 2·width]`
    pub fn forward(&self, x: Tensor<4>, temb: &Tensor<2>, rng: Option<&DropoutRng>) -> Tensor<4> {
        match self {
            Self::ConvDown(down) => down.conv.forward(x),
            Self::ConvUp(up) => up.conv.forward_around(
                x,
                ConvEpilogue {
                    upsample_nearest_2x: true,
                    ..ConvEpilogue::default()
                },
            ),
            Self::Resnet(resnet) => resnet.forward(x, temb, rng),
        }
    }
}

/// Nearest-neighbour resize to `[height, width]`.
pub(crate) fn resize_nearest(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    interpolate(
        x,
        InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size),
    )
}

/// Mean over 2×2 squares: halves height and width.
pub(crate) fn avg_pool_2x(x: Tensor<4>) -> Tensor<4> {
    avg_pool2d(x, AvgPoolOptions::new([2, 2]))
}
