use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, below, normal_fill};

use super::*;
use crate::cpu::for_each_isa;

fn random(index: u64, count: usize) -> Vec<f32> {
    let mut data = vec![0.0f32; count];
    normal_fill(1, Stream::Synthetic, 0, index, &mut data);
    data
}

/// One convolution and the values of its operands.
#[derive(Debug)]
struct Case {
    /// `[batch, in, height, width]`
    shape: [usize; 4],
    output: usize,
    kernel: usize,
    options: Conv2dOptions,
    norm: Option<GroupNormOptions>,
    per_image_bias: bool,
    residual: bool,
}

const SAME: Conv2dOptions = Conv2dOptions {
    stride: 1,
    padding: (1, 1),
    upsample_nearest_2x: false,
};

impl Case {
    fn plain(shape: [usize; 4], output: usize, kernel: usize, options: Conv2dOptions) -> Self {
        Self {
            shape,
            output,
            kernel,
            options,
            norm: None,
            per_image_bias: false,
            residual: false,
        }
    }

    fn out(&self) -> [usize; 2] {
        let (before, after) = self.options.padding;
        let scale = if self.options.upsample_nearest_2x {
            2
        } else {
            1
        };
        [self.shape[2], self.shape[3]]
            .map(|side| (scale * side + before + after - self.kernel) / self.options.stride + 1)
    }
}

/// Operands: x, norm weight, norm bias, weight, bias, residual, and the w of Σ y·w.
type Values = [Vec<f32>; 7];

fn values(case: &Case, seed: u64) -> Values {
    let [batch, input, height, width] = case.shape;
    let [oh, ow] = case.out();
    let rows = if case.per_image_bias { batch } else { 1 };
    let y_len = batch * case.output * oh * ow;
    let lens = [
        batch * input * height * width,
        input,
        input,
        case.output * input * case.kernel * case.kernel,
        rows * case.output,
        y_len,
        y_len,
    ];
    let mut index = 8 * seed;
    lens.map(|len| {
        index += 1;
        random(index, len)
    })
}

/// The convolution itself in f64: y, and the gradients of Σ y·w by its input, weight, and by bias and
/// residual (w itself).
fn exact_convolution(case: &Case, x: &[f64], values: &Values) -> [Vec<f64>; 3] {
    let [batch, input, height, width] = case.shape;
    let (kernel, options) = (case.kernel, case.options);
    let scale = if options.upsample_nearest_2x { 2 } else { 1 };
    let [oh, ow] = case.out();
    let [_, _, _, weight, bias, residual, w] = values;
    let mut y = vec![0.0; w.len()];
    let mut dx = vec![0.0; x.len()];
    let mut dweight = vec![0.0; weight.len()];
    let at = |i: usize, u: usize, side: usize| {
        (i * options.stride + u)
            .checked_sub(options.padding.0)
            .filter(|&at| at < scale * side)
            .map(|at| at / scale)
    };
    for b in 0..batch {
        for o in 0..case.output {
            let bias = bias[(b * case.output + o) % bias.len()];
            for i in 0..oh {
                for j in 0..ow {
                    let to = ((b * case.output + o) * oh + i) * ow + j;
                    let dy = f64::from(w[to]);
                    let mut sum = f64::from(bias);
                    if case.residual {
                        sum += f64::from(residual[to]);
                    }
                    for c in 0..input {
                        for u in 0..kernel {
                            for v in 0..kernel {
                                let (Some(row), Some(column)) = (at(i, u, height), at(j, v, width))
                                else {
                                    continue;
                                };
                                let from = ((b * input + c) * height + row) * width + column;
                                let by = ((o * input + c) * kernel + u) * kernel + v;
                                sum += x[from] * f64::from(weight[by]);
                                dx[from] += dy * f64::from(weight[by]);
                                dweight[by] += dy * x[from];
                            }
                        }
                    }
                    y[to] = sum;
                }
            }
        }
    }
    [y, dx, dweight]
}

/// act(norm(x)) in f64.
fn exact_norm(case: &Case, values: &Values) -> Vec<f64> {
    let x: Vec<f64> = values[0].iter().map(|&x| f64::from(x)).collect();
    let Some(norm) = case.norm else { return x };
    let [_, input, height, width] = case.shape;
    let len = input / norm.groups * height * width;
    let mut y = x;
    for (g, group) in y.chunks_exact_mut(len).enumerate() {
        let mean = group.iter().sum::<f64>() / len as f64;
        let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len as f64;
        for (k, x) in group.iter_mut().enumerate() {
            let channel = (g * len + k) / (height * width) % input;
            let a = (*x - mean) / (variance + norm.eps).sqrt() * f64::from(values[1][channel])
                + f64::from(values[2][channel]);
            *x = if norm.silu { a / (1.0 + (-a).exp()) } else { a };
        }
    }
    y
}

