//! The keys of diffusers' schedulers that move time steps or the end of DDIM, against diffusers.

use burn::tensor::TensorData;
use serde_json::Value;

use std::convert::Infallible;
use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};
use ddpm_schedule::{GridRules, Prediction, Process, ScheduleConfig, named};

use crate::sampler::{ddim::Ddim, ddpm::Ddpm};
use crate::test_support::values;
use crate::{Condition, NoiseAt, Progress, SampleConfig, Sampler, sample_from};

const CASES: &str = include_str!("../../tests/fixtures/scheduler_keys.json");

fn images(value: &Value) -> Tensor<4> {
    let data: Vec<f32> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_data(TensorData::new(data, [1, 1, 2, 4]), &Device::flex())
}

/// The settings in our words.
fn read(case: &Value) -> (Process, SampleConfig, Prediction) {
    let config = &case["config"];
    let flag = |key: &str, default| config[key].as_bool().unwrap_or(default);
    let count = |key: &str, default| config[key].as_u64().map_or(default, |n| n as usize);
    let schedule = ScheduleConfig {
        steps: count("num_train_timesteps", 1000),
        beta_end: config["beta_end"].as_f64().unwrap_or(0.02),
        zero_terminal_snr: flag("rescale_betas_zero_snr", false),
        ..Default::default()
    };
    let prediction = match config["prediction_type"].as_str() {
        None => Prediction::Eps,
        Some("sample") => Prediction::X0,
        Some(_) => Prediction::V,
    };
    let spacing = config["timestep_spacing"].as_str().unwrap_or("leading");
    let is_ddim = case["scheduler"] == "DDIMScheduler";
    let sample = SampleConfig {
        sampler: match is_ddim {
            true => Sampler::Ddim(Ddim {
                eta: case["args"]["eta"].as_f64().unwrap_or(0.0),
                keep_eps: true,
            }),
            false => Sampler::Ddpm(Ddpm::default()),
        },
        steps: Some(case["steps"].as_u64().unwrap() as usize),
        clip: flag("clip_sample", true),
        clip_range: config["clip_sample_range"].as_f64().unwrap_or(1.0),
        spacing: Some(named::deserialize(Value::from(spacing)).unwrap()),
        offset: count("steps_offset", 0),
        grid: GridRules {
            fixed_stride: is_ddim,
            to_first: !flag("set_alpha_to_one", true),
            ..GridRules::default()
        },
        ..Default::default()
    };
    (
        Process::Discrete(schedule.build().unwrap()),
        sample,
        prediction,
    )
}

#[test]
fn every_key_acts_as_in_diffusers() {
    let golden: Value = serde_json::from_str(CASES).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    let denoiser = |xt: Tensor<4>, t: Tensor<1>, _: &Condition| {
        let t = values(t)[0];
        Ok::<_, Infallible>(xt * (t / (t + 1.0)))
    };
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (process, config, prediction) = read(case);
        let plan = config.plan(&process, prediction).unwrap();
        let expected: Vec<usize> = serde_json::from_value(case["timesteps"].clone()).unwrap();
        let legs = plan.grid().legs();
        let visited: Vec<usize> = legs.iter().map(|leg| leg.from.time as usize).collect();
        assert_eq!(visited, expected, "{name}");
        let mut seen = 0;
        let mut observer = |progress: Progress<'_>| {
            seen += 1;
            let theirs = values(images(&case["samples"][progress.step - 1]));
            for (a, b) in values(progress.xt.clone()).into_iter().zip(theirs) {
                // diffusers computes its tables in float32.
                let tolerance = 2e-4 * (1.0 + b.abs());
                assert!(
                    (a - b).abs() < tolerance,
                    "{name}, step {}: {a} {b}",
                    progress.step
                );
            }
            ControlFlow::Continue(())
        };
        let mut draw = |at: NoiseAt| images(&golden["noise"][at.step]);
        let start = images(&golden["x_T"]);
        let condition = Condition::default();
        sample_from(
            &denoiser,
            &plan,
            start,
            condition,
            Default::default(),
            &mut draw,
            &mut observer,
        )
        .unwrap();
        assert_eq!(seen, expected.len(), "{name}");
    }
}
