//! Samplers over networks and distributions that are known exactly.

mod config;
mod editing;
mod moments;
mod orders;
mod sampling;
mod scheduler_keys;

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};
use ddpm_schedule::{Level, Prediction, Process, ScheduleConfig, Stop};

use crate::{Condition, Estimate, Progress};

/// The mean and deviation of the pixels, all independent, of the data that [`gaussian`] knows.
const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.5;

/// E[x0 | x] of pixels N(0.3, 0.5²).
fn exact(x: &Tensor<4>, level: Level) -> Tensor<4> {
    let Level { signal, noise } = level;
    let variance = DEVIATION * DEVIATION;
    let gain = signal * variance / (signal * signal * variance + noise * noise);
    x.clone() * gain + MEAN * (1.0 - gain * signal)
}

/// The perfect denoiser.
fn gaussian(x: &Tensor<4>, at: Stop) -> Tensor<4> {
    exact(x, at.level)
}

/// The perfect network: what it outputs is what [`gaussian`] says, put in terms of what it is to predict.
fn network(
    process: &Process,
    prediction: Prediction,
) -> impl Fn(Tensor<4>, Tensor<1>, &Condition) -> Result<Tensor<4>, std::convert::Infallible> + '_ {
    move |input, time, _| {
        // What it is told leads back to the level.
        let told = f64::from(crate::test_support::values(time)[0]);
        let time = match process {
            Process::Discrete(_) => told,
            Process::Vp(_) => told / 999.0,
            Process::Edm(_) => (4.0 * told).exp(),
            Process::Flow(_) => told / 1000.0,
        };
        let level = process.level(time);
        let coefs = prediction.coefs(level, process.sigma_data());
        let x = input * (1.0 / coefs.c_in);
        let x0 = exact(&x, level);
        Ok((x0 - x * coefs.c_skip) * (1.0 / coefs.c_out))
    }
}

fn table(steps: usize) -> Process {
    let config = ScheduleConfig {
        steps,
        ..Default::default()
    };
    Process::Discrete(config.build().unwrap())
}

fn watch_nothing(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) fn batch(shape: [usize; 4], first_index: u64) -> crate::SampleBatch<'static> {
    crate::SampleBatch {
        shape,
        seed: 5,
        first_index,
        condition: Condition::default(),
        guide: Default::default(),
        device: Device::flex(),
    }
}

#[test]
fn an_estimate_knows_its_noise() {
    let x = crate::test_support::ramp([1, 1, 2, 3], 0.1);
    let level = Level::of_alpha_bar(0.4);
    let estimate = Estimate {
        x0: x.clone() * 0.5,
        variance: None,
        output: None,
    };
    let back = estimate.x0.clone() * level.signal + estimate.eps(&x, level) * level.noise;
    for (a, b) in crate::test_support::values(back)
        .iter()
        .zip(crate::test_support::values(x))
    {
        assert!((a - b).abs() < 1e-6);
    }
}
