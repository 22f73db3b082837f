//! How the time step enters the network.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, activation::silu};

use crate::init::Init;
use crate::layers::Linear;

/// Sinusoidal features of the time step (Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B).
///
/// f_i = exp(-ln(10000)·i / (half - freq_shift)), half = channels/2; \[sin(t·f), cos(t·f)\], or cosines
/// first with `flip_sin_to_cos`; an odd channel count is padded with one zero.
#[derive(Module, Debug)]
pub struct Positional {
    #[module(skip)]
    channels: usize,
    #[module(skip)]
    flip_sin_to_cos: bool,
    #[module(skip)]
    freq_shift: f64,
    #[module(skip)]
    frequencies: Cache,
}

/// The frequencies on the device that they were last asked for on: sending them there for every batch would keep a
/// GPU waiting. Copies of a network share them.
#[derive(Debug, Clone, Default)]
struct Cache(Arc<Mutex<Option<Tensor<2>>>>);

impl Cache {
    /// On the device of `t`, and under autodiff if `t` is.
    fn on_device_of(&self, t: &Tensor<1>, values: impl FnOnce() -> Vec<f32>) -> Tensor<2> {
        let device = t.device();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = device.clone().inner();
        kept.take_if(|kept| kept.device() != plain);
        let frequencies = kept.get_or_insert_with(|| {
            let values = values();
            let shape = [1, values.len()];
            Tensor::from_data(TensorData::new(values, shape), &plain)
        });
        let frequencies = frequencies.clone();
        match device.is_autodiff() {
            true => Tensor::from_inner(frequencies),
            false => frequencies,
        }
    }
}

/// Random Fourier features of ln σ (Song et al. 2021, score SDE): \[sin(2π·w·ln t), cos(2π·w·ln t)\],
/// with fixed Gaussian frequencies w of standard deviation 16.
#[derive(Module, Debug)]
pub struct Fourier {
    weight: Param<Tensor<1>>,
}

/// A learned vector for each of the integer time steps.
#[derive(Module, Debug)]
pub struct Learned {
    weight: Param<Tensor<2>>,
}

/// The features that the time-step MLP reads.
#[derive(Module, Debug)]
pub enum TimeProjection {
    /// Sinusoids of t.
    Positional(Positional),
    /// Random Fourier features of ln σ.
    Fourier(Fourier),
    /// A table.
    Learned(Learned),
}

impl TimeProjection {
    /// Sinusoids in `channels` channels.
    pub fn positional(channels: usize, flip_sin_to_cos: bool, freq_shift: f64) -> Self {
        Self::Positional(Positional {
            channels,
            flip_sin_to_cos,
            freq_shift,
            frequencies: Cache::default(),
        })
    }

    /// `channels` random frequencies, so 2·`channels` features. The frequencies are not trained.
    pub fn fourier(channels: usize, init: &mut Init) -> Self {
        let weight = init.normal([channels], 16.0).set_require_grad(false);
        Self::Fourier(Fourier { weight })
    }

    /// A table of `steps` vectors.
    pub fn learned(steps: usize, channels: usize, init: &mut Init) -> Self {
        Self::Learned(Learned {
            weight: init.normal([steps, channels], 1.0),
        })
    }

    /// # Shapes   `t`: `[batch]`, in steps (in σ for Fourier features); returns `[batch, features]`
    pub fn forward(&self, t: Tensor<1>) -> Tensor<2> {
        match self {
            Self::Positional(positional) => positional.forward(t),
            Self::Fourier(fourier) => {
                let angle = t.log().unsqueeze_dim::<2>(1)
                    * fourier.weight.val().unsqueeze::<2>()
                    * (2.0 * std::f64::consts::PI);
                Tensor::cat(vec![angle.clone().sin(), angle.cos()], 1)
            }
            Self::Learned(learned) => learned.weight.val().select(0, t.int()),
        }
    }
}

impl Positional {
    fn forward(&self, t: Tensor<1>) -> Tensor<2> {
        let half = self.channels / 2;
        // In f64 on the host: in f32 exp() alone would cost three digits of t·f at t near 1000.
        let frequency = |i: usize| {
            let exponent = i as f64 / (half as f64 - self.freq_shift);
            (-(10_000f64.ln()) * exponent).exp() as f32
        };
        let values = || (0..half).map(frequency).collect();
        let frequencies = self.frequencies.on_device_of(&t, values);
        let device = t.device();
        let angle = t.unsqueeze_dim::<2>(1) * frequencies;
        let (sin, cos) = (angle.clone().sin(), angle.cos());
        let mut parts = if self.flip_sin_to_cos {
            vec![cos, sin]
        } else {
            vec![sin, cos]
        };
        if !self.channels.is_multiple_of(2) {
            let [batch, _] = parts[0].dims();
            parts.push(Tensor::zeros([batch, 1], &device));
        }
        Tensor::cat(parts, 1)
    }
}

/// Linear → SiLU → linear over the features (Ho et al. 2020, appendix B).
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    /// From `features` to `dim` channels.
    pub fn new(features: usize, dim: usize, init: &mut Init) -> Self {
        Self {
            linear_1: Linear::new(features, dim, init),
            linear_2: Linear::new(dim, dim, init),
        }
    }

    /// # Shapes   `features`: `[batch, features]`; returns `[batch, dim]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        self.linear_2.forward(silu(self.linear_1.forward(features)))
    }
}
