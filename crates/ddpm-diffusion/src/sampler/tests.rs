use std::convert::Infallible;

use ddpm_schedule::{
    Respaced, Schedule, ScheduleConfig, ScheduleKind, Spacing, VarianceKind, timesteps,
};

use super::*;
use crate::{SampleConfig, SamplerKind, test_support::values};

mod golden;
mod scheduler_keys;

fn watch_nothing(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn batch(shape: [usize; 4], first_index: u64) -> ImageBatch {
    ImageBatch {
        shape,
        seed: 5,
        first_index,
        labels: None,
        device: Device::flex(),
    }
}

fn draw(
    denoiser: &impl Denoiser,
    config: &SampleConfig,
    schedule: &Schedule,
    prediction: Prediction,
    batch: ImageBatch,
) -> Vec<f32> {
    let plan = config.plan(schedule, prediction).unwrap();
    values(sample(denoiser, &plan, batch, &mut watch_nothing).unwrap())
}

/// The mean and deviation of the pixels, all independent, of the data that [`gaussian`] knows.
const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.5;

/// The perfect network for pixels N(0.3, 0.5²):
/// E[x0 | x_t] = m + √ᾱ·s²/(ᾱ·s² + 1 - ᾱ)·(x_t - √ᾱ·m), put in terms of what it is to predict.
fn gaussian(
    schedule: &Schedule,
    prediction: Prediction,
) -> impl Fn(Tensor<4>, Tensor<1>, Option<Tensor<1, Int>>) -> Result<Tensor<4>, Infallible> {
    move |xt, t, _| {
        let a = schedule.alpha_bar(values(t)[0] as usize);
        let gain = a.sqrt() * DEVIATION.powi(2) / (a * DEVIATION.powi(2) + 1.0 - a);
        // x̂0 = gain·x_t + rest
        let rest = MEAN * (1.0 - gain * a.sqrt());
        let (c_xt, c_x0) = match prediction {
            Prediction::X0 => (0.0, 1.0),
            Prediction::Eps => prediction::eps_coefs(Prediction::X0, a),
            Prediction::V => prediction::v_coefs(Prediction::X0, a),
        };
        Ok(xt * (c_xt + c_x0 * gain) + c_x0 * rest)
    }
}

fn moments(xs: &[f32]) -> (f64, f64) {
    let n = xs.len() as f64;
    let mean = xs.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = xs
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / n;
    (mean, variance.sqrt())
}

#[test]
fn samples_of_a_gaussian_have_its_mean_and_deviation() {
    let linear = ScheduleConfig::default();
    let cosine = ScheduleConfig {
        kind: ScheduleKind::Cosine,
        ..linear.clone()
    };
    let zero = ScheduleConfig {
        zero_terminal_snr: true,
        ..linear.clone()
    };
    let unclipped = SampleConfig {
        clip: false,
        ..Default::default()
    };
    let ddpm = |variance, steps| SampleConfig {
        variance,
        steps,
        ..unclipped.clone()
    };
    let ddim = |eta, steps| SampleConfig {
        sampler: SamplerKind::Ddim,
        eta,
        steps: Some(steps),
        ..unclipped.clone()
    };
    for (schedule, config, prediction) in [
        (&linear, ddpm(VarianceKind::Small, None), Prediction::Eps),
        (&linear, ddpm(VarianceKind::Large, None), Prediction::V),
        (
            &cosine,
            ddpm(VarianceKind::Small, Some(200)),
            Prediction::X0,
        ),
        (&linear, ddim(0.0, 200), Prediction::Eps),
        (&linear, ddim(1.0, 200), Prediction::X0),
        (&cosine, ddim(0.5, 200), Prediction::V),
        (&zero, ddim(0.0, 200), Prediction::V),
        (&zero, ddpm(VarianceKind::Small, None), Prediction::X0),
    ] {
        let schedule = schedule.build().unwrap();
        let denoiser = gaussian(&schedule, prediction);
        // 8192 pixels: 4 standard errors are 0.022 of the mean and 0.016 of the deviation,
        // and the strides leave up to 0.01 more.
        let xs = draw(
            &denoiser,
            &config,
            &schedule,
            prediction,
            batch([8, 1, 32, 32], 0),
        );
        let (mean, deviation) = moments(&xs);
        assert!((mean - MEAN).abs() < 0.025, "{config:?}: mean {mean}");
        assert!(
            (deviation - DEVIATION).abs() < 0.025,
            "{config:?}: deviation {deviation}"
        );
    }
}

#[test]
fn an_image_is_the_same_in_any_batch() {
    let schedule = ScheduleConfig {
        steps: 50,
        ..Default::default()
    }
    .build()
    .unwrap();
    for sampler in [SamplerKind::Ddpm, SamplerKind::Ddim] {
        let config = SampleConfig {
            sampler,
            eta: 1.0,
            steps: Some(10),
            ..Default::default()
        };
        let draw = |rows, first| {
            let denoiser = gaussian(&schedule, Prediction::Eps);
            draw(
                &denoiser,
                &config,
                &schedule,
                Prediction::Eps,
                batch([rows, 3, 4, 5], first),
            )
        };
        let all = draw(64, 100);
        for image in [0usize, 7, 63] {
            // This denoiser works element by element, so that nothing rounds differently.
            assert_eq!(
                draw(1, 100 + image as u64),
                all[image * 60..(image + 1) * 60]
            );
        }
        assert_ne!(all[..60], all[60..120]);
    }
}

#[test]
fn variance_acts_where_it_should() {
    let schedule = ScheduleConfig {
        steps: 40,
        ..Default::default()
    }
    .build()
    .unwrap();
    let xs = |variance, steps, allow_large_respaced| {
        let config = SampleConfig {
            variance,
            steps,
            allow_large_respaced,
            ..Default::default()
        };
        draw(
            &gaussian(&schedule, Prediction::Eps),
            &config,
            &schedule,
            Prediction::Eps,
            batch([2, 1, 4, 4], 0),
        )
    };
    let (small, large) = (VarianceKind::Small, VarianceKind::Large);
    assert_ne!(xs(small, None, false), xs(large, None, false));
    assert_eq!(xs(small, Some(20), false), xs(large, Some(20), false));
    assert_ne!(xs(small, Some(20), false), xs(large, Some(20), true));
}

#[test]
fn noise_is_asked_for_at_every_step_but_the_last() {
    let schedule = ScheduleConfig {
        steps: 30,
        ..Default::default()
    }
    .build()
    .unwrap();
    for (sampler, expected) in [
        (
            Sampler::Ddpm {
                variance: VarianceKind::Small,
            },
            vec![0, 1, 2, 3],
        ),
        (
            Sampler::Ddpm {
                variance: VarianceKind::Large,
            },
            vec![0, 1, 2, 3],
        ),
        (Sampler::Ddim { eta: 0.7 }, vec![0, 1, 2, 3]),
        (Sampler::Ddim { eta: 0.0 }, vec![]),
    ] {
        // Trailing steps do not end at t = 0: what counts is that none follows.
        let respaced =
            Respaced::new(&schedule, timesteps(30, 5, Spacing::Trailing, 0).unwrap()).unwrap();
        let plan = Plan::new(respaced, Prediction::X0, sampler, Some(1.0)).unwrap();
        let start = Tensor::zeros([1, 1, 2, 2], &Device::flex());
        let mut asked = Vec::new();
        let mut noise = |k| {
            asked.push(k);
            Tensor::ones([1, 1, 2, 2], &Device::flex())
        };
        let x = sample_from(
            &gaussian(&schedule, Prediction::X0),
            &plan,
            start,
            None,
            &mut noise,
            &mut watch_nothing,
        );
        assert!(x.is_ok());
        assert_eq!(asked, expected, "{sampler:?}");
    }
}

#[test]
fn clipping_bounds_x0_and_the_result() {
    let schedule = ScheduleConfig {
        steps: 20,
        ..Default::default()
    }
    .build()
    .unwrap();
    let wild =
        |xt: Tensor<4>, _: Tensor<1>, _: Option<Tensor<1, Int>>| Ok::<_, Infallible>(xt * 50.0);
    let plan = |clip, clip_range| {
        SampleConfig {
            clip,
            clip_range,
            ..Default::default()
        }
        .plan(&schedule, Prediction::X0)
        .unwrap()
    };
    let largest = |plan: &Plan| {
        let mut x0_max = 0.0f32;
        let mut observer = |progress: Progress<'_>| {
            x0_max = values(progress.x0.clone())
                .into_iter()
                .map(f32::abs)
                .fold(x0_max, f32::max);
            ControlFlow::Continue(())
        };
        let x = sample(&wild, plan, batch([1, 1, 4, 4], 0), &mut observer).unwrap();
        (
            x0_max,
            values(x).into_iter().map(f32::abs).fold(0.0, f32::max),
        )
    };
    assert_eq!(largest(&plan(true, 1.0)), (1.0, 1.0));
    assert_eq!(largest(&plan(true, 0.25)), (0.25, 0.25));
    assert!(largest(&plan(false, 1.0)).1 > 10.0);
}

