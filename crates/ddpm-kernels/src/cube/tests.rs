//! Every kernel of GPUs against the CPU's kernels, on random shapes, odd sizes included.
//!
//! The device is the CPU posing as a GPU (Mesa's lavapipe), or what `DDPM_TEST_CARD` numbers.

use burn::tensor::{DType, Device, DeviceKind, FloatDType, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, below, normal_fill};

use crate::{
    Conv2dOptions, Convolution, GroupNormOptions, Norm, attention, concat_channels, group_norm,
    linear, upsample_nearest_2x,
};

mod attending;
mod capturing;
mod choosing;
mod dropping;
mod packing;
mod tiles;
mod updates;

fn gpu() -> Device {
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
    let got = run(&gpu(), shapes, dtype, operation);
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
#[ignore = "needs a GPU, or Vulkan in software"]
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
    let upsample_nearest_2x = draw(seed, 4, 4) == 0;
    let groups = 1 + draw(seed, 5, 3);
    let input = groups * (1 + draw(seed, 6, 12));
    let output = [1, 3, 8, 20, 70][draw(seed, 7, 5)];
    let batch = 1 + draw(seed, 8, 3);
    let side = [kernel + draw(seed, 9, 9), kernel + draw(seed, 10, 9)];
    let out = side.map(|side| {
        let side = if upsample_nearest_2x { 2 * side } else { side };
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
            upsample_nearest_2x,
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
#[ignore = "needs a GPU, or Vulkan in software"]
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
#[ignore = "needs a GPU, or Vulkan in software"]
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
        upsample_nearest_2x: false,
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
        upsample_nearest_2x(last.forward(concat_channels(h, given[0].clone())))
    });
}

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn attentions() {
    for (seed, (heads, dim, side)) in [
        (1, 4, [3, 5]),
        (2, 8, [8, 8]),
        (3, 1, [1, 2]),
        (1, 70, [9, 8]),
        // In tiles of the other size.
        (1, 4, [24, 24]),
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
#[ignore = "needs a GPU, or Vulkan in software"]
fn resizing_and_joining() {
    for (a, b) in [(4, 8), (3, 2), (1, 6)] {
        let shapes = vec![[2, a, 3, 5], [2, b, 3, 5]];
        compare("concatenate", &shapes, FloatDType::F32, 1e-7, &|given| {
            concat_channels(given[0].clone(), given[1].clone())
        });
        compare(
            "double",
            &shapes[..1].to_vec(),
            FloatDType::F32,
            1e-6,
            &|given| upsample_nearest_2x(given[0].clone()),
        );
    }
}

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn fully_connected() {
    // The last in tiles of the other size.
    for rows in [5, 130, 4200] {
        let shapes = vec![[rows, 33, 1, 1], [70, 33, 1, 1], [1, 70, 1, 1]];
        compare("linear", &shapes, FloatDType::F32, F32, &|given| {
            let bias = given[2].clone().reshape([70]);
            linear(flat(&given[0]), flat(&given[1]), bias, None).unsqueeze_dims(&[2, 3])
        });
    }
}

/// Half precision rounds each result to 10 bits of mantissa; what a kernel adds to that must be small.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn half_precision() {
    if crate::Precision::F16.choose(&gpu()).is_err() {
        assert!(!gpu_has_f16(), "f16 must not be refused where it is there");
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

fn gpu_has_f16() -> bool {
    gpu().supports_dtype(DType::F16)
}
