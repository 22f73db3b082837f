use std::convert::Infallible;
use std::ops::ControlFlow;

use burn::tensor::{Device, Int, Tensor};
use ddpm_schedule::{
    Edm, Flow, GridConfig, GridRules, Prediction, Process, Spacing, VarianceKind, Vp, named,
};

use super::{batch, network, table, watch_nothing};
use crate::test_support::values;
use crate::{
    Condition, DiffusionError, Hold, NoiseAt, Plan, Progress, SampleBatch, SampleConfig, Sampler,
    sample, sample_from,
};

fn sampler(text: &str) -> Sampler {
    let table: toml::Table = toml::from_str(&format!("s = {text}")).unwrap();
    named::deserialize(table["s"].clone()).unwrap()
}

fn config(text: &str, steps: usize) -> SampleConfig {
    SampleConfig {
        sampler: sampler(text),
        steps: Some(steps),
        ..SampleConfig::default()
    }
}

fn draw(process: &Process, config: &SampleConfig, batch: SampleBatch) -> Vec<f32> {
    let prediction = process.usual_prediction();
    let plan = config.plan(process, prediction).unwrap();
    values(
        sample(
            &network(process, prediction),
            &plan,
            batch,
            &mut watch_nothing,
        )
        .unwrap(),
    )
}

#[test]
fn an_image_is_the_same_in_any_batch_by_every_sampler() {
    for process in [
        table(50),
        Process::Vp(Vp::default()),
        Process::Edm(Edm::default()),
        Process::Flow(Flow::default()),
    ] {
        for sampler in Sampler::all() {
            let config = SampleConfig {
                sampler: sampler.clone(),
                steps: Some(6),
                ..SampleConfig::default()
            };
            if matches!((&process, &sampler), (Process::Flow(_), Sampler::Pndm(_))) {
                let refused = config.plan(&process, Prediction::Velocity).unwrap_err();
                assert!(refused.to_string().contains("lms"), "{refused}");
                continue;
            }
            let draw = |rows, first| draw(&process, &config, batch([rows, 3, 4, 5], first));
            let all = draw(7, 100);
            for image in [0usize, 3, 6] {
                // This network works element by element, so that nothing rounds differently.
                let alone = draw(1, 100 + image as u64);
                assert_eq!(
                    alone,
                    all[image * 60..(image + 1) * 60],
                    "{} on {}",
                    sampler.name(),
                    process.name()
                );
            }
            assert_ne!(all[..60], all[60..120]);
        }
    }
}

#[test]
fn variance_acts_where_it_should() {
    let process = table(40);
    let xs = |variance: &str, steps, allow| {
        let text = format!(
            "{{ kind = \"ddpm\", variance = \"{variance}\", allow_large_respaced = {allow} }}"
        );
        draw(&process, &config(&text, steps), batch([2, 1, 4, 4], 0))
    };
    assert_ne!(xs("small", 40, false), xs("large", 40, false));
    assert_eq!(xs("small", 20, false), xs("large", 20, false));
    assert_ne!(xs("small", 20, false), xs("large", 20, true));
}

#[test]
fn a_learned_variance_lies_between_the_two() {
    let process = table(40);
    let meaning = crate::Meaning {
        prediction: Prediction::X0,
        variance: crate::VarianceOutput::Range,
        self_condition: false,
    };
    // As many channels again, which say where: -1 small, 1 large.
    let with = |place: f32| {
        move |x: Tensor<4>, _: Tensor<1>, _: &Condition| {
            let share = x.full_like(place);
            Ok::<_, Infallible>(Tensor::cat(vec![x * 0.5, share], 1))
        }
    };
    let plan = config("\"ddpm\"", 40).plan(&process, meaning).unwrap();
    let learned = |place| {
        let shape = batch([2, 1, 4, 4], 0);
        values(sample(&with(place), &plan, shape, &mut watch_nothing).unwrap())
    };
    let fixed = |kind: &str| {
        let text = format!("{{ kind = \"ddpm\", variance = \"{kind}\" }}");
        let plan = config(&text, 40).plan(&process, Prediction::X0).unwrap();
        let half = |x: Tensor<4>, _: Tensor<1>, _: &Condition| Ok::<_, Infallible>(x * 0.5);
        values(sample(&half, &plan, batch([2, 1, 4, 4], 0), &mut watch_nothing).unwrap())
    };
    for (place, kind) in [(-1.0, "small"), (1.0, "large")] {
        for (a, b) in learned(place).iter().zip(fixed(kind)) {
            assert!((a - b).abs() < 1e-4, "{kind}: {a} {b}");
        }
    }
    assert_ne!(learned(0.0), learned(1.0));
    let refused =
        config("{ kind = \"ddpm\", variance = \"learned\" }", 40).plan(&process, Prediction::X0);
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("has learned none"), "{message}");
}

