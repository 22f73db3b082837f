//! Networks and denoisers in closed form, computed in f64 at every pixel.

use anyhow::Context;
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
        "mixture" => Ok(mixture),
        other => Err(unknown("denoiser", other)),
    }
}

/// What a network that knows classes says at one pixel: of the input, the time or σ, and the class, if it is told one.
pub type ClassPixel = fn(f64, f64, Option<f64>) -> f64;

/// A network or denoiser with classes by its name in the cases of guidance.
///
/// # Errors   for a name that is not known
pub fn class_network(name: &str) -> anyhow::Result<ClassPixel> {
    match name {
        "eps_cond" => Ok(|x, t, class| match class {
            Some(class) => ratio(x, t) + 0.3 * (3.0 * x + class).sin(),
            None => 0.8 * ratio(x, t),
        }),
        "eps_weak" => {
            Ok(|x, t, class| 0.9 * ratio(x, t) + 0.15 * (3.0 * x + class.unwrap_or(0.0)).sin())
        }
        "D_cond" => Ok(|x, s, class| match class {
            Some(class) => (0.16 * x + 0.1 * class * s * s) / (s * s + 0.16),
            None => mixture(x, s),
        }),
        "D_weak" => {
            Ok(|x, s, class| (0.36 * x + 0.07 * class.unwrap_or(0.0) * s * s) / (s * s + 0.36))
        }
        other => Err(unknown("model", other)),
    }
}

/// `pixel` at every pixel, with each image's class, where it is not `null`.
///
/// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
///
/// # Errors   if the device fails
pub fn at_each_of_class(
    x: &Tensor<4>,
    time: f64,
    told: &Condition,
    null: i64,
    pixel: ClassPixel,
) -> anyhow::Result<Tensor<4>> {
    let labels = told.labels.as_ref().context("no class is told")?.to_data();
    let labels: Vec<i64> = labels.iter::<i64>().collect();
    let data = x.clone().try_into_data();
    let data: Vec<f64> = data
        .map_err(|error| anyhow::anyhow!("{error}"))?
        .iter()
        .collect();
    let each = (data.len() / labels.len().max(1)).max(1);
    let of_image = |(image, &label): (&[f64], &i64)| {
        let class = (label != null).then_some(label as f64);
        image
            .iter()
            .map(|&x| pixel(x, time, class))
            .collect::<Vec<f64>>()
    };
    let values: Vec<f64> = data.chunks(each).zip(&labels).flat_map(of_image).collect();
    Ok(images(&values, x.dims(), x.dtype()))
}

fn unknown(key: &str, name: &str) -> anyhow::Error {
    let value: Value = json!(name);
    unsupported(key, &value, "a closed form that is known here (models.rs)")
}

fn mixture(x: f64, s: f64) -> f64 {
    let v = 0.04 + s * s;
    (0.04 * x + 0.6 * s * s * (0.6 * x / v).tanh()) / v
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
