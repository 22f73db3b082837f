//! Fully connected layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::Init;

/// y = x·Wᵀ + b, with W kept as `[out, in]` as PyTorch does.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    /// A layer with PyTorch's default initial values.
    pub fn new(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            weight: init.fan_in([output, input], input),
            bias: init.fan_in([output], input),
        }
    }

    /// The last layer of a residual branch (zero under [`crate::InitKind::Zero`]).
    pub fn last_of_branch(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            weight: init.last_of_branch([output, input], input),
            bias: init.last_of_branch([output], input),
        }
    }

    /// # Shapes   `x`: `[rows, in]`; returns `[rows, out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }

    /// # Shapes   `x`: `[batch, tokens, in]`; returns `[batch, tokens, out]`
    pub fn forward_tokens(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, input] = x.dims();
        let output = self.weight.dims()[0];
        // [batch, tokens, in] -> [batch·tokens, in]: one matrix product instead of `batch`
        self.forward(x.reshape([batch * tokens, input]))
            .reshape([batch, tokens, output])
    }
}
