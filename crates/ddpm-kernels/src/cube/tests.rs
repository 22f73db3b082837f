//! Every kernel of cards against the CPU's kernels, on random shapes, odd sizes included.
//!
//! The device is the processor posing as a card (Mesa's lavapipe), or what `DDPM_TEST_CARD` numbers.

use burn::tensor::{DType, Device, DeviceKind, FloatDType, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, below, normal_fill};

use crate::{
    AdamState, AdamStep, Clip, Conv2dOptions, Convolution, Flatten, GroupNormOptions, Halt, Norm,
    adam_steps, adam_steps_unseen, attention, concatenate, double, group_norm, linear, measure,
    sum_of_squares,
};

fn card() -> Device {
    match std::env::var("DDPM_TEST_CARD") {
        Ok(index) => Device::wgpu(DeviceKind::DiscreteGpu(index.parse().unwrap())),
        Err(_) => Device::wgpu(DeviceKind::Cpu),
    }
}

fn random(index: u64, count: usize) -> Vec<f32> {
    let mut data = vec![0.0f32; count];
    normal_fill(7, Stream::Synthetic, 0, index, &mut data);
    data
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.cast(FloatDType::F32).into_data().try_to_vec().unwrap()
}

fn relative(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let square = |x: f64| x * x;
    let pairs = got.iter().zip(expected);
    let difference: f64 = pairs
        .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
        .sum();
    let size: f64 = expected.iter().map(|b| square(f64::from(*b))).sum();
    (difference / size.max(1e-30)).sqrt()
}

/// What an operation is given: the shapes of its operands, filled with random numbers.
type Shapes = Vec<[usize; 4]>;
type Operation<'a> = &'a dyn Fn(&[Tensor<4>]) -> Tensor<4>;

/// The result and the gradients of Σ y·w for all operands. The first operand and w, and so the result, are of type
/// `dtype`, the others f32.
fn run(device: &Device, shapes: &Shapes, dtype: FloatDType, operation: Operation) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let operands: Vec<Tensor<4>> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| {
            let data = TensorData::new(random(i as u64, shape.iter().product()), *shape);
            Tensor::<4>::from_data(data, &device).require_grad()
        })
        .collect();
    let mut given = operands.clone();
    if dtype != FloatDType::F32 {
        given[0] = given[0].clone().cast(dtype);
    }
    let y = operation(&given);
    let shape = y.dims();
    let w = TensorData::new(random(99, shape.iter().product()), shape);
    let loss = (y.clone().cast(FloatDType::F32) * Tensor::from_data(w, &device)).sum();
    let grads = loss.backward();
    let mut found = vec![values(y)];
    for operand in &operands {
        found.push(operand.grad(&grads).map_or_else(Vec::new, values));
    }
    found
}

#[track_caller]
fn compare(name: &str, shapes: &Shapes, dtype: FloatDType, tolerance: f64, operation: Operation) {
    let got = run(&card(), shapes, dtype, operation);
    let expected = run(&Device::flex(), shapes, FloatDType::F32, operation);
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = relative(got, expected);
        assert!(
            error < tolerance,
            "{name} of {shapes:?}: {} differs by {error:.2e}",
            if i == 0 {
                "y".to_owned()
            } else {
                format!("gradient {}", i - 1)
            }
        );
    }
}

/// f32 on both sides, sums in another order.
const F32: f64 = 2e-5;

fn draw(seed: u64, k: u64, n: u64) -> usize {
    below(seed, Stream::Order, 9, k, n) as usize
}

fn flat(x: &Tensor<4>) -> Tensor<2> {
    let [rows, columns, ..] = x.dims();
    x.clone().reshape([rows, columns])
}

