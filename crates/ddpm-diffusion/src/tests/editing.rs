//! Edits over networks that are known exactly.

use std::convert::Infallible;

use burn::tensor::{Device, Int, Tensor};
use ddpm_schedule::noise::Stream;
use ddpm_schedule::{Edm, Flow, Level, Prediction, Process, Vp};

use super::{exact, network, table, watch_nothing};
use crate::editing::{
    Jumps, Kept, Operation, RePaint, Replace, Tile, Tiling, angles, invert, noised,
    resize_bilinear, slerp, steps_left,
};
use crate::sampler::ddim::Ddim;
use crate::sampler::ddpm::Ddpm;
use crate::test_support::{ramp, values};
use crate::{
    Condition, Denoiser, DiffusionError, GuidanceConfig, Guide, Meaning, NoiseAt, Plan,
    SampleConfig, Sampler, VarianceOutput, noise_of, randn_images, sample, walk,
};

const SHAPE: [usize; 4] = [2, 3, 4, 5];

fn processes() -> [Process; 4] {
    [
        table(60),
        Process::Vp(Vp::default()),
        Process::Edm(Edm::default()),
        Process::Flow(Flow::default()),
    ]
}

fn planned(process: &Process, sampler: Sampler, steps: usize) -> Plan {
    let config = SampleConfig {
        sampler,
        steps: Some(steps),
        clip: false,
        ..SampleConfig::default()
    };
    config.plan(process, process.usual_prediction()).unwrap()
}

fn ddim(eta: f64) -> Sampler {
    Sampler::Ddim(Ddim {
        eta,
        keep_eps: false,
    })
}

fn noise(stream: Stream, indices: std::ops::Range<u64>) -> impl FnMut(NoiseAt) -> Tensor<4> {
    let [_, channels, height, width] = SHAPE;
    let image = [channels, height, width];
    noise_of(3, stream, indices.collect(), image, &Device::flex())
}

/// 1 at the left, 0 at the right.
fn left_half() -> Tensor<4> {
    let [_, _, height, width] = SHAPE;
    let known = Tensor::ones([1, 1, height, 2], &Device::flex());
    let painted = Tensor::zeros([1, 1, height, width - 2], &Device::flex());
    Tensor::cat(vec![known, painted], 3)
}

