//! Layers with the initial values of EDM.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ddpm_kernels::linear;

use super::config::{EdmArchitecture, EdmConfig};
use crate::init::Init;
use crate::layers::{Conv2d, Linear};

/// What the initial values of a layer are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gain {
    /// By 1.
    Main,
    /// By 1e-5 (DDPM++, NCSN++) or 0 (ADM): the last layer of a branch.
    Zero,
    /// By √0.2 (DDPM++, NCSN++) or 1 (ADM): queries, keys and values.
    Attention,
}

/// Makes layers: Glorot & Bengio 2010's uniform weights with biases of 0 for DDPM++ and NCSN++, PyTorch's defaults for
/// ADM.
pub(super) struct Layers<'a> {
    glorot: bool,
    init: &'a mut Init,
}

impl<'a> Layers<'a> {
    pub(super) fn new(config: &EdmConfig, init: &'a mut Init) -> Self {
        Self {
            glorot: config.model_type == EdmArchitecture::SongUNet,
            init,
        }
    }

    /// The source of initial values, for layers that have the same everywhere.
    pub(super) fn init(&mut self) -> &mut Init {
        self.init
    }

    fn weight<const D: usize>(
        &mut self,
        shape: [usize; D],
        gain: Gain,
    ) -> (Param<Tensor<D>>, Param<Tensor<1>>) {
        let area: usize = shape[2..].iter().product();
        let (output, fan_in, fan_out) = (shape[0], shape[1] * area, shape[0] * area);
        if self.glorot {
            let gain = match gain {
                Gain::Main => 1.0,
                Gain::Zero => 1e-5,
                Gain::Attention => 0.2f64.sqrt(),
            };
            let bound = gain * (6.0 / (fan_in + fan_out) as f64).sqrt();
            (
                self.init.uniform(shape, bound),
                self.init.constant([output], 0.0),
            )
        } else if gain == Gain::Zero {
            (
                self.init.constant(shape, 0.0),
                self.init.constant([output], 0.0),
            )
        } else {
            (
                self.init.fan_in(shape, fan_in),
                self.init.fan_in([output], fan_in),
            )
        }
    }

    /// A convolution that keeps the size, or one with `wider` more zeros around.
    pub(super) fn conv(
        &mut self,
        input: usize,
        output: usize,
        kernel: usize,
        gain: Gain,
        wider: usize,
    ) -> Conv2d {
        let (weight, bias) = self.weight([output, input, kernel, kernel], gain);
        Conv2d::of(weight, bias, kernel / 2 + wider)
    }

    pub(super) fn linear(&mut self, input: usize, output: usize) -> Linear {
        let (weight, bias) = self.weight([output, input], Gain::Main);
        Linear::of(weight, bias)
    }

    /// A layer without bias.
    pub(super) fn projection(&mut self, input: usize, output: usize) -> Projection {
        let (weight, _) = self.weight(
            [output, input],
            if self.glorot { Gain::Main } else { Gain::Zero },
        );
        Projection { weight }
    }
}

/// y = x·Wᵀ.
#[derive(Module, Debug)]
pub struct Projection {
    weight: Param<Tensor<2>>,
}

impl Projection {
    pub(super) fn of(weight: Param<Tensor<2>>) -> Self {
        Self { weight }
    }

    /// # Shapes   `x`: `[batch, in]`; returns `[batch, out]`
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let bias = Tensor::zeros([weight.dims()[0]], &x.device());
        linear(x, weight, bias, None)
    }

    /// The weight, `[out, in]`.
    pub(super) fn weight(&self) -> Tensor<2> {
        self.weight.val()
    }
}
