use burn::tensor::{Device, FloatDType};
use ddpm_schedule::{Process, Schedule, ScheduleConfig, Weighting};

use super::*;
use crate::test_support::{ramp, values};

const SHAPE: [usize; 4] = [3, 2, 2, 3];
const T: [usize; 3] = [0, 400, 999];
const TIMES: [f64; 3] = [0.0, 400.0, 999.0];
const P: [Prediction; 3] = [Prediction::Eps, Prediction::X0, Prediction::V];

fn schedule() -> Schedule {
    ScheduleConfig::default().build().unwrap()
}

fn process() -> Process {
    Process::Discrete(schedule())
}

fn loss(
    objective: &Objective,
    output: Tensor<4>,
    x0: Tensor<4>,
    eps: Tensor<4>,
    t: &[f64],
) -> Result<LossOut, DiffusionError> {
    objective.loss(output, objective.towards(&process(), x0, eps, t)?)
}

fn objective(prediction: Prediction, weighting: Weighting) -> Objective {
    let config = ObjectiveConfig {
        prediction: Some(prediction),
        weighting,
        ..ObjectiveConfig::default()
    };
    config.build(&process()).unwrap()
}

fn tensors() -> [Tensor<4>; 3] {
    [ramp(SHAPE, 0.7), ramp(SHAPE, -1.0), ramp(SHAPE, 0.2)]
}

/// Weighted squared errors by hand in f64, one an element.
fn by_hand(prediction: Prediction, weighting: Weighting) -> Vec<f64> {
    let schedule = schedule();
    let [output, x0, eps] = tensors().map(values);
    (0..output.len())
        .map(|i| {
            let t = T[i / 12];
            let a = schedule.alpha_bar(t);
            let (x0, eps) = (f64::from(x0[i]), f64::from(eps[i]));
            let target = match prediction {
                Prediction::Eps => eps,
                Prediction::X0 => x0,
                Prediction::V => a.sqrt() * eps - (1.0 - a).sqrt() * x0,
                Prediction::Edm | Prediction::Velocity => unreachable!("not of tables"),
            };
            weighting.weight(schedule.level(t), prediction, 0.5)
                * (f64::from(output[i]) - target).powi(2)
        })
        .collect()
}

#[test]
fn loss_is_the_mean_of_weighted_squared_errors() {
    for prediction in P {
        for weighting in [
            Weighting::Simple {},
            Weighting::MinSnr {
                gamma: 5.0,
                as_eps: false,
            },
            Weighting::P2 { k: 1.0, gamma: 1.0 },
        ] {
            let [output, x0, eps] = tensors();
            let objective = objective(prediction, weighting);
            let out = loss(&objective, output, x0, eps, &TIMES).unwrap();
            let expected = by_hand(prediction, weighting);
            let mean = expected.iter().sum::<f64>() / 36.0;
            let loss = f64::from(values(out.loss)[0]);
            assert!(
                (loss / mean - 1.0).abs() < 1e-5,
                "{prediction:?} {weighting:?}: {loss} {mean}"
            );
            for (i, per_image) in values(out.per_image).into_iter().enumerate() {
                let mean = expected[i * 12..(i + 1) * 12].iter().sum::<f64>() / 12.0;
                assert!((f64::from(per_image) - mean).abs() < 1e-5 * mean.abs().max(1e-6));
            }
        }
    }
}

#[test]
fn gradient_of_the_loss() {
    let weighting = Weighting::MinSnr {
        gamma: 5.0,
        as_eps: false,
    };
    let device = Device::flex().autodiff();
    let [output, x0, eps] = tensors();
    let on = |x: Tensor<4>| Tensor::<4>::from_data(x.into_data(), &device);
    let output = on(output).require_grad();
    let objective = objective(Prediction::X0, weighting);
    let loss = loss(&objective, output.clone(), on(x0.clone()), on(eps), &TIMES).unwrap();
    let gradient = values(output.grad(&loss.loss.backward()).unwrap());
    let (output, x0) = (values(output.inner()), values(x0));
    for i in 0..36 {
        let weight = weighting.weight(schedule().level(T[i / 12]), Prediction::X0, 0.5);
        let expected = 2.0 * weight * f64::from(output[i] - x0[i]) / 36.0;
        assert!((f64::from(gradient[i]) - expected).abs() < 1e-6, "{i}");
    }
}

