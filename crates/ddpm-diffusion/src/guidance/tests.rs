use std::cell::RefCell;
use std::convert::Infallible;

use burn::tensor::{Device, Int};
use ddpm_schedule::{Prediction, Process, ScheduleConfig};

use super::*;
use crate::test_support::values;
use crate::{NetworkDenoiser, Plan, SampleConfig};

/// What the network says of class c: c everywhere. Class 9 is the null class.
fn says_class(x: Tensor<4>, _: Tensor<1>, condition: &Condition) -> Result<Tensor<4>, Infallible> {
    let Some(labels) = condition.labels.clone() else {
        return Ok(x.zeros_like());
    };
    let column = labels.float().reshape([x.dims()[0] as i32, 1, 1, 1]);
    Ok(x.zeros_like() + column)
}

fn labels(classes: &[i32]) -> Condition {
    let labels = Tensor::<1, Int>::from_ints(classes, &Device::flex());
    Condition::of_labels(Some(labels))
}

fn process() -> Process {
    Process::Discrete(ScheduleConfig::default().build().unwrap())
}

fn config(scale: f64) -> GuidanceConfig {
    GuidanceConfig {
        scale,
        ..GuidanceConfig::default()
    }
}

#[test]
fn the_output_goes_from_the_null_class_through_that_of_the_class() {
    let process = process();
    let x = Tensor::ones([2, 1, 2, 2], &Device::flex());
    let at = Stop::of(&process, process.level(500.0));
    for (scale, expected) in [(0.0, [9.0, 9.0]), (1.0, [2.0, 4.0]), (3.0, [-12.0, -6.0])] {
        let asked = RefCell::new(Vec::new());
        let network = |x: Tensor<4>, t: Tensor<1>, condition: &Condition| {
            asked.borrow_mut().push(x.dims()[0]);
            says_class(x, t, condition)
        };
        let strong = NetworkDenoiser::new(&process, Prediction::Eps.into(), &network);
        let guided = Guided::new(strong, None, Some(labels(&[9, 9])), config(scale));
        let found = guided.denoise(&x, at, &labels(&[2, 4])).unwrap();
        let output = values(found.output.unwrap().value);
        assert_eq!([output[0], output[4]], expected, "{scale}");
        // Both evaluations are one batch, and where one is enough there is one.
        let rows = if scale == 3.0 { 4 } else { 2 };
        assert_eq!(*asked.borrow(), [rows], "{scale}");
    }
}

#[test]
fn a_second_network_is_told_the_same() {
    let process = process();
    let x = Tensor::ones([1, 1, 2, 2], &Device::flex());
    let at = Stop::of(&process, process.level(500.0));
    let half = |x: Tensor<4>, t: Tensor<1>, condition: &Condition| {
        says_class(x, t, condition).map(|output| output * 0.5)
    };
    let of = |network| NetworkDenoiser::new(&process, Prediction::Eps.into(), network);
    let guided = Guided::new(of(&says_class), Some(of(&half)), None, config(2.0));
    let found = guided.denoise(&x, at, &labels(&[4])).unwrap();
    assert_eq!(values(found.output.unwrap().value)[0], 6.0);
}

#[test]
fn rescaling_keeps_the_deviation_and_orthogonal_keeps_the_length_along_the_output() {
    let device = Device::flex();
    let normal = |stream| crate::randn_images(1, stream, 0, 0..2, [3, 4, 4], &device);
    let strong = normal(ddpm_schedule::noise::Stream::SampleInit);
    let weak = normal(ddpm_schedule::noise::Stream::SampleStep) * 0.3;
    let deviation = |x: &Tensor<4>, row: usize| {
        let x: Vec<f64> = values(x.clone())[row * 48..][..48]
            .iter()
            .map(|&x| f64::from(x))
            .collect();
        let mean = x.iter().sum::<f64>() / 48.0;
        (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 48.0).sqrt()
    };
    let out = combine::rescaled(combine::along(&weak, &strong, 4.0), &strong, 1.0);
    for row in 0..2 {
        let (ours, theirs) = (deviation(&out, row), deviation(&strong, row));
        assert!((ours - theirs).abs() < 1e-5 * theirs, "{ours} {theirs}");
    }
    let dot = |a: &Tensor<4>, b: &Tensor<4>, row: usize| {
        let (a, b) = (values(a.clone()), values(b.clone()));
        let pairs = a[row * 48..][..48].iter().zip(&b[row * 48..][..48]);
        pairs
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum::<f64>()
    };
    let out = combine::orthogonal(&weak, &strong, 4.0);
    for row in 0..2 {
        let (ours, theirs) = (dot(&out, &strong, row), dot(&strong, &strong, row));
        assert!((ours - theirs).abs() < 1e-4 * theirs, "{ours} {theirs}");
    }
}

