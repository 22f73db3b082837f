//! Operations on bf16 beside the same on f32.

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, below, normal_fill};

use super::isa::for_each_isa;
use super::tile::{Unit, for_each_unit};
use crate::{
    Conv2dOptions, Convolution, GroupNormOptions, Norm, attention, concat_channels, group_norm,
    linear, upsample_nearest_2x,
};

/// Random numbers that bf16 holds.
fn random<const D: usize>(index: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut data = vec![0.0f32; shape.iter().product()];
    normal_fill(7, Stream::Synthetic, 0, index, &mut data);
    rounded(Tensor::from_data(TensorData::new(data, shape), device))
}

fn bits<const D: usize>(x: Tensor<D>) -> Vec<u32> {
    let values: Vec<f32> = x.cast(FloatDType::F32).into_data().try_to_vec().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::BF16).cast(FloatDType::F32)
}

fn relative<const D: usize>(got: Tensor<D>, expected: Tensor<D>) -> f32 {
    let difference = (got.cast(FloatDType::F32) - expected.clone())
        .powi_scalar(2)
        .sum();
    (difference / expected.powi_scalar(2).sum())
        .sqrt()
        .into_scalar()
}

/// What an operation yields, and the gradient of Σ y·w by x and the f32 tensors.
struct Yield {
    y: Tensor<4>,
    dx: Tensor<4>,
    others: Vec<Tensor<2>>,
}

/// `op` on x in `dtype`.
fn run(
    x: &Tensor<4>,
    w: impl Fn([usize; 4]) -> Tensor<4>,
    others: &[Tensor<2>],
    dtype: FloatDType,
    op: impl Fn(Tensor<4>) -> Tensor<4>,
) -> Yield {
    let x = x.clone().cast(dtype).require_grad();
    let y = op(x.clone());
    let y = y.cast(FloatDType::F32);
    let grads = (y.clone() * w(y.dims())).sum().backward();
    Yield {
        y: y.inner(),
        dx: x.grad(&grads).unwrap(),
        others: others.iter().map(|x| x.grad(&grads).unwrap()).collect(),
    }
}

/// Runs `op` in both, and compares: sums are f32 in both, so what is written is f32's result, rounded.
fn compare(
    seed: u64,
    x: &Tensor<4>,
    others: &[Tensor<2>],
    op: impl Fn(Tensor<4>) -> Tensor<4>,
) -> [Yield; 2] {
    let [wide, narrow] = both(seed, x, others, op);
    assert_eq!(
        bits(narrow.y.clone()),
        bits(rounded(wide.y.clone())),
        "y of {seed}"
    );
    [wide, narrow]
}

fn both(
    seed: u64,
    x: &Tensor<4>,
    others: &[Tensor<2>],
    op: impl Fn(Tensor<4>) -> Tensor<4>,
) -> [Yield; 2] {
    let device = x.device();
    let w = |shape: [usize; 4]| random(100 * seed + 99, shape, &device);
    [FloatDType::F32, FloatDType::BF16].map(|dtype| run(x, w, others, dtype, &op))
}

#[test]
fn convolutions_of_bf16_are_those_of_f32_rounded() {
    for_each_isa(|| for_each_unit(convolutions));
}

fn convolutions(unit: Option<Unit>) {
    let device = Device::flex().autodiff();
    for seed in 0..40 {
        let draw = |k: u64, n: u64| below(seed, Stream::Order, 20, k, n) as usize;
        let kernel = [1, 3, 3][draw(0, 3)];
        let doubled = kernel == 3 && draw(1, 4) == 0;
        let options = Conv2dOptions {
            stride: if doubled { 1 } else { 1 + draw(2, 2) },
            padding: (kernel / 2, kernel / 2),
            upsample_nearest_2x: doubled,
        };
        let groups = 1 + draw(3, 4);
        let input = groups * (1 + draw(4, 12));
        let output = 1 + draw(5, 40);
        let shape = [1 + draw(6, 3), input, 2 + draw(7, 18), 2 + draw(8, 18)];
        let of = |k: u64, shape: [usize; 2]| random(100 * seed + k, shape, &device).require_grad();
        let weight = of(1, [output, input * kernel * kernel]);
        let bias = of(2, [1, output]);
        let (norm_weight, norm_bias) = (of(3, [1, input]), of(4, [1, input]));
        let normed = draw(9, 2) == 0;
        let mut others = vec![weight.clone(), bias.clone()];
        if normed {
            others.extend([norm_weight.clone(), norm_bias.clone()]);
        }
        let x = random(100 * seed, shape, &device);
        let [wide, narrow] = both(seed, &x, &others, |x| {
            let convolution = Convolution {
                norm: normed.then(|| Norm {
                    weight: norm_weight.clone(),
                    bias: norm_bias.clone(),
                    options: GroupNormOptions {
                        groups,
                        eps: 1e-5,
                        silu: true,
                    },
                }),
                weight: weight.clone().reshape([output, input, kernel, kernel]),
                bias: bias.clone(),
                residual: None,
                options,
                cache: None,
            };
            convolution.forward(x)
        });
        let what = format!(
            "{unit:?}, {seed}: {shape:?} to {output}, {kernel}, {options:?}, normed: {normed}"
        );
        let by_unit = unit.is_some();
        // Without a unit the sums are the same; with one their order is another, and what is normalised is rounded to
        // the 8 bits of bf16 before it is multiplied.
        match (by_unit, normed) {
            (false, _) => assert_eq!(bits(narrow.y), bits(rounded(wide.y)), "y, {what}"),
            (true, false) => assert!(relative(narrow.y, rounded(wide.y)) < 1e-3, "y, {what}"),
            (true, true) => assert!(relative(narrow.y, wide.y) < 6e-3, "y, {what}"),
        }
        for (i, (wide, narrow)) in wide.others.into_iter().zip(narrow.others).enumerate() {
            // The normalisation's own gradients are sums of the rounded gradient of what it yields, which may cancel.
            let limit = match (i, by_unit) {
                (0, true) if normed => 4e-3,
                (0, true) => 2e-6,
                (0 | 1, _) => 0.0,
                _ => 3e-2,
            };
            let found = relative(narrow, wide);
            assert!(found <= limit, "gradient {i}, {what}: {found:e}");
        }
        match (by_unit, normed) {
            (false, false) => assert_eq!(bits(narrow.dx), bits(rounded(wide.dx)), "dx, {what}"),
            (true, false) => {
                assert!(relative(narrow.dx, rounded(wide.dx)) < 1e-3, "dx, {what}");
            }
            // Rounded twice, each time by at most 2^-9.
            _ => assert!(relative(narrow.dx, wide.dx) < 6e-3, "dx, {what}"),
        }
    }
}

