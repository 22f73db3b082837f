//! Mean and deviation of samples of Gaussian data.

use ddpm_schedule::{Edm, Flow, Prediction, Process, ScheduleConfig, ScheduleKind, Vp, named};

use super::{DEVIATION, MEAN, batch, gaussian, network, watch_nothing};
use crate::test_support::values;
use crate::{Condition, SampleConfig, Sampler, sample, walk};

fn moments(xs: &[f32]) -> (f64, f64) {
    let n = xs.len() as f64;
    let mean = xs.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let square = |&x: &f32| (f64::from(x) - mean).powi(2);
    (mean, (xs.iter().map(square).sum::<f64>() / n).sqrt())
}

fn sampler(text: &str) -> Sampler {
    let table: toml::Table = toml::from_str(&format!("s = {text}")).unwrap();
    named::deserialize(table["s"].clone()).unwrap()
}

fn config(text: &str, steps: usize) -> SampleConfig {
    SampleConfig {
        sampler: sampler(text),
        steps: Some(steps),
        clip: false,
        ..SampleConfig::default()
    }
}

/// Three standard errors of the mean and of the deviation of `n` pixels.
fn three_errors(n: usize) -> [f64; 2] {
    let n = n as f64;
    [
        3.0 * DEVIATION / n.sqrt(),
        3.0 * DEVIATION / (2.0 * n).sqrt(),
    ]
}

#[test]
fn networks_of_every_prediction_give_the_data_back() {
    let linear = ScheduleConfig::default();
    let cosine = ScheduleConfig {
        kind: ScheduleKind::Cosine,
        ..linear.clone()
    };
    let zero = ScheduleConfig {
        zero_terminal_snr: true,
        ..linear.clone()
    };
    let table = |config: &ScheduleConfig| Process::Discrete(config.build().unwrap());
    let (linear, cosine, zero) = (table(&linear), table(&cosine), table(&zero));
    let (vp, edm, flow) = (
        Process::Vp(Vp::default()),
        Process::Edm(Edm::default()),
        Process::Flow(Flow::default()),
    );
    let large = "{ kind = \"ddpm\", variance = \"large\" }";
    for (process, text, steps, prediction) in [
        (&linear, "\"ddpm\"", 1000, Prediction::Eps),
        (&linear, large, 1000, Prediction::V),
        (&cosine, "\"ddpm\"", 200, Prediction::X0),
        (&linear, "\"ddim\"", 200, Prediction::Eps),
        (
            &linear,
            "{ kind = \"ddim\", eta = 1.0 }",
            200,
            Prediction::X0,
        ),
        (
            &cosine,
            "{ kind = \"ddim\", eta = 0.5 }",
            200,
            Prediction::V,
        ),
        (&zero, "\"ddim\"", 200, Prediction::V),
        (&zero, "\"ddpm\"", 1000, Prediction::X0),
        (&zero, "\"dpm_solver\"", 50, Prediction::V),
        (&vp, "\"ddpm\"", 200, Prediction::Eps),
        (&vp, "\"dpm_solver\"", 50, Prediction::V),
        (&edm, "\"heun\"", 50, Prediction::Edm),
        (&edm, "\"ddpm\"", 200, Prediction::Edm),
        (&edm, "\"euler\"", 200, Prediction::Eps),
        (&flow, "\"euler\"", 100, Prediction::Velocity),
        (&flow, "\"unipc\"", 50, Prediction::Velocity),
        (&flow, "\"ddpm\"", 200, Prediction::X0),
    ] {
        let plan = config(text, steps).plan(process, prediction).unwrap();
        let network = network(process, prediction);
        let xs = values(
            sample(
                &network,
                &plan,
                batch([8, 1, 32, 32], 0),
                &mut watch_nothing,
            )
            .unwrap(),
        );
        let (mean, deviation) = moments(&xs);
        // The strides leave up to 0.01 beside the chance.
        let [of_mean, of_deviation] = three_errors(xs.len()).map(|error| error + 0.01);
        let what = format!(
            "{text} on {} by {prediction:?}: {mean} {deviation}",
            process.name()
        );
        assert!((mean - MEAN).abs() < of_mean, "{what}");
        assert!((deviation - DEVIATION).abs() < of_deviation, "{what}");
    }
}

/// With enough steps nothing but chance is left.
#[test]
fn noisy_samplers_keep_the_moments_within_three_standard_errors() {
    let mut failed = Vec::new();
    for process in [
        super::table(1000),
        Process::Vp(Vp::default()),
        Process::Edm(Edm::default()),
        Process::Flow(Flow::default()),
    ] {
        for (text, steps) in [
            ("\"ddpm\"", 1000),
            ("{ kind = \"ddim\", eta = 1.0 }", 1000),
            ("\"euler_ancestral\"", 1000),
            ("{ kind = \"euler\", renoise = true }", 400),
            ("{ kind = \"heun\", s_churn = 40.0 }", 100),
            ("{ kind = \"dpm2\", s_churn = 40.0 }", 100),
            ("\"dpm2_ancestral\"", 400),
            ("\"dpmpp2s_ancestral\"", 200),
            ("\"dpmpp_sde\"", 200),
            ("{ kind = \"dpm_solver\", eta = 1.0 }", 400),
            (
                "{ kind = \"dpm_solver\", eta = 1.0, order = 3, solver = \"heun\" }",
                400,
            ),
        ] {
            let plan = config(text, steps).plan(&process, Prediction::X0);
            let plan = plan.unwrap();
            let rows = 16u64;
            let device = burn::tensor::Device::flex();
            use ddpm_schedule::noise::Stream;
            let normal =
                |stream, step| crate::randn_images(5, stream, step, 0..rows, [1, 32, 32], &device);
            let start = normal(Stream::SampleInit, 0) * plan.start_scale();
            let mut noise = |at: crate::NoiseAt| {
                normal(
                    Stream::SampleStep,
                    at.step as u64 | ((at.draw as u64) << 32),
                )
            };
            let xs = walk(
                &gaussian,
                &plan,
                start,
                Condition::default(),
                &mut noise,
                &mut watch_nothing,
            );
            let xs = values(xs.unwrap());
            let (mean, deviation) = moments(&xs);
            let [of_mean, of_deviation] = three_errors(xs.len());
            let what = format!("{text} on {}: {mean} {deviation}", process.name());
            // All noise anew at every step is another process: it is right on average, and keeps less of the width.
            if text.contains("renoise") {
                assert!((mean - MEAN).abs() < of_mean + 0.01, "{what}");
                continue;
            }
            let held =
                (mean - MEAN).abs() < of_mean && (deviation - DEVIATION).abs() < of_deviation;
            if !held {
                failed.push(what);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
