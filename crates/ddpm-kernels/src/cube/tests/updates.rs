//! All parameters in one launch, and the GPU's own check of a step.

use super::*;
use crate::{
    AdamState, AdamStep, Clip, Flatten, FoundInf, adam_steps, adam_steps_if_finite, measure,
};

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
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
            let measured = measure(Tensor::zeros([1], device), &grads).unwrap();
            norm = measured.pending().wait().unwrap().norm(1.0);
            states = adam_steps(states, grads, step);
        }
        let columns = states
            .into_iter()
            .flat_map(|s| [s.weight, s.exp_avg, s.exp_avg_sq, s.ema].map(values));
        (norm, columns.collect::<Vec<_>>())
    };
    let (norm, got) = run(&gpu());
    let (expected_norm, expected) = run(&Device::flex());
    assert!((norm / expected_norm - 1.0).abs() < 1e-6);
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = relative(got, expected);
        assert!(error < 1e-6, "tensor {i}: {error:e}");
    }
}

/// The GPU's own check of a step against the host's: clipped or not, with bad numbers among losses and gradients, and
/// once halted nothing moves before it is cleared.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn a_gpu_checks_a_step_as_the_host_does() {
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
        let mut found_inf = FoundInf::new(device);
        let mut trace = Vec::new();
        for (i, (loss, gradient, clip, clear)) in rounds.into_iter().enumerate() {
            if clear {
                found_inf.clear();
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
            (states, coming) =
                adam_steps_if_finite(states, grads, step, clip, measured, &mut found_inf);
            let numbers = coming.wait().unwrap();
            let moved: Vec<f32> = states.iter().flat_map(|s| values(s.ema.clone())).collect();
            trace.push((numbers, moved));
        }
        trace
    };
    let (got, expected) = (run(&gpu()), run(&Device::flex()));
    for (i, ((numbers, moved), (by_host, expected))) in got.into_iter().zip(expected).enumerate() {
        let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
        let pairs = numbers.losses.iter().zip(&by_host.losses);
        assert!(pairs.clone().all(|(a, b)| same(*a, *b)), "{i}: {numbers:?}");
        let (a, b) = (numbers.sum_of_squares, by_host.sum_of_squares);
        assert!(
            (a - b).abs() <= 1e-5 * b || !(a.is_finite() || b.is_finite()),
            "{i}: {a} {b}"
        );
        // Three square roots of 4.5 units in the last place and four divisions of 2.5, which WGSL allows and an H100's
        // driver takes, and some ten roundings.
        let limit = (3.0 * 4.5 + 4.0 * 2.5 + 10.0 * 0.5) * f64::from(f32::EPSILON);
        let error = relative(&moved, &expected);
        assert!(error < limit, "{i}: {error:e}, at most {limit:e}");
    }
}
