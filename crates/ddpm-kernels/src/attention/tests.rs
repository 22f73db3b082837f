use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, below, normal_fill};

use super::*;
use crate::cpu::for_each_isa;

fn random(index: u64, shape: [usize; 4]) -> Vec<f32> {
    let mut data = vec![0.0f32; shape.iter().product()];
    normal_fill(3, Stream::Synthetic, 0, index, &mut data);
    data
}

/// The definition in f64.
fn exact(qkv: &[f32], [batch, heads, dim, tokens]: [usize; 4]) -> Vec<f64> {
    let part = |b: usize, part: usize, h: usize, d: usize, t: usize| {
        f64::from(qkv[(((b * 3 + part) * heads + h) * dim + d) * tokens + t])
    };
    let mut y = vec![0.0; batch * heads * dim * tokens];
    for b in 0..batch {
        for h in 0..heads {
            for query in 0..tokens {
                let scores: Vec<f64> = (0..tokens)
                    .map(|key| {
                        let product = |d| part(b, 0, h, d, query) * part(b, 1, h, d, key);
                        (0..dim).map(product).sum::<f64>() / (dim as f64).sqrt()
                    })
                    .collect();
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
                for d in 0..dim {
                    let mixed = scores
                        .iter()
                        .enumerate()
                        .map(|(key, score)| (score - most).exp() / total * part(b, 2, h, d, key));
                    y[((b * heads + h) * dim + d) * tokens + query] = mixed.sum();
                }
            }
        }
    }
    y
}

fn values(x: Tensor<4>) -> Vec<f64> {
    let data: Vec<f32> = x.into_data().try_to_vec().unwrap();
    data.into_iter().map(f64::from).collect()
}

fn relative(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let difference: f64 = got.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = expected.iter().map(|b| b.powi(2)).sum();
    (difference / size).sqrt()
}

fn check(batch: usize, heads: usize, dim: usize, [height, width]: [usize; 2], seed: u64) {
    let shape = [batch, 3 * heads * dim, height, width];
    let y_shape = [batch, heads * dim, height, width];
    let qkv = random(2 * seed, shape);
    let w = random(2 * seed + 1, y_shape);
    let expected = exact(&qkv, [batch, heads, dim, height * width]);
    let device = Device::flex().autodiff();
    let run = |op: fn(Tensor<4>, usize) -> Tensor<4>| {
        let qkv = Tensor::<4>::from_data(TensorData::new(qkv.clone(), shape), &device);
        let qkv = qkv.require_grad();
        let w = Tensor::<4>::from_data(TensorData::new(w.clone(), y_shape), &device);
        let y = op(qkv.clone(), heads);
        assert_eq!(y.dims(), y_shape);
        let grads = (y.clone() * w).sum().backward();
        [values(y), values(qkv.grad(&grads).unwrap())]
    };
    let [y, gradient] = run(attention);
    let [_, slow_gradient] = run(reference);
    let what = format!("{shape:?}, {heads} heads");
    // Rounding of a softmax over numbers of size 1, and of sums of some hundred products.
    assert!(relative(&y, &expected) < 2e-6, "{what}");
    let difference = relative(&gradient, &slow_gradient);
    assert!(difference < 1e-5, "{difference:e}: {what}");
}

#[test]
fn kernel_is_the_definition_and_its_gradient_is_the_references() {
    for seed in 0..30 {
        let draw = |k: u64, n: u64| 1 + below(seed, Stream::Order, 9, k, n) as usize;
        let (batch, heads, dim) = (draw(0, 4), draw(1, 3), draw(2, 40));
        let sides = [draw(3, 9), draw(4, 9)];
        for_each_isa(|| check(batch, heads, dim, sides, seed));
    }
    // As in networks: many narrow heads, one wide head, and a single token.
    for_each_isa(|| {
        check(2, 16, 8, [16, 16], 100);
        check(1, 1, 256, [16, 16], 101);
        check(3, 2, 5, [1, 1], 102);
    });
}

#[test]
fn large_scores_do_not_overflow() {
    let device = Device::flex();
    let shape = [1, 6, 3, 3];
    let data: Vec<f32> = random(7, shape).into_iter().map(|x| 1e4 * x).collect();
    let qkv = Tensor::<4>::from_data(TensorData::new(data, shape), &device);
    let y = values(attention(qkv, 1));
    assert!(y.iter().all(|y| y.is_finite()), "{y:?}");
}

#[test]
fn what_is_not_a_number_is_not_hidden() {
    for_each_isa(|| {
        let device = Device::flex();
        let shape = [1, 6, 3, 3];
        let mut data = random(8, shape);
        data[0] = f32::NAN;
        let qkv = Tensor::<4>::from_data(TensorData::new(data, shape), &device);
        let y = values(attention(qkv, 1));
        // The first query's output, in both channels of the head.
        assert!(y[0].is_nan() && y[9].is_nan() && !y[1].is_nan(), "{y:?}");
    });
}