#[test]
fn normalisation() {
    for seed in 0..10 {
        let groups = [1, 2, 3, 8][draw(seed, 0, 4)];
        let channels = groups * [1, 2, 3, 4][draw(seed, 1, 4)];
        let batch = 1 + draw(seed, 2, 3);
        let side = [1 + draw(seed, 3, 9), 1 + draw(seed, 4, 9)];
        let rows = if draw(seed, 5, 2) == 0 { 1 } else { batch };
        let options = GroupNormOptions {
            groups,
            eps: 1e-5,
            silu: draw(seed, 6, 2) == 0,
        };
        // Two values in a group, ±1 after it, have a gradient of rounding errors.
        if channels / groups * side[0] * side[1] < 3 {
            continue;
        }
        let parameter = [rows, channels, 1, 1];
        let shapes = vec![[batch, channels, side[0], side[1]], parameter, parameter];
        compare("group_norm", &shapes, FloatDType::F32, F32, &|given| {
            // A mean far from 0 must not cost digits.
            let x = given[0].clone() * 2.0 + 30.0;
            group_norm(x, flat(&given[1]), flat(&given[2]), options)
        });
    }
}

struct Case {
    shapes: Shapes,
    options: Conv2dOptions,
    norm: Option<GroupNormOptions>,
    residual: bool,
}

fn convolution_case(seed: u64) -> Case {
    let kernel = [1, 2, 3, 3, 5][draw(seed, 0, 5)];
    let stride = 1 + draw(seed, 1, 2);
    let padding = (
        draw(seed, 2, 2).min(kernel / 2),
        draw(seed, 3, 2).min(kernel / 2),
    );
    let double = draw(seed, 4, 4) == 0;
    let groups = 1 + draw(seed, 5, 3);
    let input = groups * (1 + draw(seed, 6, 12));
    let output = [1, 3, 8, 20, 70][draw(seed, 7, 5)];
    let batch = 1 + draw(seed, 8, 3);
    let side = [kernel + draw(seed, 9, 9), kernel + draw(seed, 10, 9)];
    let out = side.map(|side| {
        let side = if double { 2 * side } else { side };
        (side + padding.0 + padding.1 - kernel) / stride + 1
    });
    let norm = (draw(seed, 11, 2) == 0).then_some(GroupNormOptions {
        groups,
        eps: 1e-5,
        silu: draw(seed, 12, 2) == 0,
    });
    let rows = if draw(seed, 13, 2) == 0 { 1 } else { batch };
    Case {
        shapes: vec![
            [batch, input, side[0], side[1]],
            [output, input, kernel, kernel],
            [rows, output, 1, 1],
            [1, input, 1, 1],
            [1, input, 1, 1],
            [batch, output, out[0], out[1]],
        ],
        options: Conv2dOptions {
            stride,
            padding,
            double,
        },
        norm,
        residual: draw(seed, 14, 2) == 0,
    }
}

fn convolve(case: &Case, given: &[Tensor<4>]) -> Tensor<4> {
    Convolution {
        norm: case.norm.map(|options| Norm {
            weight: flat(&given[3]),
            bias: flat(&given[4]),
            options,
        }),
        weight: given[1].clone(),
        bias: flat(&given[2]),
        residual: case.residual.then(|| {
            let dtype: FloatDType = given[0].dtype().into();
            given[5].clone().cast(dtype)
        }),
        options: case.options,
        cache: None,
    }
    .forward(given[0].clone())
}

#[test]
fn convolutions() {
    for seed in 0..16 {
        let case = convolution_case(seed);
        compare(
            "convolution",
            &case.shapes,
            FloatDType::F32,
            5e-5,
            &|given| convolve(&case, given),
        );
    }
}

/// A network passes images on with channels last: what comes out of one operation goes into the next as it is.
#[test]
fn a_chain_of_operations() {
    let shapes = vec![
        [2, 8, 6, 6],
        [12, 8, 3, 3],
        [2, 12, 1, 1],
        [1, 12, 1, 1],
        [1, 12, 1, 1],
        [8, 20, 1, 1],
    ];
    let options = Conv2dOptions {
        stride: 1,
        padding: (1, 1),
        double: false,
    };
    compare("chain", &shapes, FloatDType::F32, F32, &|given| {
        let first = Convolution {
            norm: None,
            weight: given[1].clone(),
            bias: flat(&given[2]),
            residual: None,
            options,
            cache: None,
        };
        let h = first.forward(given[0].clone());
        let norm = GroupNormOptions {
            groups: 3,
            eps: 1e-6,
            silu: true,
        };
        let h = h.clone()
            + attention(
                group_norm(h, flat(&given[3]), flat(&given[4]), norm).repeat_dim(1, 3),
                2,
            );
        let last = Convolution {
            norm: None,
            weight: given[5].clone(),
            bias: flat(&given[2]).narrow(1, 0, 8),
            residual: Some(given[0].clone()),
            options: Conv2dOptions {
                padding: (0, 0),
                ..options
            },
            cache: None,
        };
        double(last.forward(concatenate(h, given[0].clone())))
    });
}

