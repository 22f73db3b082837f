//! Activation functions of the residual blocks.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// The nonlinearity of a residual block; the names are those of `act_fn` in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·sigmoid(x) (Ramachandran et al. 2017); also called swish.
    #[default]
    #[serde(alias = "swish")]
    Silu,
    /// max(x, 0).
    Relu,
    /// x·Φ(x), exact.
    Gelu,
    /// x·tanh(softplus(x)) (Misra 2019).
    Mish,
}

impl Activation {
    /// Applies the function to each element.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => activation::silu(x),
            Self::Relu => activation::relu(x),
            // Written out: burn's own gradient of it is that of another function, the one with tanh, on GPUs.
            Self::Gelu => {
                let half = ((x.clone() / std::f64::consts::SQRT_2).erf() + 1.0) * 0.5;
                x * half
            }
            Self::Mish => activation::mish(x),
        }
    }
}
