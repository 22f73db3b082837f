use burn::tensor::Device;
use ddpm_schedule::ScheduleConfig;

use super::*;
use crate::test_support::{ramp, values};

const SHAPE: [usize; 4] = [3, 2, 2, 3];
const T: [usize; 3] = [0, 400, 999];
const P: [Prediction; 3] = [Prediction::Eps, Prediction::X0, Prediction::V];

fn schedule() -> Schedule {
    ScheduleConfig::default().build().unwrap()
}

fn objective(prediction: Prediction, weighting: Weighting) -> Objective {
    ObjectiveConfig {
        prediction,
        weighting,
    }
    .build()
    .unwrap()
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
            };
            weighting.weight(a / (1.0 - a), prediction) * (f64::from(output[i]) - target).powi(2)
        })
        .collect()
}

#[test]
fn loss_is_the_mean_of_weighted_squared_errors() {
    for prediction in P {
        for weighting in [
            Weighting::Simple,
            Weighting::MinSnr { gamma: 5.0 },
            Weighting::P2 { k: 1.0, gamma: 1.0 },
        ] {
            let [output, x0, eps] = tensors();
            let out = objective(prediction, weighting)
                .loss(output, x0, eps, &T, &schedule())
                .unwrap();
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
    let weighting = Weighting::MinSnr { gamma: 5.0 };
    let device = Device::flex().autodiff();
    let [output, x0, eps] = tensors();
    let on = |x: Tensor<4>| Tensor::<4>::from_data(x.into_data(), &device);
    let output = on(output).require_grad();
    let objective = objective(Prediction::X0, weighting);
    let loss = objective
        .loss(output.clone(), on(x0.clone()), on(eps), &T, &schedule())
        .unwrap();
    let gradient = values(output.grad(&loss.loss.backward()).unwrap());
    let (output, x0) = (values(output.inner()), values(x0));
    for i in 0..36 {
        let weight = weighting.weight(schedule().snr(T[i / 12]), Prediction::X0);
        let expected = 2.0 * weight * f64::from(output[i] - x0[i]) / 36.0;
        assert!((f64::from(gradient[i]) - expected).abs() < 1e-6, "{i}");
    }
}

#[test]
fn shapes_and_parameters_are_checked() {
    let [output, x0, eps] = tensors();
    let simple = objective(Prediction::Eps, Weighting::Simple);
    let narrow = ramp([3, 2, 2, 2], 0.0);
    let message = simple
        .loss(narrow.clone(), x0.clone(), eps.clone(), &T, &schedule())
        .unwrap_err()
        .to_string();
    assert!(message.contains("the network's output"), "{message}");
    assert!(
        simple
            .loss(output.clone(), x0.clone(), narrow, &T, &schedule())
            .is_err()
    );
    assert!(
        simple
            .loss(
                output.clone(),
                x0.clone(),
                eps.clone(),
                &T[1..],
                &schedule()
            )
            .is_err()
    );
    assert!(
        simple
            .loss(output, x0, eps, &[0, 1, 1000], &schedule())
            .is_err()
    );
    let bad = ObjectiveConfig {
        weighting: Weighting::MinSnr { gamma: -1.0 },
        ..Default::default()
    };
    assert!(bad.build().unwrap_err().to_string().contains("gamma"));
}

#[test]
fn configuration() {
    let parse = |text: &str| serde_json::from_str::<ObjectiveConfig>(text);
    assert_eq!(parse("{}").unwrap(), ObjectiveConfig::default());
    let both = parse(r#"{"prediction": "v", "weighting": "min_snr"}"#).unwrap();
    assert_eq!(both.build().unwrap().prediction(), Prediction::V);
    assert_eq!(both.weighting, Weighting::MinSnr { gamma: 5.0 });
    assert!(
        parse(r#"{"predicton": "v"}"#)
            .unwrap_err()
            .to_string()
            .contains("prediction")
    );
}