fn left(x: &Tensor<4>) -> Vec<f32> {
    values(x.clone().narrow(3, 0, 2))
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn what_is_kept_is_there_at_the_end_by_every_sampler() {
    let image = ramp(SHAPE, 0.2);
    let kept = Kept::new(image.clone(), left_half()).unwrap();
    for process in processes() {
        for sampler in Sampler::all() {
            if matches!((&process, &sampler), (Process::Flow(_), Sampler::Pndm(_))) {
                continue;
            }
            let plan = planned(&process, sampler, 8);
            let network = network(&process, process.usual_prediction());
            let replace = Replace {
                inner: plan.denoiser(&network, Guide::default()).unwrap(),
                kept: kept.clone(),
                z: ramp(SHAPE, 0.9),
            };
            let start = ramp(SHAPE, 0.5) * plan.start_scale();
            let mut draw = noise(Stream::SampleStep, 0..2);
            let none = Condition::default();
            let x = walk(&replace, &plan, start, none, &mut draw, &mut watch_nothing).unwrap();
            let name = plan.sampler().name();
            // x̂0 is the image there, so that every sampler arrives at it but for rounding.
            assert!(
                far(&left(&x), &left(&image)) < 2e-4,
                "{name} on {}",
                process.name()
            );
            assert_eq!(left(&kept.finish(&x)), left(&image));
            assert_ne!(values(kept.finish(&x)), values(image.clone()));
        }
    }
}

#[test]
fn repaint_keeps_what_is_known_and_every_image_by_itself() {
    let image = ramp(SHAPE, 0.2);
    for process in processes() {
        for sampler in [ddim(0.0), ddim(1.0), Sampler::Ddpm(Ddpm::default())] {
            let plan = planned(&process, sampler, 8);
            let network = network(&process, process.usual_prediction());
            let jumps = Jumps {
                length: 2,
                samples: 3,
            };
            let repaint = RePaint::new(&plan, jumps).unwrap();
            let paint = |from: usize, rows: usize| {
                let kept = Kept::new(image.clone().narrow(0, from, rows), left_half()).unwrap();
                let indices = from as u64..(from + rows) as u64;
                let start = ramp(SHAPE, 0.5).narrow(0, from, rows) * plan.start_scale();
                let mut draw = noise(Stream::Repaint, indices);
                let denoiser = plan.denoiser(&network, Guide::default()).unwrap();
                let none = Condition::default();
                repaint
                    .run(
                        &*denoiser,
                        &kept,
                        start,
                        none,
                        &mut draw,
                        &mut watch_nothing,
                    )
                    .unwrap()
            };
            let both = paint(0, 2);
            assert_eq!(left(&both), left(&image));
            let alone: Vec<f32> = [paint(0, 1), paint(1, 1)]
                .into_iter()
                .flat_map(values)
                .collect();
            assert_eq!(values(both), alone, "{}", process.name());
        }
    }
}

#[test]
fn repaint_goes_back_as_often_as_it_is_told() {
    use Operation::{Step, Undo};
    let process = table(60);
    let plan = planned(&process, ddim(1.0), 5);
    let of = |length, samples| RePaint::new(&plan, Jumps { length, samples });
    let expected = [
        Step(0),
        Step(1),
        Step(2),
        Undo(2),
        Undo(1),
        Step(1),
        Step(2),
        Step(3),
        Step(4),
        Undo(4),
        Undo(3),
        Step(3),
        Step(4),
    ];
    assert_eq!(of(2, 2).unwrap().operations(), expected);
    let straight: Vec<Operation> = (0..5).map(Step).collect();
    for (length, samples) in [(2, 1), (5, 9), (usize::MAX, 2)] {
        assert_eq!(of(length, samples).unwrap().operations(), straight);
    }
    for (length, samples, words) in [
        (0, 2, "jump_length is 0"),
        (2, 0, "jump_n_sample is 0"),
        (1, 1001, "1001"),
    ] {
        let refused = of(length, samples).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let plan = planned(&process, Sampler::Heun(Default::default()), 5);
    let refused = RePaint::new(&plan, Jumps::default())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("heun") && refused.contains("replace"),
        "{refused}"
    );
}

#[test]
fn a_network_that_fails_where_it_paints_is_told_of() {
    let process = table(60);
    let plan = planned(&process, ddim(0.0), 4);
    let nan = |x: Tensor<4>, _: Tensor<1>, _: &Condition| Ok::<_, Infallible>(x * f32::NAN);
    let replace = Replace {
        inner: plan.denoiser(&nan, Guide::default()).unwrap(),
        kept: Kept::new(ramp(SHAPE, 0.2), left_half()).unwrap(),
        z: ramp(SHAPE, 0.9),
    };
    let mut draw = noise(Stream::SampleStep, 0..2);
    let none = Condition::default();
    let failed = walk(
        &replace,
        &plan,
        ramp(SHAPE, 0.5),
        none,
        &mut draw,
        &mut watch_nothing,
    );
    assert!(matches!(failed, Err(DiffusionError::NonFinite { .. })));
}

#[test]
fn a_strength_leaves_so_many_steps() {
    // In f64, 0.58·50 is a hair below 29.
    for (steps, strength, left) in [
        (50, 0.58, 28),
        (50, 0.75, 37),
        (10, 0.05, 0),
        (7, 0.3, 2),
        (20, 1.0, 20),
    ] {
        assert_eq!(steps_left(steps, strength), left);
    }
    for process in processes() {
        let plan = planned(&process, ddim(0.0), 10);
        assert_eq!(plan.from_strength(0.0).unwrap(), None);
        assert_eq!(plan.from_strength(1.0).unwrap(), Some(plan.clone()));
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert!(
                plan.from_strength(wrong)
                    .unwrap_err()
                    .to_string()
                    .contains("strength is")
            );
        }
        let cut = plan.from_strength(0.45).unwrap().unwrap();
        assert_eq!(
            (cut.steps(), cut.skipped(), cut.evaluations()),
            (4, 6, Some(4))
        );
        let (x0, z) = (ramp(SHAPE, 0.1), ramp(SHAPE, 0.8));
        let Level { signal, noise } = plan.grid().legs()[6].from.level;
        let there = values(noised(&cut, &x0, &z).unwrap());
        assert!(far(&there, &values(x0 * signal + z * noise)) < 1e-5);
    }
    // One that makes its own legs of all levels takes the levels that are left.
    let plan = planned(&table(60), Sampler::DpmAdaptive(Default::default()), 10);
    let cut = plan.from_strength(0.45).unwrap().unwrap();
    assert_eq!(
        cut.legs()[0].from,
        planned(&table(60), Sampler::DpmSolver(Default::default()), 10)
            .grid()
            .legs()[6]
            .from
    );
}