#[test]
fn shapes_and_parameters_are_checked() {
    let [output, x0, eps] = tensors();
    let simple = objective(Prediction::Eps, Weighting::Simple {});
    let narrow = ramp([3, 2, 2, 2], 0.0);
    let refused = loss(&simple, narrow.clone(), x0.clone(), eps.clone(), &TIMES);
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("the network's output"), "{message}");
    assert!(loss(&simple, output.clone(), x0.clone(), narrow, &TIMES).is_err());
    assert!(loss(&simple, output, x0, eps, &TIMES[1..]).is_err());
    let flow = Process::Flow(ddpm_schedule::Flow::default());
    for (text, process, words) in [
        (
            "weighting = { kind = \"min_snr\", gamma = -1.0 }",
            process(),
            "weighting.gamma is -1",
        ),
        (
            "error = { kind = \"pseudo_huber\", c = 0.0 }",
            process(),
            "objective.error.c is 0",
        ),
        (
            "offset_noise = -0.1",
            process(),
            "objective.offset_noise is -0.1",
        ),
        (
            "input_perturbation = nan",
            process(),
            "objective.input_perturbation is NaN",
        ),
        (
            "variance = \"learned_range\"\nbound = \"none\"",
            process(),
            "objective.bound is none",
        ),
        ("bound = \"hybrid\"", process(), "objective.bound is hybrid"),
        (
            "bound = { kind = \"vlb\", weight = -1.0 }",
            process(),
            "objective.bound.weight is -1",
        ),
        (
            "variance = \"learned_range\"",
            flow,
            "objective.variance is flow",
        ),
    ] {
        let config: ObjectiveConfig = toml::from_str(text).unwrap();
        let message = config.build(&process).unwrap_err().to_string();
        assert!(message.contains(words), "{text}: {message}");
    }
}

#[test]
fn errors_of_other_kinds() {
    for (text, expected) in [
        ("\"l1\"", [0.5, 2.0]),
        (
            "{ kind = \"pseudo_huber\", c = 1.5 }",
            [2.5f64.sqrt() - 1.5, 2.5 - 1.5],
        ),
    ] {
        let config: ObjectiveConfig = toml::from_str(&format!("error = {text}")).unwrap();
        let objective = config.build(&process()).unwrap();
        let image = |a: f32, b: f32| Tensor::<4>::from_data([[[[a, b]]]], &Device::flex());
        let out = loss(
            &objective,
            image(0.5, -1.0),
            image(0.0, 0.0),
            image(0.0, 1.0),
            &[3.0],
        )
        .unwrap();
        let mean = (expected[0] + expected[1]) / 2.0;
        assert!(
            (f64::from(values(out.loss)[0]) - mean).abs() < 1e-6,
            "{text}"
        );
    }
}

/// The gradient of every loss with a bound against differences, in f64.
#[test]
fn gradients_of_the_bound() {
    let device = Device::flex().autodiff();
    let on = |x: Tensor<4>| Tensor::<4>::from_data(x.into_data(), &device);
    for text in [
        "variance = \"learned_range\"",
        "variance = \"learned_range\"\nbound = \"vlb\"",
        "variance = \"learned\"\nbound = \"vlb\"",
        "variance = \"fixed_large\"\nbound = { kind = \"vlb\", weight = 3.0 }",
        "variance = \"learned_range\"\nprediction = \"v\"\nweighting = \"min_snr\"",
    ] {
        let config: ObjectiveConfig = toml::from_str(text).unwrap();
        let objective = config.build(&process()).unwrap();
        let channels = if text.contains("learned") { 4 } else { 2 };
        let output = on(ramp([3, channels, 2, 3], 0.7)).cast(FloatDType::F64);
        let (x0, eps) = (on(ramp(SHAPE, -1.0)), on(ramp(SHAPE, 0.2)));
        let value = |output: Tensor<4>| {
            let target = objective
                .towards(&process(), x0.clone(), eps.clone(), &TIMES)
                .unwrap();
            let (images, rows) = target.into_parts();
            let images = images
                .into_iter()
                .map(|x| x.cast(FloatDType::F64))
                .collect();
            let rows = rows.into_iter().map(|x| x.cast(FloatDType::F64)).collect();
            let target = objective.target_of(images, rows).unwrap();
            objective.loss(output, target).unwrap().loss
        };
        let tracked = output.clone().require_grad();
        let gradient = tracked.grad(&value(tracked.clone()).backward()).unwrap();
        let gradient: Vec<f64> = gradient.into_data().try_to_vec().unwrap();
        let base: Vec<f64> = output.inner().into_data().try_to_vec().unwrap();
        for i in [0, 5, 7, 13, 18, 20, 30, 35, 12 * channels / 2 + 3] {
            // Beside the error, the bound moves the variance alone: its part of the mean's gradient is not there.
            let of_mean = (i / 6) % channels < 2;
            if of_mean && channels == 4 && !text.contains("vlb") {
                continue;
            }
            let at = |step: f64| {
                let mut moved = base.clone();
                moved[i] += step;
                let data = burn::tensor::TensorData::new(moved, [3, channels, 2, 3]);
                let moved = Tensor::<4>::from_data(data, &device).cast(FloatDType::F64);
                let value: Vec<f64> = value(moved).into_data().try_to_vec().unwrap();
                value[0]
            };
            let h = 1e-3;
            let difference = (at(h) - at(-h)) / (2.0 * h);
            let scale = difference.abs().max(1e-2);
            assert!(
                (gradient[i] - difference).abs() < 2e-3 * scale,
                "{text} {i}: {} {difference}",
                gradient[i]
            );
        }
    }
}

