//! The contract between the engine and a network, and the denoiser that a network makes.

use burn::tensor::Tensor;
use ddpm_schedule::{Prediction, Process, Stop};

use crate::denoiser::{Denoiser, Estimate, LearnedVariance, Output};
use crate::plan::{Meaning, VarianceOutput};
use crate::rows::{check_like, combine};
use crate::{Condition, DiffusionError};

/// The reason a network gives for failing.
pub type NetworkError = Box<dyn std::error::Error + Send + Sync>;

/// A network's raw output; what it means is the business of [`NetworkDenoiser`]. Closures of this shape are networks.
pub trait Network {
    /// The output for noisy images.
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`; `time`: `[batch]`, as [`Process::network_time`] has it;
    /// returns the shape of `x`, or twice its channels where the variance is learned
    /// # Errors   whatever the network cannot work with
    fn forward(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        condition: &Condition,
    ) -> Result<Tensor<4>, NetworkError>;
}

impl<F, E> Network for F
where
    F: Fn(Tensor<4>, Tensor<1>, &Condition) -> Result<Tensor<4>, E>,
    E: Into<NetworkError>,
{
    fn forward(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        condition: &Condition,
    ) -> Result<Tensor<4>, NetworkError> {
        self(x, time, condition).map_err(Into::into)
    }
}

/// x̂0 = c_skip·x + c_out·F(c_in·x), of a network F (Karras et al. 2022, eq. 7).
#[derive(Clone, Copy)]
pub struct NetworkDenoiser<'a> {
    /// F.
    pub network: &'a dyn Network,
    /// Whose times the network is told.
    pub process: &'a Process,
    /// What its output means.
    pub prediction: Prediction,
    /// Whether as many channels follow, of which the variance is made (Nichol & Dhariwal 2021, section 3.1).
    pub variance: VarianceOutput,
}

impl<'a> NetworkDenoiser<'a> {
    /// Of a network whose output has this meaning.
    #[must_use]
    pub fn new(process: &'a Process, meaning: Meaning, network: &'a dyn Network) -> Self {
        Self {
            network,
            process,
            prediction: meaning.prediction,
            variance: meaning.variance,
        }
    }
}

impl Denoiser for NetworkDenoiser<'_> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let [batch, channels, height, width] = x.dims();
        let sigma_data = self.process.sigma_data();
        let coefs = self.prediction.coefs(at.level, sigma_data);
        let times = vec![self.process.network_time(at.time) as f32; batch];
        let times = Tensor::<1>::from_floats(times.as_slice(), &x.device());
        let input = match coefs.c_in == 1.0 {
            true => x.clone(),
            false => x.clone() * coefs.c_in,
        };
        let output = self.network.forward(input, times, condition);
        let output = output.map_err(|source| DiffusionError::Network { t: at.time, source })?;
        let all = channels
            * if self.variance == VarianceOutput::None {
                1
            } else {
                2
            };
        check_like("the network's output", &output, [batch, all, height, width])?;
        let (output, variance) = LearnedVariance::split(output, channels, self.variance);
        Ok(Estimate {
            x0: combine(coefs.c_skip, x, coefs.c_out, &output),
            variance,
            output: Some(Output {
                value: output,
                prediction: self.prediction,
                sigma_data,
            }),
        })
    }
}