#[test]
fn the_end_of_the_way_is_gone_as_if_the_whole_had_been() {
    let process = table(60);
    for sampler in [
        ddim(0.5),
        Sampler::Ddpm(Ddpm::default()),
        Sampler::Heun(Default::default()),
    ] {
        let plan = planned(&process, sampler, 10);
        let network = network(&process, Prediction::Eps);
        let denoiser = plan.denoiser(&network, Guide::default()).unwrap();
        let mut middle = None;
        let mut draw = noise(Stream::SampleStep, 0..2);
        let none = Condition::default();
        let whole = walk(
            &*denoiser,
            &plan,
            ramp(SHAPE, 0.5),
            none.clone(),
            &mut draw,
            &mut |progress| {
                if progress.step == 6 {
                    middle = Some(progress.xt.clone());
                }
                std::ops::ControlFlow::Continue(())
            },
        );
        let cut = plan.skip(6).unwrap();
        let mut seen = Vec::new();
        let rest = walk(
            &*denoiser,
            &cut,
            middle.unwrap(),
            none,
            &mut draw,
            &mut |progress| {
                seen.push((progress.step, progress.of));
                std::ops::ControlFlow::Continue(())
            },
        );
        assert_eq!(values(rest.unwrap()), values(whole.unwrap()));
        assert_eq!(seen, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    }
}

#[test]
fn inversion_is_undone_by_sampling_the_better_the_more_steps() {
    for process in processes() {
        let error = |steps| {
            let plan = planned(&process, ddim(0.0), steps);
            let network = network(&process, process.usual_prediction());
            let denoiser = plan.denoiser(&network, Guide::default()).unwrap();
            let image = ramp(SHAPE, 0.2);
            let none = Condition::default;
            let there =
                invert(&*denoiser, &plan, image.clone(), none(), &mut watch_nothing).unwrap();
            assert!(far(&values(there.clone()), &values(image.clone())) > 0.1);
            let mut draw = noise(Stream::SampleStep, 0..2);
            let back = walk(
                &*denoiser,
                &plan,
                there,
                none(),
                &mut draw,
                &mut watch_nothing,
            )
            .unwrap();
            far(&values(back), &values(image))
        };
        let errors = [5, 15, 60].map(error);
        assert!(
            errors[0] > 1.5 * errors[1] && errors[1] > 1.5 * errors[2],
            "{errors:?} on {}",
            process.name()
        );
    }
}

#[test]
fn inversion_of_a_network_that_predicts_images_begins_beside_the_image() {
    let process = table(60);
    let config = SampleConfig {
        sampler: ddim(0.0),
        steps: Some(20),
        clip: false,
        ..SampleConfig::default()
    };
    let plan = config.plan(&process, Prediction::X0).unwrap();
    let network = network(&process, Prediction::X0);
    let denoiser = plan.denoiser(&network, Guide::default()).unwrap();
    let image = ramp(SHAPE, 0.2);
    let there = invert(
        &*denoiser,
        &plan,
        image,
        Condition::default(),
        &mut watch_nothing,
    )
    .unwrap();
    assert!(values(there).iter().all(|value| value.is_finite()));
}

#[test]
fn a_great_circle_ends_where_it_should_and_keeps_the_length() {
    let [a, b] = [0, 1].map(|index| {
        randn_images(
            1,
            Stream::SampleInit,
            0,
            [index, index + 5],
            [3, 16, 16],
            &Device::flex(),
        )
    });
    assert_eq!(values(slerp(&a, &b, 0.0).unwrap()), values(a.clone()));
    assert_eq!(values(slerp(&a, &b, 1.0).unwrap()), values(b.clone()));
    let power = |x: Tensor<4>| values(x).iter().map(|x| f64::from(x * x)).sum::<f64>() / 1536.0;
    assert!((power(slerp(&a, &b, 0.5).unwrap()) - 1.0).abs() < 0.1);
    assert!(power((a.clone() + b) * 0.5) < 0.6);
    // Every circle leads from a noise to itself; none leads from nothing.
    let same = slerp(&a, &a, 0.3).unwrap();
    assert!(far(&values(same), &values(a.clone())) < 1e-6);
    assert_eq!(angles(&a.zeros_like(), &a).unwrap(), [0.0, 0.0]);
    assert!(slerp(&a, &ramp(SHAPE, 0.0), 0.5).is_err());
}

/// A network that mixes pixels and reads what it is told.
fn blurring(x: Tensor<4>, _: Tensor<1>, told: &Condition) -> Result<Tensor<4>, Infallible> {
    let [rows, channels, height, width] = x.dims();
    assert_eq!([height, width], [4, 5], "it knows no other size");
    let mean = x
        .clone()
        .mean_dim(2)
        .mean_dim(3)
        .expand([rows, channels, height, width]);
    let labels = told
        .labels
        .clone()
        .map(|labels| labels.float().reshape([rows, 1, 1, 1]));
    let told = labels.unwrap_or_else(|| Tensor::zeros([rows, 1, 1, 1], &x.device()));
    Ok(x * 0.6 + mean * 0.2 + told * 0.1)
}

/// Windows around a network.
fn tiled(tiling: &Tiling, at_a_time: usize) -> Around<'_> {
    Box::new(move |inner| Box::new(Tile::new(inner, tiling, at_a_time, &Device::flex())))
}