#[test]
fn what_is_drawn_more_often_counts_less_and_what_is_uncertain_less() {
    let [output, x0, eps] = tensors();
    let plain = objective(Prediction::Eps, Weighting::Simple {});
    let found = loss(&plain, output.clone(), x0.clone(), eps.clone(), &TIMES).unwrap();
    let errors = found.per_image.into_data().try_to_vec::<f32>().unwrap();
    let mut target = plain.towards(&process(), x0, eps, &TIMES).unwrap();
    let row = |values: [f32; 3]| Some(Tensor::from_floats(values, &output.device()));
    let (counts, logs) = ([2.0, 0.5, 1.0], [0.3, -1.0, 2.0]);
    (target.counts, target.uncertainty) = (row(counts), row(logs));
    let found = plain.loss(output.clone(), target).unwrap();
    let expected: Vec<f32> = errors
        .iter()
        .zip(logs)
        .map(|(e, u)| e * (-u).exp() + u)
        .collect();
    let per_image = found.per_image.into_data().try_to_vec::<f32>().unwrap();
    let mean = expected.iter().zip(counts).map(|(e, c)| e * c).sum::<f32>() / 3.0;
    for (found, expected) in per_image.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    let found = found.loss.into_data().try_to_vec::<f32>().unwrap()[0];
    assert!((found - mean).abs() < 1e-5, "{found} {mean}");
}

#[test]
fn targets_can_be_taken_apart() {
    let learned = "importance = {}\nuncertainty = {}";
    for text in ["", "variance = \"learned_range\"", learned] {
        let config: ObjectiveConfig = toml::from_str(text).unwrap();
        let objective = config.build(&process()).unwrap();
        let [output, x0, eps] = tensors();
        let output = match objective.has_bound() {
            true => Tensor::cat(vec![output.clone(), output], 1),
            false => output,
        };
        let mut target = objective.towards(&process(), x0, eps, &TIMES).unwrap();
        let row = |has: bool, first: f32| {
            has.then(|| Tensor::from_floats([first, 0.7, -0.2], &output.device()))
        };
        target.counts = row(config.importance.is_some(), 3.0);
        target.uncertainty = row(config.uncertainty.is_some(), 0.4);
        let whole = values(objective.loss(output.clone(), target.clone()).unwrap().loss);
        let (images, rows) = target.into_parts();
        assert_eq!((images.len(), rows.len()), objective.target_parts());
        let again = objective.target_of(images, rows).unwrap();
        assert_eq!(values(objective.loss(output, again).unwrap().loss), whole);
    }
}

#[test]
fn configuration() {
    let parse = |text: &str| serde_json::from_str::<ObjectiveConfig>(text);
    assert_eq!(parse("{}").unwrap(), ObjectiveConfig::default());
    let both = parse(r#"{"prediction": "v", "weighting": "min_snr"}"#).unwrap();
    assert_eq!(
        both.build(&process()).unwrap().meaning(),
        Prediction::V.into()
    );
    assert_eq!(
        both.weighting,
        Weighting::MinSnr {
            gamma: 5.0,
            as_eps: false
        }
    );
    assert!(
        parse(r#"{"predicton": "v"}"#)
            .unwrap_err()
            .to_string()
            .contains("prediction")
    );
}