fn relative(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let square = |x: f64| x * x;
    let difference: f64 = got
        .iter()
        .zip(expected)
        .map(|(a, b)| square(f64::from(*a) - b))
        .sum();
    let size: f64 = expected.iter().map(|b| square(*b)).sum();
    (difference / size.max(1e-30)).sqrt()
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// y and the gradients of Σ y·w by x, norm weight, norm bias, weight, bias and residual.
fn computed(case: &Case, values: &Values, device: &Device, fast: bool) -> Vec<Vec<f32>> {
    let [batch, input, ..] = case.shape;
    let [oh, ow] = case.out();
    let rows = if case.per_image_bias { batch } else { 1 };
    let y_shape = [batch, case.output, oh, ow];
    let four = |i: usize, shape: [usize; 4]| {
        Tensor::<4>::from_data(TensorData::new(values[i].clone(), shape), device).require_grad()
    };
    let two = |i: usize, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(values[i].clone(), shape), device).require_grad()
    };
    let x = four(0, case.shape);
    let (norm_weight, norm_bias) = (two(1, [1, input]), two(2, [1, input]));
    let weight = four(3, [case.output, input, case.kernel, case.kernel]);
    let bias = two(4, [rows, case.output]);
    let residual = four(5, y_shape);
    let convolution = Convolution {
        norm: case.norm.map(|options| Norm {
            weight: norm_weight.clone(),
            bias: norm_bias.clone(),
            options,
        }),
        weight: weight.clone(),
        bias: bias.clone(),
        residual: case.residual.then(|| residual.clone()),
        options: case.options,
        cache: None,
    };
    let y = if fast {
        convolution.forward(x.clone())
    } else {
        convolution.reference(x.clone())
    };
    assert_eq!(y.dims(), y_shape);
    let mut found = vec![read(y.clone())];
    let grads = (y * four(6, y_shape)).sum().backward();
    found.push(read(x.grad(&grads).unwrap()));
    if case.norm.is_some() {
        found.push(read(norm_weight.grad(&grads).unwrap()));
        found.push(read(norm_bias.grad(&grads).unwrap()));
    }
    found.push(read(weight.grad(&grads).unwrap()));
    found.push(read(bias.grad(&grads).unwrap()));
    if case.residual {
        found.push(read(residual.grad(&grads).unwrap()));
    }
    found
}

fn check(case: &Case, seed: u64) {
    let values = values(case, seed);
    let x = exact_norm(case, &values);
    let [y, dx, dweight] = exact_convolution(case, &x, &values);
    let fast = computed(case, &values, &Device::flex().autodiff(), true);
    // Sums of some thousand products in f32, transformed or not: a few 1e-6 at 300 channels.
    let bound = 1e-5;
    assert!(relative(&fast[0], &y) < bound, "y: {case:?}");
    let weight_at = if case.norm.is_some() { 4 } else { 2 };
    assert!(relative(&fast[weight_at], &dweight) < bound, "{case:?}");
    if case.norm.is_none() {
        assert!(relative(&fast[1], &dx) < bound, "dx: {case:?}");
    }
    // What stands around the convolution, and its gradients, against burn's own operations.
    let slow = computed(case, &values, &Device::flex().autodiff(), false);
    for (i, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
        let slow: Vec<f64> = slow.iter().map(|&x| f64::from(x)).collect();
        // The gradient through a normalisation is a difference of larger sums.
        let difference = relative(fast, &slow);
        assert!(difference < 5e-5, "{i}: {difference:e} {case:?}");
    }
}

#[test]
fn kernel_is_the_definition_on_random_shapes() {
    for seed in 0..80 {
        let draw = |k: u64, n: u64| below(seed, Stream::Order, 7, k, n) as usize;
        let kernel = [1, 2, 3, 3, 3][draw(0, 5)];
        let groups = [1, 2, 3][draw(8, 3)];
        let mut case = Case {
            shape: [
                1 + draw(3, 9),
                groups * (1 + draw(4, 10)),
                3 + draw(5, 12),
                3 + draw(6, 12),
            ],
            output: 1 + draw(7, 30),
            kernel,
            options: Conv2dOptions {
                stride: 1 + draw(1, 2),
                padding: [(0, 0), (1, 1), (0, 1), (2, 0), (1, 1)][draw(2, 5)],
                upsample_nearest_2x: draw(9, 4) == 0,
            },
            norm: (draw(10, 2) == 0).then_some(GroupNormOptions {
                groups,
                eps: 1e-5,
                silu: draw(11, 2) == 0,
            }),
            per_image_bias: draw(12, 2) == 0,
            residual: draw(13, 2) == 0,
        };
        if seed % 3 == 0 {
            (case.kernel, case.options) = (
                3,
                Conv2dOptions {
                    upsample_nearest_2x: seed % 2 == 0,
                    ..SAME
                },
            );
        }
        if seed % 5 == 1 {
            // 1 to 300 channels, on few pixels.
            let channels = groups * (1 + draw(14, 300) / groups).min(300 / groups);
            case.shape = [case.shape[0], channels, 3 + draw(5, 5), 3 + draw(6, 5)];
        }
        for_each_isa(|| check(&case, seed));
    }
}