#[test]
fn residuals_of_bf16_are_added_in_f32() {
    for_each_isa(|| for_each_unit(|_| residuals()));
}

fn residuals() {
    let device = Device::flex().autodiff();
    let weight = random::<4>(1, [5, 5, 3, 3], &device);
    let bias = random::<2>(2, [2, 5], &device);
    let x = random(3, [2, 5, 6, 7], &device);
    let [wide, narrow] = both(0, &x, &[], |x| {
        let convolution = Convolution {
            norm: None,
            weight: weight.clone(),
            bias: bias.clone(),
            residual: Some(x.clone()),
            options: Conv2dOptions {
                stride: 1,
                padding: (1, 1),
                upsample_nearest_2x: false,
            },
            cache: None,
        };
        convolution.forward(x)
    });
    assert!(relative(narrow.y, rounded(wide.y)) < 1e-3);
}

#[test]
fn normalisations_of_bf16_are_those_of_f32_rounded() {
    for_each_isa(|| {
        let device = Device::flex().autodiff();
        for seed in 0..20 {
            let draw = |k: u64, n: u64| below(seed, Stream::Order, 21, k, n) as usize;
            let groups = 1 + draw(0, 4);
            let shape = [
                1 + draw(1, 3),
                groups * (1 + draw(2, 6)),
                1 + draw(3, 12),
                2 + draw(4, 12),
            ];
            let options = GroupNormOptions {
                groups,
                eps: 1e-5,
                silu: seed % 2 == 0,
            };
            let of = |k: u64| random(100 * seed + k, [1, shape[1]], &device).require_grad();
            let (weight, bias) = (of(1), of(2));
            let x = random(100 * seed, shape, &device);
            let others = [weight.clone(), bias.clone()];
            let [wide, narrow] = compare(seed, &x, &others, |x| {
                group_norm(x, weight.clone(), bias.clone(), options)
            });
            for (wide, narrow) in wide.others.into_iter().zip(narrow.others) {
                assert!(relative(narrow, wide) < 4e-3, "gradients of {seed}");
            }
            // dL/dy with SiLU's derivative is kept in dL/dx's place, rounded.
            assert!(relative(narrow.dx, wide.dx) < 6e-3, "dx of {seed}");
        }
    });
}

#[test]
fn attention_of_bf16_is_that_of_f32_rounded() {
    for_each_isa(|| for_each_unit(attentions));
}

fn attentions(unit: Option<Unit>) {
    let device = Device::flex().autodiff();
    for seed in 0..20 {
        let draw = |k: u64, n: u64| below(seed, Stream::Order, 22, k, n) as usize;
        let heads = 1 + draw(0, 3);
        let dim = 1 + draw(1, 40);
        let shape = [
            1 + draw(2, 2),
            3 * heads * dim,
            1 + draw(3, 12),
            1 + draw(4, 12),
        ];
        let what = format!("{unit:?}, {seed}: {shape:?}, {heads} heads");
        let x = random(100 * seed + 50, shape, &device);
        let [wide, narrow] = both(seed, &x, &[], |x| attention(x, heads));
        if unit.is_none() {
            assert_eq!(bits(narrow.y), bits(rounded(wide.y)), "y, {what}");
        } else {
            // Weights are rounded before they meet the values.
            assert!(relative(narrow.y, wide.y) < 6e-3, "y, {what}");
        }
        // The backward pass reads y, rounded; one token has no gradient by queries and keys but that.
        if shape[2] * shape[3] > 1 {
            let found = relative(narrow.dx, wide.dx);
            assert!(found < 1e-2, "dx, {what}: {found:e}");
        }
    }
}

#[test]
fn other_operations_take_bf16() {
    let device = Device::flex().autodiff();
    let x = random(1, [2, 3, 5, 4], &device);
    compare(1, &x, &[], |x| concat_channels(x.clone(), x));
    compare(2, &x, &[], upsample_nearest_2x);
    let (weight, bias) = (
        random::<2>(2, [7, 20], &device),
        random::<1>(3, [7], &device),
    );
    compare(3, &x, &[], |x| {
        let y = linear(x.reshape([6, 20]), weight.clone(), bias.clone(), None);
        y.reshape([2, 3, 1, 7])
    });
}
