use burn::tensor::{Device, Tensor};
use ddpm_schedule::noise::{Stream, normal_fill};

use super::*;
use crate::cpu::for_each_isa;

fn random(index: u64, count: usize) -> Vec<f32> {
    let mut data = vec![0.0f32; count];
    normal_fill(4, Stream::Synthetic, 0, index, &mut data);
    data
}

fn step() -> AdamStep {
    AdamStep {
        grad_scale: 0.75,
        betas: [0.9, 0.999],
        step_size: 2e-3,
        correction2: 0.002,
        eps: 1e-8,
        decay_into_gradient: 0.01,
        shrink: 0.99,
        ema_decay: 0.9,
    }
}

fn state(count: usize, device: &Device) -> (AdamState, Tensor<1>) {
    let tensor = |values: Vec<f32>| Tensor::<1>::from_floats(values.as_slice(), device);
    let squares = random(3, count).iter().map(|x| x * x).collect();
    let state = AdamState {
        weight: tensor(random(1, count)),
        exp_avg: tensor(random(2, count)),
        exp_avg_sq: tensor(squares),
        ema: tensor(random(4, count)),
    };
    (state, tensor(random(5, count)))
}

fn values(x: Tensor<1>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

#[test]
fn one_pass_is_the_definition() {
    for_each_isa(one_pass);
}

fn one_pass() {
    let device = Device::flex();
    // Shorter than a vector, odd, and longer than one task's share.
    for count in [1, 13, 100_003] {
        let (before, grad) = state(count, &device);
        let fast = adam_step(before.clone(), grad.clone(), step());
        let slow = reference(before, grad, step());
        let pairs = [
            (fast.weight, slow.weight),
            (fast.exp_avg, slow.exp_avg),
            (fast.exp_avg_sq, slow.exp_avg_sq),
            (fast.ema, slow.ema),
        ];
        for (i, (fast, slow)) in pairs.into_iter().enumerate() {
            for (a, b) in values(fast).iter().zip(values(slow)) {
                // A few roundings of numbers of size 1.
                assert!(
                    (a - b).abs() <= 1e-6 * b.abs().max(1.0),
                    "{count}, {i}: {a} {b}"
                );
            }
        }
    }
}

#[test]
fn shared_memory_is_not_written() {
    let device = Device::flex();
    let (before, grad) = state(1000, &device);
    let kept = before.clone();
    let after = adam_step(before, grad, step());
    assert_eq!(values(kept.weight), random(1, 1000));
    assert_eq!(values(kept.ema), random(4, 1000));
    assert_ne!(values(after.weight), random(1, 1000));
}

#[test]
fn squares_are_added_over_all_tensors() {
    for_each_isa(squares);
}

fn squares() {
    let device = Device::flex();
    let tensors: Vec<Tensor<1>> = [3usize, 70_001, 16]
        .iter()
        .map(|&count| Tensor::from_floats(random(6, count).as_slice(), &device))
        .collect();
    let exact: f64 = [3usize, 70_001, 16]
        .iter()
        .flat_map(|&count| random(6, count))
        .map(|x| f64::from(x).powi(2))
        .sum();
    let found = sum_of_squares(&tensors).unwrap();
    assert!((found - exact).abs() < 1e-6 * exact, "{found} {exact}");
    assert_eq!(sum_of_squares(&[]), Ok(0.0));
}