#[test]
fn noise_is_asked_for_at_every_step_but_the_last() {
    let process = table(30);
    for (text, expected) in [
        ("\"ddpm\"", vec![0, 1, 2, 3]),
        (
            "{ kind = \"ddpm\", variance = \"large\" }",
            vec![0, 1, 2, 3],
        ),
        ("{ kind = \"ddim\", eta = 0.7 }", vec![0, 1, 2, 3]),
        ("\"ddim\"", vec![]),
        ("\"euler_ancestral\"", vec![0, 1, 2, 3]),
        ("\"dpmpp_sde\"", vec![0, 0, 1, 1, 2, 2, 3, 3]),
        ("\"dpm_solver\"", vec![]),
    ] {
        // Trailing steps do not end at t = 0: what counts is that none follows.
        let config = SampleConfig {
            spacing: Some(Spacing::Trailing {}),
            ..config(text, 5)
        };
        let plan = config.plan(&process, Prediction::X0).unwrap();
        let start = Tensor::zeros([1, 1, 2, 2], &Device::flex());
        let mut asked = Vec::new();
        let mut noise = |at: NoiseAt| {
            asked.push(at.step);
            Tensor::ones([1, 1, 2, 2], &Device::flex())
        };
        let network = network(&process, Prediction::X0);
        let condition = Condition::default();
        let x = sample_from(
            &network,
            &plan,
            start,
            condition,
            Default::default(),
            &mut noise,
            &mut watch_nothing,
        );
        assert!(x.is_ok());
        assert_eq!(asked, expected, "{text}");
    }
}

#[test]
fn a_grid_that_goes_up_is_noised_again() {
    let process = table(100);
    let grid = GridConfig {
        spacing: Spacing::Times {
            times: vec![80.0, 40.0, 60.0, 20.0],
        },
        steps: 0,
        offset: 0,
        rules: GridRules::default(),
    };
    let grid = grid.build(&process).unwrap();
    let plan = Plan::new(
        process.clone(),
        Prediction::X0.into(),
        grid,
        sampler("\"ddim\""),
        Hold::Free,
    )
    .unwrap();
    let mut asked = Vec::new();
    let mut noise = |at: NoiseAt| {
        asked.push(at.step);
        Tensor::ones([1, 1, 1, 1], &Device::flex())
    };
    let mut seen = Vec::new();
    let zero = |x: Tensor<4>, _: Tensor<1>, _: &Condition| Ok::<_, Infallible>(x.zeros_like());
    let start = Tensor::ones([1, 1, 1, 1], &Device::flex());
    let mut watch = |progress: Progress<'_>| {
        seen.push(f64::from(values(progress.xt.clone())[0]));
        ControlFlow::Continue(())
    };
    sample_from(
        &zero,
        &plan,
        start,
        Condition::default(),
        Default::default(),
        &mut noise,
        &mut watch,
    )
    .unwrap();
    assert_eq!(asked, [1]);
    let level = |t: f64| process.level(t);
    let at40 = level(40.0).noise / level(80.0).noise;
    assert!((seen[0] - at40).abs() < 1e-6);
    let ratio = level(60.0).signal / level(40.0).signal;
    let added = (level(60.0).noise.powi(2) - (ratio * level(40.0).noise).powi(2)).sqrt();
    assert!((seen[1] - (ratio * at40 + added)).abs() < 1e-6, "{seen:?}");
}

#[test]
fn clipping_bounds_x0_and_the_result() {
    let process = table(20);
    let wild = |x: Tensor<4>, _: Tensor<1>, _: &Condition| Ok::<_, Infallible>(x * 50.0);
    let plan = |clip, clip_range| {
        let config = SampleConfig {
            clip,
            clip_range,
            ..SampleConfig::default()
        };
        config.plan(&process, Prediction::X0).unwrap()
    };
    let largest = |plan: &Plan| {
        let mut x0_max = 0.0f32;
        let mut observer = |progress: Progress<'_>| {
            let x0 = values(progress.x0.clone());
            x0_max = x0.into_iter().map(f32::abs).fold(x0_max, f32::max);
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
    let process = table(100);
    let plan = config("\"ddpm\"", 5)
        .plan(&process, Prediction::Eps)
        .unwrap();
    let network = network(&process, Prediction::Eps);
    let mut seen = Vec::new();
    let mut last = None;
    let mut observer = |progress: Progress<'_>| {
        assert_eq!((progress.of, progress.x0.dims()), (5, [2, 1, 3, 3]));
        seen.push((progress.step, progress.t as usize));
        last = Some(progress.xt.clone());
        ControlFlow::Continue(())
    };
    let x = sample(&network, &plan, batch([2, 1, 3, 3], 0), &mut observer).unwrap();
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
    let error = sample(&network, &plan, batch([2, 1, 3, 3], 0), &mut stop).unwrap_err();
    assert!(
        matches!(error, DiffusionError::Stopped { step: 3, of: 5 }),
        "{error}"
    );
    assert_eq!(calls, 3);
}