/// What makes a denoiser of another.
type Around<'a> = Box<dyn Fn(Box<dyn Denoiser + 'a>) -> Box<dyn Denoiser + 'a> + 'a>;

#[test]
fn one_window_is_sampling_itself() {
    let process = table(60);
    for sampler in [
        ddim(0.5),
        Sampler::Ddpm(Ddpm::default()),
        Sampler::DpmSolver(Default::default()),
    ] {
        let plan = planned(&process, sampler, 6);
        let batch = crate::SampleBatch {
            shape: SHAPE,
            seed: 3,
            first_index: 0,
            condition: Condition::default(),
            guide: Guide::default(),
            device: Device::flex(),
        };
        let expected = sample(&blurring, &plan, batch, &mut watch_nothing).unwrap();
        let tiling = Tiling::new([4, 5], [4, 5], 2).unwrap();
        assert_eq!(tiling.windows(), 1);
        let around = tiled(&tiling, 64);
        let tile = plan
            .denoiser_by(&blurring, Guide::default(), &around)
            .unwrap();
        let start = noise(Stream::SampleInit, 0..2)(NoiseAt { step: 0, draw: 0 });
        let mut draw = noise(Stream::SampleStep, 0..2);
        let none = Condition::default();
        let x = walk(&*tile, &plan, start, none, &mut draw, &mut watch_nothing).unwrap();
        assert_eq!(values(x), values(expected));
    }
}