#[test]
fn the_observer_sees_every_step_and_can_stop() {
    let schedule = ScheduleConfig {
        steps: 100,
        ..Default::default()
    }
    .build()
    .unwrap();
    let config = SampleConfig {
        steps: Some(5),
        ..Default::default()
    };
    let plan = config.plan(&schedule, Prediction::Eps).unwrap();
    let denoiser = gaussian(&schedule, Prediction::Eps);
    let mut seen = Vec::new();
    let mut last = None;
    let mut observer = |progress: Progress<'_>| {
        assert_eq!((progress.of, progress.x0.dims()), (5, [2, 1, 3, 3]));
        seen.push((progress.step, progress.t));
        last = Some(progress.xt.clone());
        ControlFlow::Continue(())
    };
    let x = sample(&denoiser, &plan, batch([2, 1, 3, 3], 0), &mut observer).unwrap();
    assert_eq!(seen, [(1, 80), (2, 60), (3, 40), (4, 20), (5, 0)]);
    assert_eq!(values(last.unwrap()), values(x));

    let mut calls = 0;
    let mut stop = |progress: Progress<'_>| {
        calls += 1;
        match progress.step {
            3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let error = sample(&denoiser, &plan, batch([2, 1, 3, 3], 0), &mut stop).unwrap_err();
    assert!(
        matches!(error, DiffusionError::Stopped { step: 3, of: 5 }),
        "{error}"
    );
    assert_eq!(calls, 3);
}