#[test]
fn attentions() {
    for (seed, (heads, dim, side)) in [
        (1, 4, [3, 5]),
        (2, 8, [8, 8]),
        (3, 1, [1, 2]),
        (1, 70, [9, 8]),
    ]
    .into_iter()
    .enumerate()
    {
        let shapes = vec![[1 + seed % 2, 3 * heads * dim, side[0], side[1]]];
        compare("attention", &shapes, FloatDType::F32, F32, &|given| {
            attention(given[0].clone(), heads)
        });
    }
}

#[test]
fn resizing_and_joining() {
    for (a, b) in [(4, 8), (3, 2), (1, 6)] {
        let shapes = vec![[2, a, 3, 5], [2, b, 3, 5]];
        compare("concatenate", &shapes, FloatDType::F32, 1e-7, &|given| {
            concatenate(given[0].clone(), given[1].clone())
        });
        compare(
            "double",
            &shapes[..1].to_vec(),
            FloatDType::F32,
            1e-6,
            &|given| double(given[0].clone()),
        );
    }
}

#[test]
fn fully_connected() {
    let shapes = vec![[5, 33, 1, 1], [70, 33, 1, 1], [1, 70, 1, 1]];
    compare("linear", &shapes, FloatDType::F32, F32, &|given| {
        let bias = given[2].clone().reshape([70]);
        linear(flat(&given[0]), flat(&given[1]), bias, None).unsqueeze_dims(&[2, 3])
    });
}

#[test]
fn all_parameters_move_as_one_by_one() {
    let lengths = [1usize, 63, 64, 1000, 5];
    let step = AdamStep {
        grad_scale: 0.75,
        betas: [0.9, 0.999],
        step_size: 2e-3,
        correction2: 0.002,
        eps: 1e-8,
        decay_into_gradient: 0.01,
        shrink: 0.99,
        ema_decay: 0.9,
    };
    let run = |device: &Device| {
        let tensor = |kind: u64, i: usize, length: usize| {
            let mut data = random(10 * kind + i as u64, length);
            if kind == 2 {
                data.iter_mut().for_each(|x| *x *= *x);
            }
            Tensor::<1>::from_data(TensorData::new(data, [length]), device)
        };
        let all = |kind: u64| lengths.iter().enumerate().map(move |(i, &n)| (kind, i, n));
        let mut states: Vec<AdamState> = all(0)
            .map(|(_, i, n)| AdamState {
                weight: tensor(0, i, n),
                exp_avg: tensor(1, i, n),
                exp_avg_sq: tensor(2, i, n),
                ema: tensor(3, i, n),
            })
            .collect();
        let mut norm = 0.0;
        for round in 0..3 {
            let mut flatten = Flatten::default();
            for (kind, i, n) in all(4 + round) {
                // Gradients come with any strides.
                flatten.push(tensor(kind, i, n).reshape([1, n]).transpose());
            }
            let grads = flatten.finish();
            norm = sum_of_squares(&grads).unwrap();
            states = adam_steps(states, grads, step);
        }
        let columns = states
            .into_iter()
            .flat_map(|s| [s.weight, s.exp_avg, s.exp_avg_sq, s.ema].map(values));
        (norm, columns.collect::<Vec<_>>())
    };
    let (norm, got) = run(&card());
    let (expected_norm, expected) = run(&Device::flex());
    assert!((norm / expected_norm - 1.0).abs() < 1e-6);
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = relative(got, expected);
        assert!(error < 1e-6, "tensor {i}: {error:e}");
    }
}

