use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, below, normal_fill};

use super::*;
use crate::cpu::for_each_isa;

fn random(index: u64, count: usize, scale: f32, shift: f32) -> Vec<f32> {
    let mut data = vec![0.0f32; count];
    normal_fill(2, Stream::Synthetic, 0, index, &mut data);
    data.iter_mut().for_each(|x| *x = *x * scale + shift);
    data
}

/// The definition in f64, for one image group at a time.
fn exact(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    shape: [usize; 4],
    options: GroupNormOptions,
) -> Vec<f64> {
    let [batch, channels, height, width] = shape;
    let (plane, per_group) = (height * width, channels / options.groups);
    let mut y = vec![0.0; x.len()];
    for b in 0..batch {
        for g in 0..options.groups {
            let at = (b * channels + g * per_group) * plane;
            let group: Vec<f64> = x[at..][..per_group * plane]
                .iter()
                .map(|&x| f64::from(x))
                .collect();
            let count = group.len() as f64;
            let mean = group.iter().sum::<f64>() / count;
            let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            for (k, x) in group.iter().enumerate() {
                let c = (b * channels + g * per_group + k / plane) % weight.len();
                let a = (x - mean) / (variance + options.eps).sqrt() * f64::from(weight[c])
                    + f64::from(bias[c]);
                y[at + k] = if options.silu {
                    a / (1.0 + (-a).exp())
                } else {
                    a
                };
            }
        }
    }
    y
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    let data: Vec<f32> = x.into_data().try_to_vec().unwrap();
    data.into_iter().map(f64::from).collect()
}

fn relative(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let difference: f64 = got.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = expected.iter().map(|b| b.powi(2)).sum();
    (difference / size).sqrt()
}

#[test]
fn kernel_is_the_definition_and_its_gradients_are_the_references() {
    for_each_isa(random_shapes);
}

fn random_shapes() {
    for seed in 0..24 {
        let draw = |k: u64, n: u64| below(seed, Stream::Order, 8, k, n) as usize;
        let groups = [1, 2, 3, 8][draw(0, 4)];
        let options = GroupNormOptions {
            groups,
            eps: 1e-5,
            silu: seed % 2 == 0,
        };
        let shape = [
            1 + draw(1, 5),
            groups * (1 + draw(2, 5)),
            1 + draw(3, 12),
            2 + draw(4, 12),
        ];
        let channels = shape[1];
        let count = shape.iter().product();
        let x = random(4 * seed, count, 2.0, 3.0);
        // Every third time, each image has its own.
        let rows = if seed % 3 == 0 { shape[0] } else { 1 };
        let weight = random(4 * seed + 1, rows * channels, 0.5, 1.0);
        let bias = random(4 * seed + 2, rows * channels, 0.5, 0.0);
        let w = random(4 * seed + 3, count, 1.0, 0.0);
        let expected = exact(&x, &weight, &bias, shape, options);
        let device = Device::flex().autodiff();
        let run = |op: fn(Tensor<4>, Tensor<2>, Tensor<2>, GroupNormOptions) -> Tensor<4>| {
            let x =
                Tensor::<4>::from_data(TensorData::new(x.clone(), shape), &device).require_grad();
            let per_channel = |values: &[f32]| {
                let data = TensorData::new(values.to_vec(), [rows, channels]);
                Tensor::<2>::from_data(data, &device).require_grad()
            };
            let (weight, bias) = (per_channel(&weight), per_channel(&bias));
            let w = Tensor::<4>::from_data(TensorData::new(w.clone(), shape), &device);
            let y = op(x.clone(), weight.clone(), bias.clone(), options);
            let grads = (y.clone() * w).sum().backward();
            [
                values(y),
                values(x.grad(&grads).unwrap()),
                values(weight.grad(&grads).unwrap()),
                values(bias.grad(&grads).unwrap()),
            ]
        };
        let fast = run(group_norm);
        let slow = run(reference);
        // Rounding of a few f32 operations on numbers of size 1 to 10.
        assert!(
            relative(&fast[0], &expected) < 2e-6,
            "{shape:?} {options:?}"
        );
        for (fast, slow) in fast.iter().zip(&slow) {
            assert!(
                relative(fast, slow) < 2e-5,
                "{shape:?} {options:?}: {}",
                relative(fast, slow)
            );
        }
    }
}