#[test]
fn intervals_go_by_where_a_step_begins() {
    let process = process();
    let at = |sigma: f64| Level {
        signal: 1.0,
        noise: sigma,
    };
    let by_sigma = Interval {
        sigma: Some([0.5, 2.0]),
        steps: None,
    };
    for (sigma, expected) in [(0.5, false), (0.6, true), (2.0, true), (2.1, false)] {
        assert_eq!(by_sigma.holds(0, 1, at(sigma)), expected, "{sigma}");
    }
    let by_step = Interval {
        sigma: None,
        steps: Some([0.2, 0.75]),
    };
    let held: Vec<usize> = (0..10)
        .filter(|&step| by_step.holds(step, 10, at(1.0)))
        .collect();
    assert_eq!(held, [2, 3, 4, 5, 6]);

    // Heun asks twice a step: the second evaluation goes by where the step began.
    let asked = RefCell::new(Vec::new());
    let network = |x: Tensor<4>, t: Tensor<1>, condition: &Condition| {
        asked.borrow_mut().push(x.dims()[0]);
        says_class(x, t, condition)
    };
    let sample: SampleConfig = serde_json::from_value(serde_json::json!({
        "sampler": "heun", "steps": 4, "guidance": {"scale": 2.0, "interval": {"steps": [0.25, 0.5]}}
    }))
    .unwrap();
    let plan: Plan = sample.plan(&process, Prediction::Eps).unwrap();
    let guide = Guide {
        null: Some(labels(&[9])),
        network: None,
    };
    let batch = crate::SampleBatch {
        condition: labels(&[1]),
        guide,
        ..crate::tests::batch([1, 1, 2, 2], 0)
    };
    let go_on = &mut |_: crate::Progress<'_>| std::ops::ControlFlow::Continue(());
    crate::sample(&network, &plan, batch, go_on).unwrap();
    assert_eq!(*asked.borrow(), [1, 1, 2, 2, 1, 1, 1]);
}

#[test]
fn guidance_without_a_guide_and_bad_keys_are_refused() {
    let process = process();
    let plan = |json: serde_json::Value| {
        let sample = serde_json::json!({"steps": 4, "guidance": json});
        let sample: Result<SampleConfig, _> = serde_json::from_value(sample);
        sample
            .map_err(|error| error.to_string())
            .and_then(|sample| {
                let plan = sample.plan(&process, Prediction::Eps);
                plan.map_err(|error| error.to_string())
            })
    };
    let guided = plan(serde_json::json!({"scale": 2.0})).unwrap();
    let refused = guided.denoiser(&says_class, Guide::default());
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("null class"), "{refused}");
    for (json, word) in [
        (serde_json::json!({"scale": 2.0, "rescale": 1.5}), "rescale"),
        (
            serde_json::json!({"interval": {"sigma": [2.0, 1.0]}}),
            "sigma",
        ),
        (
            serde_json::json!({"interval": {"steps": [0.5, 1.5]}}),
            "steps",
        ),
        (serde_json::json!({"intervall": 3}), "intervall"),
    ] {
        let refused = plan(json).unwrap_err();
        assert!(refused.contains(word), "{refused}");
    }
}