/// The card's own judgement against the host's: clipped or not, with bad numbers among losses and gradients, and
/// once halted nothing moves before it is cleared.
#[test]
fn a_card_judges_as_the_host_does() {
    let lengths = [70usize, 300];
    let step = AdamStep {
        grad_scale: f64::NAN,
        betas: [0.9, 0.999],
        step_size: 2e-3,
        correction2: 0.002,
        eps: 1e-8,
        decay_into_gradient: 0.0,
        shrink: 1.0,
        ema_decay: 0.9,
    };
    let free = Clip {
        divisor: 4.0,
        max_norm: f64::INFINITY,
    };
    let bound = Clip {
        max_norm: 0.5,
        ..free
    };
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    // The loss, a gradient, the clipping, and whether the switch is reset before.
    let rounds = [
        (1.0, 1.0, free, false),
        (1.0, 1.0, bound, false),
        // The sum of the squares is no f32, the norm is one.
        (1.0, 1.5e19, bound, false),
        (nan, 1.0, free, false),
        (1.0, 1.0, free, false),
        (1.0, 1.0, bound, true),
        (1.0, -inf, bound, false),
        (1.0, 1.0, bound, true),
        (inf, 1.0, bound, true),
        (1.0, nan, free, true),
    ];
    let run = |device: &Device| {
        let tensor = |kind: usize, length: usize| {
            let data = random((10 * kind + length) as u64, length);
            Tensor::<1>::from_data(TensorData::new(data, [length]), device)
        };
        let mut states: Vec<AdamState> = lengths
            .iter()
            .map(|&n| AdamState {
                weight: tensor(0, n),
                exp_avg: tensor(1, n),
                exp_avg_sq: tensor(2, n).abs(),
                ema: tensor(3, n),
            })
            .collect();
        let mut halt = Halt::new(device);
        let mut trace = Vec::new();
        for (i, (loss, gradient, clip, clear)) in rounds.into_iter().enumerate() {
            if clear {
                halt.clear();
            }
            let mut flatten = Flatten::default();
            for &n in &lengths {
                let mut data = random((50 + i + n) as u64, n);
                data[n / 2] = gradient;
                flatten.push(Tensor::<1>::from_data(TensorData::new(data, [n]), device));
            }
            let grads = flatten.finish();
            let losses = Tensor::from_floats([0.5, loss, 0.25], device);
            let measured = measure(losses, &grads).unwrap();
            let coming;
            (states, coming) = adam_steps_unseen(states, grads, step, clip, measured, &mut halt);
            let numbers = coming.wait().unwrap();
            let moved: Vec<f32> = states.iter().flat_map(|s| values(s.ema.clone())).collect();
            trace.push((numbers, moved));
        }
        trace
    };
    let (got, expected) = (run(&card()), run(&Device::flex()));
    for (i, ((numbers, moved), (by_host, expected))) in got.into_iter().zip(expected).enumerate() {
        let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
        let pairs = numbers.losses.iter().zip(&by_host.losses);
        assert!(pairs.clone().all(|(a, b)| same(*a, *b)), "{i}: {numbers:?}");
        let (a, b) = (numbers.sum_of_squares, by_host.sum_of_squares);
        assert!(
            (a - b).abs() <= 1e-5 * b || !(a.is_finite() || b.is_finite()),
            "{i}: {a} {b}"
        );
        let error = relative(&moved, &expected);
        assert!(error < 1e-6, "{i}: {error:e}");
    }
}

/// The measure that kernels are chosen by.
#[test]
fn the_distance_of_two_tensors() {
    let tensor = |data: Vec<f32>| {
        let count = data.len();
        let data = TensorData::new(data, [count]);
        super::primitive(Tensor::<1>::from_data(data, &card()))
    };
    let right = random(3, 9001);
    let mut wrong = right.clone();
    wrong[4096] += 2.0;
    let distance = |a: &[f32], b: &[f32]| {
        super::algorithm::distance(&tensor(a.to_vec()), &tensor(b.to_vec())).unwrap()
    };
    assert_eq!(distance(&right, &right), 0.0);
    let expected = relative(&wrong, &right);
    assert!((distance(&wrong, &right) / expected - 1.0).abs() < 1e-5);
    assert_eq!(distance(&[0.0; 5], &[0.0; 5]), 0.0);
    wrong[8000] = f32::NAN;
    assert!(distance(&wrong, &right).is_nan());
    assert!(distance(&wrong, &wrong).is_nan());
}