#[test]
fn the_network_gets_times_and_labels_and_its_failure_comes_back() {
    let process = table(9);
    let plan = config("\"ddpm\"", 3)
        .plan(&process, Prediction::X0)
        .unwrap();
    let labels = |n: i32| {
        let labels = vec![4i32; n as usize];
        Some(Tensor::<1, Int>::from_data(
            labels.as_slice(),
            &Device::flex(),
        ))
    };
    let checking = |x: Tensor<4>, t: Tensor<1>, condition: &Condition| {
        let t = values(t);
        assert!(
            t == [6.0, 6.0] || t == [3.0, 3.0] || t == [0.0, 0.0],
            "{t:?}"
        );
        assert_eq!(
            condition.labels.as_ref().map(|labels| labels.dims()),
            Some([2])
        );
        Ok::<_, Infallible>(x)
    };
    let two = SampleBatch {
        condition: Condition::of_labels(labels(2)),
        ..batch([2, 1, 2, 2], 0)
    };
    assert!(sample(&checking, &plan, two, &mut watch_nothing).is_ok());
    let three = SampleBatch {
        condition: Condition::of_labels(labels(3)),
        ..batch([2, 1, 2, 2], 0)
    };
    let error = sample(&checking, &plan, three, &mut watch_nothing).unwrap_err();
    assert!(error.to_string().contains("3 class labels"), "{error}");

    let failing = |_: Tensor<4>, _: Tensor<1>, _: &Condition| Err::<Tensor<4>, _>("no memory left");
    let error = sample(&failing, &plan, batch([1, 1, 2, 2], 0), &mut watch_nothing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the network failed at time step 6: no memory left"
    );

    let narrow = |x: Tensor<4>, _: Tensor<1>, _: &Condition| Ok::<_, Infallible>(x.narrow(3, 0, 1));
    let error = sample(&narrow, &plan, batch([1, 1, 2, 2], 0), &mut watch_nothing).unwrap_err();
    let words = "the network's output has the shape [1, 1, 2, 1]";
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn an_output_that_is_not_finite_is_named() {
    let process = table(80);
    let plan = SampleConfig::default()
        .plan(&process, Prediction::Eps)
        .unwrap();
    // Clipping would turn it into pixels.
    assert_eq!(plan.hold(), Hold::Clip(1.0));
    for (bad, at) in [(f32::NAN, 79), (f32::INFINITY, 33), (f32::NEG_INFINITY, 0)] {
        let spoilt = |x: Tensor<4>, t: Tensor<1>, _: &Condition| {
            let one = Tensor::<4>::full([1, 1, 1, 1], bad, &x.device());
            Ok::<_, Infallible>(match values(t)[0] as usize == at {
                true => x.slice_assign([1..2, 0..1, 2..3, 0..1], one),
                false => x,
            })
        };
        let error = sample(&spoilt, &plan, batch([2, 1, 3, 3], 0), &mut watch_nothing).unwrap_err();
        let DiffusionError::NonFinite { step, of, t } = error else {
            panic!("{error}")
        };
        assert_eq!((step, of, t), (80 - at, 80, at as f64), "{bad}");
    }
}

#[test]
fn kinds_are_the_names_of_the_files() {
    for sampler in Sampler::all() {
        let json = serde_json::to_value(&sampler).unwrap();
        assert_eq!(json["kind"], sampler.name());
        let back: Sampler = serde_json::from_value(json).unwrap();
        assert_eq!(back, sampler);
        let unknown = format!("{{\"kind\": \"{}\", \"zz\": 1}}", sampler.name());
        let error = serde_json::from_str::<Sampler>(&unknown)
            .unwrap_err()
            .to_string();
        assert!(error.contains("zz"), "{error}");
    }
    let variance: VarianceKind = serde_json::from_str("\"learned\"").unwrap();
    assert_eq!(variance, VarianceKind::Learned);
}
