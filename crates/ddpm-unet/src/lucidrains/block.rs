//! Normalisation and the residual block.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{FloatDType, Tensor};

use crate::init::Init;
use crate::layers::{Conv2d, ConvEpilogue, Dropout, DropoutRng, Linear};

/// g·√channels·x/‖x‖, the norm over the channels of each pixel (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub struct RmsNorm {
    g: Param<Tensor<1>>,
}

impl RmsNorm {
    pub(super) fn new(channels: usize, init: &mut Init) -> Self {
        Self {
            g: init.constant([channels], 1.0),
        }
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, channels, _, _] = x.dims();
        let dtype: FloatDType = x.dtype().into();
        let wide = x.cast(FloatDType::F32);
        // A norm of at least 1e-12, as there; where it is 0, so is its gradient.
        let squares = (wide.clone() * wide.clone()).sum_dim(1);
        let norm = squares.clamp_min(1e-24).sqrt();
        let g = self.g.val().reshape([1, channels, 1, 1]) * (channels as f64).sqrt();
        (wide / norm * g).cast(dtype)
    }
}

/// A convolution and its normalisation.
#[derive(Module, Debug)]
pub struct Block {
    proj: Conv2d,
    norm: RmsNorm,
}

impl Block {
    fn new(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            proj: Conv2d::same(input, output, 3, init),
            norm: RmsNorm::new(output, init),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.proj.forward(x))
    }
}

/// conv → norm → scale and shift by the time → SiLU → dropout, conv → norm → SiLU, plus the input.
#[derive(Module, Debug)]
pub struct LucidrainsBlock {
    mlp: Linear,
    block1: Block,
    block2: Block,
    res_conv: Option<Conv2d>,
    dropout: Dropout,
}

impl LucidrainsBlock {
    pub(super) fn new(
        [input, output]: [usize; 2],
        time: usize,
        dropout: f64,
        init: &mut Init,
    ) -> Self {
        Self {
            mlp: Linear::new(time, 2 * output, init),
            block1: Block::new(input, output, init),
            block2: Block::new(output, output, init),
            res_conv: (input != output).then(|| Conv2d::same(input, output, 1, init)),
            dropout: Dropout::new(dropout),
        }
    }

    /// # Shapes   `x`: `[batch, in, height, width]`, `emb`: `[batch, time]`, after SiLU and in the type of x; returns
    /// `[batch, out, height, width]`
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        emb: &Tensor<2>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        // [batch, time] -> [batch, 2·out] -> [batch, 2·out, 1, 1]
        let both = self.mlp.forward(emb.clone()).unsqueeze_dims::<4>(&[2, 3]);
        let output = both.dims()[1] / 2;
        let scale = both.clone().narrow(1, 0, output) + 1.0;
        let shift = both.narrow(1, output, output);
        let h = silu(self.block1.forward(x.clone()) * scale + shift);
        let h = silu(self.block2.forward(self.dropout.forward(h, rng)));
        match &self.res_conv {
            None => h + x,
            Some(conv) => {
                let sum = ConvEpilogue {
                    residual: Some(h),
                    ..ConvEpilogue::default()
                };
                conv.forward_around(x, sum)
            }
        }
    }
}