/// A recorded network of a few layers gives what it gives when it is run, for every batch of its shape, and other work
/// between two replays does not meet its memory.
#[test]
fn a_recording_does_what_it_recorded() {
    let device = card();
    let tensor = |i: u64, shape: [usize; 4]| {
        let data = TensorData::new(random(i, shape.iter().product()), shape);
        Tensor::<4>::from_data(data, &device)
    };
    let (weight, bias) = (tensor(1, [8, 4, 3, 3]), tensor(2, [1, 8, 1, 1]));
    let runs = std::cell::Cell::new(0);
    let mut run = |x: Tensor<4>, t: Tensor<1>| {
        runs.set(runs.get() + 1);
        let layer = Convolution {
            norm: None,
            weight: weight.clone(),
            bias: bias.clone().reshape([1, 8]),
            residual: None,
            options: Conv2dOptions {
                stride: 1,
                padding: (1, 1),
                double: true,
            },
            cache: None,
        };
        let y = layer.forward(x);
        Ok::<_, ()>(concatenate(y.clone() * 0.5, y) * t.unsqueeze_dims::<4>(&[1, 2, 3]))
    };
    let x = |i: u64| tensor(10 + i, [3, 4, 5, 6]);
    let t = |i: u64| Tensor::<1>::from_data(random(20 + i, 3).as_slice(), &device);
    let recording = crate::record(&x(0), &t(0), &mut run).unwrap().unwrap();
    assert_eq!(runs.get(), 3);
    for i in [1, 2, 0] {
        let replayed = recording.replay(&x(i), &t(i)).unwrap();
        let kept = values(replayed.clone());
        assert_eq!(kept, values(run(x(i), t(i)).unwrap()), "{i}");
        drop(recording.replay(&x(3), &t(3)).unwrap());
        assert_eq!(kept, values(replayed), "{i}: a result is not overwritten");
    }
    // An error of the function is that of the recording, and leaves the card at work.
    let mut fails = |_: Tensor<4>, _: Tensor<1>| Err::<Tensor<4>, _>(7);
    assert_eq!(crate::record(&x(0), &t(0), &mut fails).unwrap_err(), 7);
    let calls = std::cell::Cell::new(0);
    let mut fails_later = |x: Tensor<4>, _: Tensor<1>| {
        calls.set(calls.get() + 1);
        if calls.get() == 3 { Err(8) } else { Ok(x) }
    };
    assert_eq!(
        crate::record(&x(0), &t(0), &mut fails_later).unwrap_err(),
        8
    );
    assert!(crate::record(&x(0), &t(0), &mut run).unwrap().is_some());
}

/// What cannot be recorded, a number sent to the card here, is not.
#[test]
fn what_is_no_recording_is_refused() {
    let device = card();
    let x = Tensor::<4>::ones([1, 1, 1, 4], &device);
    let t = Tensor::<1>::ones([1], &device);
    let mut next = 0.0f32;
    let mut run = |x: Tensor<4>, _: Tensor<1>| {
        next += 1.0;
        Ok::<_, ()>(x + Tensor::<1>::from_floats([next], &device).reshape([1, 1, 1, 1]))
    };
    assert!(crate::record(&x, &t, &mut run).unwrap().is_none());
    assert_eq!(values(x + 1.0), [2.0; 4]);
}

/// Half precision rounds each result to 10 bits of mantissa; what a kernel adds to that must be small.
#[test]
fn half_precision() {
    if crate::Precision::F16.choose(&card()).is_err() {
        assert!(!card_has_f16(), "f16 must not be refused where it is there");
        return;
    }
    for seed in 0..6 {
        let case = convolution_case(seed);
        compare(
            "convolution",
            &case.shapes,
            FloatDType::F16,
            4e-3,
            &|given| convolve(&case, given),
        );
    }
    compare(
        "attention",
        &vec![[2, 24, 4, 4]],
        FloatDType::F16,
        4e-3,
        &|given| attention(given[0].clone(), 2),
    );
}

fn card_has_f16() -> bool {
    card().supports_dtype(DType::F16)
}