#[test]
fn the_network_gets_steps_and_labels_and_its_failure_comes_back() {
    let schedule = ScheduleConfig {
        steps: 9,
        ..Default::default()
    }
    .build()
    .unwrap();
    let plan = SampleConfig {
        steps: Some(3),
        ..Default::default()
    }
    .plan(&schedule, Prediction::X0)
    .unwrap();
    let labels = |n: i32| {
        Some(Tensor::<1, Int>::from_data(
            vec![4i32; n as usize].as_slice(),
            &Device::flex(),
        ))
    };

    let checking = |xt: Tensor<4>, t: Tensor<1>, labels: Option<Tensor<1, Int>>| {
        let t = values(t);
        assert!(
            t == [6.0, 6.0] || t == [3.0, 3.0] || t == [0.0, 0.0],
            "{t:?}"
        );
        assert_eq!(labels.map(|labels| labels.dims()), Some([2]));
        Ok::<_, Infallible>(xt)
    };
    let two = ImageBatch {
        labels: labels(2),
        ..batch([2, 1, 2, 2], 0)
    };
    assert!(sample(&checking, &plan, two, &mut watch_nothing).is_ok());

    let three = ImageBatch {
        labels: labels(3),
        ..batch([2, 1, 2, 2], 0)
    };
    let error = sample(&checking, &plan, three, &mut watch_nothing).unwrap_err();
    assert!(error.to_string().contains("3 class labels"), "{error}");

    let failing = |_: Tensor<4>, _: Tensor<1>, _: Option<Tensor<1, Int>>| {
        Err::<Tensor<4>, _>("no memory left")
    };
    let error = sample(&failing, &plan, batch([1, 1, 2, 2], 0), &mut watch_nothing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the network failed at time step 6: no memory left"
    );

    let narrow = |xt: Tensor<4>, _: Tensor<1>, _: Option<Tensor<1, Int>>| {
        Ok::<_, Infallible>(xt.narrow(3, 0, 1))
    };
    let error = sample(&narrow, &plan, batch([1, 1, 2, 2], 0), &mut watch_nothing).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the network's output has the shape [1, 1, 2, 1]"),
        "{error}"
    );
}

#[test]
fn an_output_that_is_not_finite_is_named() {
    let schedule = ScheduleConfig {
        steps: 80,
        ..Default::default()
    }
    .build()
    .unwrap();
    let plan = SampleConfig::default()
        .plan(&schedule, Prediction::Eps)
        .unwrap();
    // Clipping would turn it into pixels.
    assert!(plan.clip().is_some());
    for (bad, at) in [(f32::NAN, 79), (f32::INFINITY, 33), (f32::NEG_INFINITY, 0)] {
        let spoilt = |xt: Tensor<4>, t: Tensor<1>, _: Option<Tensor<1, Int>>| {
            let one = Tensor::<4>::full([1, 1, 1, 1], bad, &xt.device());
            Ok::<_, Infallible>(match values(t)[0] as usize == at {
                true => xt.slice_assign([1..2, 0..1, 2..3, 0..1], one),
                false => xt,
            })
        };
        let error = sample(&spoilt, &plan, batch([2, 1, 3, 3], 0), &mut watch_nothing).unwrap_err();
        let DiffusionError::NonFinite { step, of, t } = error else {
            panic!("{error}")
        };
        assert_eq!((step, of, t), (80 - at, 80, at), "{bad}");
    }
}

#[test]
fn eps_cannot_start_without_signal() {
    let schedule = ScheduleConfig {
        steps: 9,
        zero_terminal_snr: true,
        ..Default::default()
    }
    .build()
    .unwrap();
    let plan = |first| {
        let respaced = Respaced::new(&schedule, vec![first, 0]).unwrap();
        Plan::new(respaced, Prediction::Eps, Sampler::Ddim { eta: 0.0 }, None)
    };
    assert!(plan(8).is_err());
    assert!(plan(7).is_ok());
}
