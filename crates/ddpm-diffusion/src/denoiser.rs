//! The contract between the engine and a network.

use burn::tensor::{Int, Tensor};

/// The reason a network gives for failing.
pub type DenoiserError = Box<dyn std::error::Error + Send + Sync>;

/// Anything that can be asked what a noisy image consists of.
///
/// Which of ε, x0 and v the answer means is a matter between the caller and the
/// [`Plan`](crate::Plan): a denoiser does not say. Closures of this shape are denoisers.
pub trait Denoiser {
    /// The prediction for noisy images.
    ///
    /// # Shapes   `xt`: `[batch, channels, height, width]`; `t`: `[batch]`, steps `0..T` as floats; `class_labels`: `[batch]`; returns the shape of `xt`
    /// # Errors   whatever the network cannot work with
    fn predict(
        &self,
        xt: Tensor<4>,
        t: Tensor<1>,
        class_labels: Option<Tensor<1, Int>>,
    ) -> Result<Tensor<4>, DenoiserError>;
}

impl<F, E> Denoiser for F
where
    F: Fn(Tensor<4>, Tensor<1>, Option<Tensor<1, Int>>) -> Result<Tensor<4>, E>,
    E: Into<DenoiserError>,
{
    fn predict(
        &self,
        xt: Tensor<4>,
        t: Tensor<1>,
        class_labels: Option<Tensor<1, Int>>,
    ) -> Result<Tensor<4>, DenoiserError> {
        self(xt, t, class_labels).map_err(Into::into)
    }
}