#[test]
fn kernel_is_the_definition_on_shapes_of_networks() {
    let same = |shape, output| Case::plain(shape, output, 3, SAME);
    let strided = Conv2dOptions {
        stride: 2,
        padding: (0, 1),
        upsample_nearest_2x: false,
    };
    let narrow = Conv2dOptions {
        padding: (0, 0),
        ..SAME
    };
    let cases = [
        // Many channels, on both sides of the choice between the algorithms.
        same([2, 300, 5, 4], 33),
        same([3, 300, 16, 16], 9),
        same([1, 64, 32, 31], 64),
        same([9, 128, 8, 8], 20),
        // Few channels; many small images; more images than rows of tiles.
        same([8, 3, 32, 32], 40),
        same([8, 40, 32, 32], 3),
        same([70, 3, 2, 2], 5),
        Case::plain([1, 8, 32, 31], 9, 3, strided),
        Case::plain([9, 70, 16, 16], 50, 3, strided),
        Case::plain([5, 257, 9, 7], 65, 1, narrow),
        Case {
            norm: Some(GroupNormOptions {
                groups: 32,
                eps: 1e-6,
                silu: true,
            }),
            per_image_bias: true,
            residual: true,
            ..same([4, 64, 16, 16], 96)
        },
    ];
    for (case, seed) in cases.iter().zip(100..) {
        for_each_isa(|| check(case, seed));
    }
}

#[test]
fn an_image_is_the_same_in_any_batch_and_with_kept_weights() {
    for_each_isa(same_in_any_batch);
}

fn same_in_any_batch() {
    let device = Device::flex();
    let cache = WeightCache::default();
    for (side, kernel, options) in [
        (16, 3, SAME),
        (4, 3, SAME),
        (
            8,
            1,
            Conv2dOptions {
                padding: (0, 0),
                ..SAME
            },
        ),
        (8, 3, Conv2dOptions { stride: 2, ..SAME }),
    ] {
        let data = |index, shape: [usize; 4]| {
            let values = random(index, shape.iter().product());
            Tensor::<4>::from_data(TensorData::new(values, shape), &device)
        };
        let (x, weight) = (
            data(1, [7, 24, side, side]),
            data(2, [20, 24, kernel, kernel]),
        );
        let run = |x: Tensor<4>| {
            let convolution = Convolution {
                norm: None,
                weight: weight.clone(),
                bias: Tensor::zeros([1, 20], &device),
                residual: None,
                options,
                cache: Some(&cache),
            };
            convolution.forward(x)
        };
        let together = run(x.clone());
        for i in 0..7 {
            let alone = run(x.clone().narrow(0, i, 1));
            let expected = together.clone().narrow(0, i, 1);
            alone.into_data().assert_eq(&expected.into_data(), true);
        }
    }
}

#[test]
fn views_are_read_as_what_they_show() {
    let device = Device::flex();
    let options = SAME;
    let make = |index, shape: [usize; 4]| {
        Tensor::<4>::from_data(
            TensorData::new(random(index, shape.iter().product()), shape),
            &device,
        )
    };
    let (x, weight) = (make(0, [2, 6, 5, 3]), make(1, [3, 4, 3, 3]));
    let view = x.swap_dims(1, 2).narrow(1, 1, 4);
    let bias = Tensor::<1>::zeros([4], &device);
    let weight = weight.swap_dims(0, 1).narrow(0, 0, 4);
    let copy = |t: Tensor<4>| Tensor::<4>::from_data(t.into_data(), &device);
    let weight = Tensor::cat(vec![weight.clone(), weight.narrow(1, 0, 1)], 1);
    let a = conv2d(view.clone(), weight.clone(), bias.clone(), options);
    let b = conv2d(copy(view), copy(weight), bias, options);
    a.into_data().assert_eq(&b.into_data(), true);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let strided = Conv2dOptions {
        stride: 2,
        padding: (0, 1),
        upsample_nearest_2x: false,
    };
    for (options, side) in [(SAME, 16), (SAME, 4), (strided, 16)] {
        let case = Case {
            norm: Some(GroupNormOptions {
                groups: 4,
                eps: 1e-5,
                silu: true,
            }),
            residual: true,
            ..Case::plain([3, 40, side, side], 24, 3, options)
        };
        let values = values(&case, 7);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let device = Device::flex().autodiff();
            pool.unwrap()
                .install(|| computed(&case, &values, &device, true))
        };
        let alone = on(1);
        for threads in [2, 3, 5] {
            assert!(on(threads) == alone, "{threads} threads: {case:?}");
        }
    }
}

#[test]
#[should_panic(expected = "a residual of the result's shape")]
fn a_residual_of_another_shape_is_not_read() {
    let device = Device::flex();
    let convolution = Convolution {
        norm: None,
        weight: Tensor::zeros([4, 3, 3, 3], &device),
        bias: Tensor::zeros([1, 4], &device),
        residual: Some(Tensor::zeros([1, 4, 8, 7], &device)),
        options: SAME,
        cache: None,
    };
    convolution.forward(Tensor::zeros([1, 3, 8, 8], &device));
}
