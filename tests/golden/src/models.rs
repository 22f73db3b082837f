//! Networks and denoisers in closed form, computed in f64 at every pixel.

use burn::tensor::Tensor;
use ddpm_diffusion::{Condition, Denoiser, DiffusionError, Estimate};
use ddpm_schedule::Stop;
use serde_json::{Value, json};

use crate::keys::unsupported;
use crate::source::images;

/// What a network says at one pixel: of the input as it sees it, and what it is told.
pub type Pixel = fn(f64, f64) -> f64;

/// A network by its name in diffusers' cases.
///
/// # Errors   for a name that is not known
pub fn network(name: &str) -> anyhow::Result<Pixel> {
    match name {
        "ratio" => Ok(ratio),
        "wave" => Ok(wave),
        "edm_net" => Ok(|x, c| 0.5 * x.tanh() + 0.1 * c),
        "flow_gauss" => Ok(flow_gauss),
        other => Err(unknown("model", other)),
    }
}

/// A network by its formula, as k-diffusion's cases have it.
///
/// # Errors   for a formula that is not known
pub fn formula(text: &str) -> anyhow::Result<Pixel> {
    match text {
        "out = x*t/(t+1)" => Ok(ratio),
        "out = x*t/(t+1) + 0.3*sin(3x)" => Ok(wave),
        other => Err(unknown("inner_model", other)),
    }
}

/// The posterior mean of x0 given x at a signal of 1 and σ.
///
/// # Errors   for a name that is not known
pub fn denoiser(name: &str) -> anyhow::Result<Pixel> {
    match name {
        // Data N(0.3, 0.5²).
        "gaussian" => Ok(|x, s| (0.25 * x + 0.3 * s * s) / (s * s + 0.25)),
        // Data ½ N(-0.6, 0.2²) + ½ N(0.6, 0.2²).
        "mixture" => Ok(|x, s| {
            let v = 0.04 + s * s;
            (0.04 * x + 0.6 * s * s * (0.6 * x / v).tanh()) / v
        }),
        other => Err(unknown("denoiser", other)),
    }
}

fn unknown(key: &str, name: &str) -> anyhow::Error {
    let value: Value = json!(name);
    unsupported(key, &value, "a closed form that is known here (models.rs)")
}

fn ratio(x: f64, t: f64) -> f64 {
    x * t / (t + 1.0)
}

fn wave(x: f64, t: f64) -> f64 {
    ratio(x, t) + 0.3 * (3.0 * x).sin()
}

/// The exact velocity for data N(0.3, 0.5²).
fn flow_gauss(x: f64, t: f64) -> f64 {
    let s = t / 1000.0;
    let signal = 1.0 - s;
    let r = (x - signal * 0.3) / (signal * signal * 0.25 + s * s);
    s * r - 0.3 - signal * 0.25 * r
}

/// `pixel` at every pixel.
///
/// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
///
/// # Errors   if the device fails
pub fn at_each(x: &Tensor<4>, pixel: impl Fn(f64) -> f64) -> anyhow::Result<Tensor<4>> {
    let data = x.clone().try_into_data();
    let data = data.map_err(|error| anyhow::anyhow!("{error}"))?;
    let values: Vec<f64> = data.iter::<f64>().map(pixel).collect();
    Ok(images(&values, x.dims(), x.dtype()))
}

/// The denoiser of a closed form, at any level of any process.
pub struct OfSigma(pub Pixel);

impl Denoiser for OfSigma {
    fn denoise(&self, x: &Tensor<4>, at: Stop, _: &Condition) -> Result<Estimate, DiffusionError> {
        let (signal, sigma) = (at.level.signal, at.level.sigma());
        let x0 = at_each(x, |x| (self.0)(x / signal, sigma));
        let x0 = x0.map_err(|error| DiffusionError::Network {
            t: at.time,
            source: error.into(),
        })?;
        Ok(Estimate {
            x0,
            variance: None,
            output: None,
        })
    }
}
