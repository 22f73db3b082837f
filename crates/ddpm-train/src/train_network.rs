//! What a network must do to be trained.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use ddpm_diffusion::{Condition, Network, NetworkError};
use ddpm_unet::{ClassLabels, DropoutRng, Model, NetworkCondition, UnetError};

use crate::error::TrainError;

/// A burn module that [`crate::TrainState`] can train: any network that predicts from a noisy image and its time.
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::tensor::Tensor;
/// use ddpm_diffusion::{Condition, NetworkError};
/// use ddpm_train::TrainNetwork;
/// use ddpm_unet::DropoutRng;
///
/// /// Predicts the same noise everywhere.
/// #[derive(Module, Debug)]
/// struct Constant {
///     noise: Param<Tensor<1>>,
/// }
///
/// impl TrainNetwork for Constant {
///     fn output(
///         &self,
///         x: Tensor<4>,
///         _t: Tensor<1>,
///         _condition: &Condition,
///         _dropout: Option<&DropoutRng>,
///     ) -> Result<Tensor<4>, NetworkError> {
///         Ok(x.zeros_like() + self.noise.val().reshape([1, 1, 1, 1]))
///     }
/// }
/// ```
pub trait TrainNetwork: Module + std::fmt::Debug {
    /// The raw output for noisy images `x` at the times `t`; with `dropout`, which says what is dropped, in training.
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`; `t`: `[batch]`; returns the same as `x`, or twice its channels
    /// where a variance is learned
    /// # Errors   if it cannot be computed for these
    fn output(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
        dropout: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, NetworkError>;

    /// What becomes of the network after an update of its weights; unless a network says otherwise, nothing.
    #[must_use]
    fn after_update(self) -> Self {
        self
    }

    /// Whether [`TrainNetwork::after_update`] moves weights to another place in memory, which no captured graph follows.
    fn moves_after_update(&self) -> bool {
        false
    }

    /// The gradients of `loss` of the output; of several backward passes if the network is computed in pieces, which
    /// `recompute` asks for to save memory.
    ///
    /// # Errors   those of [`TrainNetwork::output`] and of `loss`
    fn gradients(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
        dropout: &DropoutRng,
        recompute: bool,
        loss: &mut dyn FnMut(Tensor<4>) -> Result<Tensor<1>, TrainError>,
    ) -> Result<Vec<Gradients>, TrainError> {
        let _ = recompute;
        let output = self.output(x, t, condition, Some(dropout));
        let output = output.map_err(|error| TrainError::Network {
            message: error.to_string(),
        })?;
        Ok(vec![loss(output)?.backward()])
    }
}

/// What the network is told of the images; pictures are part of what it reads.
fn told(condition: &Condition) -> NetworkCondition {
    NetworkCondition {
        labels: condition.labels.clone().map(ClassLabels::Index),
        vector: condition.vector.clone(),
    }
}

impl TrainNetwork for Model {
    fn output(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
        dropout: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, NetworkError> {
        Ok(self.forward(x, t, told(condition), dropout)?)
    }

    fn after_update(self) -> Self {
        match self {
            Self::Edm2(network) => Self::Edm2(network.with_unit_weights()),
            other => other,
        }
    }

    fn moves_after_update(&self) -> bool {
        matches!(self, Self::Edm2(_))
    }

    fn gradients(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
        dropout: &DropoutRng,
        recompute: bool,
        loss: &mut dyn FnMut(Tensor<4>) -> Result<Tensor<1>, TrainError>,
    ) -> Result<Vec<Gradients>, TrainError> {
        match self {
            Self::Unet(unet) if recompute => {
                unet.recomputed(x, t, told(condition), Some(dropout), loss)
            }
            model => {
                let output: Result<_, UnetError> =
                    model.forward(x, t, told(condition), Some(dropout));
                Ok(vec![loss(output?)?.backward()])
            }
        }
    }
}

/// A trained network as samplers see it.
#[derive(Debug)]
pub struct Trained<'a, N>(pub &'a N);

impl<N: TrainNetwork> Network for Trained<'_, N> {
    fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
    ) -> Result<Tensor<4>, NetworkError> {
        self.0.output(condition.input(x), t, condition, None)
    }
}