#[test]
fn windows_agree_where_the_network_looks_at_single_pixels() {
    let process = table(60);
    let plan = planned(&process, ddim(0.0), 6);
    let level = plan.grid().legs()[1].from;
    let x = ramp([2, 3, 11, 17], 0.4);
    let tiling = Tiling::new([11, 17], [4, 5], 2).unwrap();
    assert_eq!(tiling.windows(), 5 * 5);
    let network = network(&process, Prediction::Eps);
    let tile = Tile::new(
        plan.denoiser(&network, Guide::default()).unwrap(),
        &tiling,
        7,
        &Device::flex(),
    );
    let estimate = tile.denoise(&x, level, &Condition::default()).unwrap();
    assert!(
        far(
            &values(estimate.x0.clone()),
            &values(exact(&x, level.level))
        ) < 1e-5
    );
    let output = estimate.output.unwrap();
    assert!(far(&values(output.x0(&x, level.level)), &values(estimate.x0)) < 1e-5);
}

#[test]
fn windows_do_not_depend_on_how_many_are_looked_at_together() {
    let process = table(60);
    let meaning = Meaning {
        prediction: Prediction::Eps,
        variance: VarianceOutput::None,
        self_condition: true,
    };
    let config = SampleConfig {
        sampler: ddim(0.0),
        steps: Some(3),
        ..SampleConfig::default()
    };
    let plan = config.plan(&process, meaning).unwrap();
    // Twice as many windows, half of them told another class.
    let guidance = GuidanceConfig {
        scale: 2.0,
        ..GuidanceConfig::default()
    };
    let plan = plan.guided(Some(guidance)).unwrap();
    let tiling = Tiling::new([9, 12], [4, 5], 1).unwrap();
    // It sees its own part of what was expected last, and of the picture.
    let network = |x: Tensor<4>, t: Tensor<1>, told: &Condition| {
        let (x0, picture) = (told.x0.clone().unwrap(), told.picture.clone().unwrap());
        blurring(x + x0 * 0.3 + picture, t, told)
    };
    let draw = |rows: std::ops::Range<usize>, at_a_time| {
        let count = rows.len();
        let around = tiled(&tiling, at_a_time);
        let nine = Tensor::<1, Int>::full([count], 9, &Device::flex());
        let guide = Guide {
            null: Some(Condition::of_labels(Some(nine))),
            network: None,
        };
        let tile = plan.denoiser_by(&network, guide, &around).unwrap();
        let condition = Condition {
            labels: Some(Tensor::<1, Int>::from_ints([0, 1, 2], &Device::flex())),
            picture: Some(ramp([3, 1, 9, 12], 0.7)),
            ..Condition::default()
        };
        let start = ramp([3, 1, 9, 12], 0.4).narrow(0, rows.start, count);
        let mut none = |_| unreachable!("it draws no noise");
        values(
            walk(
                &*tile,
                &plan,
                start,
                condition.rows(rows),
                &mut none,
                &mut watch_nothing,
            )
            .unwrap(),
        )
    };
    let all = draw(0..3, 64);
    assert_eq!(draw(0..3, 1), all);
    assert_eq!(draw(0..3, 5), all);
    assert_eq!([draw(0..1, 4), draw(1..3, 4)].concat(), all);
}

#[test]
fn tilings_that_cannot_be_are_refused() {
    for (canvas, overlap, words) in [
        ([3, 9], 1, "the canvas is 3x9"),
        ([9, 4], 1, "the canvas is 9x4"),
        ([9, 9], 4, "the overlap of windows is 4"),
    ] {
        let refused = Tiling::new(canvas, [4, 5], overlap)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn resizing_keeps_what_does_not_change() {
    let x = ramp(SHAPE, 0.3);
    assert_eq!(values(resize_bilinear(&x, [4, 5])), values(x.clone()));
    let grey = resize_bilinear(&x.full_like(0.25), [7, 3]);
    assert_eq!(grey.dims(), [2, 3, 7, 3]);
    assert!(values(grey).iter().all(|value| (value - 0.25).abs() < 1e-6));
}
