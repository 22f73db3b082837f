use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, below, normal_fill};

use super::*;

fn random<const D: usize>(index: u64, shape: [usize; D]) -> Vec<f32> {
    let mut data = vec![0.0f32; shape.iter().product()];
    normal_fill(1, Stream::Synthetic, 0, index, &mut data);
    data
}

/// The definition, in f64: output, and the gradients of Σ y·w.
struct Exact {
    y: Vec<f64>,
    dx: Vec<f64>,
    dweight: Vec<f64>,
    dbias: Vec<f64>,
}

fn exact(
    [x, weight, bias, w]: [&[f32]; 4],
    [batch, input, height, width]: [usize; 4],
    [output, kernel]: [usize; 2],
    options: Conv2dOptions,
    [oh, ow]: [usize; 2],
) -> Exact {
    let mut found = Exact {
        y: vec![0.0; batch * output * oh * ow],
        dx: vec![0.0; x.len()],
        dweight: vec![0.0; weight.len()],
        dbias: vec![0.0; output],
    };
    let at = |i: usize, u: usize, side: usize| {
        (i * options.stride + u)
            .checked_sub(options.padding.0)
            .filter(|&at| at < side)
    };
    for b in 0..batch {
        for (o, bias) in bias.iter().enumerate() {
            for i in 0..oh {
                for j in 0..ow {
                    let to = ((b * output + o) * oh + i) * ow + j;
                    let dy = f64::from(w[to]);
                    let mut sum = f64::from(*bias);
                    found.dbias[o] += dy;
                    for c in 0..input {
                        for u in 0..kernel {
                            for v in 0..kernel {
                                let (Some(row), Some(column)) = (at(i, u, height), at(j, v, width))
                                else {
                                    continue;
                                };
                                let from = ((b * input + c) * height + row) * width + column;
                                let by = ((o * input + c) * kernel + u) * kernel + v;
                                sum += f64::from(x[from]) * f64::from(weight[by]);
                                found.dx[from] += dy * f64::from(weight[by]);
                                found.dweight[by] += dy * f64::from(x[from]);
                            }
                        }
                    }
                    found.y[to] = sum;
                }
            }
        }
    }
    found
}

#[track_caller]
fn close<const D: usize>(what: &str, got: Tensor<D>, expected: &[f64]) {
    let got: Vec<f32> = got.into_data().try_to_vec().unwrap();
    assert_eq!(got.len(), expected.len(), "{what}");
    let square = |x: f64| x * x;
    let difference: f64 = got
        .iter()
        .zip(expected)
        .map(|(a, b)| square(f64::from(*a) - b))
        .sum();
    let size: f64 = expected.iter().map(|b| square(*b)).sum();
    // Sums of at most some thousand products in f32: about √n·2^-24, a hundredth of this bound.
    assert!(
        (difference / size.max(1e-30)).sqrt() < 1e-5,
        "{what}: {}",
        (difference / size).sqrt()
    );
}

fn check(shape: [usize; 4], [output, kernel]: [usize; 2], options: Conv2dOptions, seed: u64) {
    let [batch, input, height, width] = shape;
    let extent =
        |side: usize| (side + options.padding.0 + options.padding.1 - kernel) / options.stride + 1;
    let (oh, ow) = (extent(height), extent(width));
    let x = random(4 * seed, shape);
    let weight = random(4 * seed + 1, [output, input, kernel, kernel]);
    let bias = random(4 * seed + 2, [output]);
    let w = random(4 * seed + 3, [batch, output, oh, ow]);
    let exact = exact(
        [&x, &weight, &bias, &w],
        shape,
        [output, kernel],
        options,
        [oh, ow],
    );

    let device = Device::flex().autodiff();
    let x = Tensor::<4>::from_data(TensorData::new(x, shape), &device).require_grad();
    let weight = Tensor::<4>::from_data(
        TensorData::new(weight, [output, input, kernel, kernel]),
        &device,
    );
    let weight = weight.require_grad();
    let bias = Tensor::<1>::from_data(TensorData::new(bias, [output]), &device).require_grad();
    let w = Tensor::<4>::from_data(TensorData::new(w, [batch, output, oh, ow]), &device);
    let y = conv2d(x.clone(), weight.clone(), bias.clone(), options);
    assert_eq!(y.dims(), [batch, output, oh, ow]);
    close("y", y.clone(), &exact.y);
    let grads = (y * w).sum().backward();
    close("dx", x.grad(&grads).unwrap(), &exact.dx);
    close("dweight", weight.grad(&grads).unwrap(), &exact.dweight);
    close("dbias", bias.grad(&grads).unwrap(), &exact.dbias);
    // burn's own operation agrees, so other devices compute the same.
    close("reference", reference(x, weight, bias, options), &exact.y);
}

#[test]
fn kernel_is_the_definition_on_random_shapes() {
    for seed in 0..40 {
        let draw = |k: u64, n: u64| below(seed, Stream::Order, 7, k, n) as usize;
        let kernel = [1, 3, 3][draw(0, 3)];
        let options = Conv2dOptions {
            stride: 1 + draw(1, 2),
            padding: [(0, 0), (1, 1), (0, 1), (2, 0)][draw(2, 4)],
        };
        let shape = [
            1 + draw(3, 9),
            1 + draw(4, 12),
            3 + draw(5, 9),
            3 + draw(6, 9),
        ];
        check(shape, [1 + draw(7, 12), kernel], options, seed);
    }
    // Many channels; many small images in one group; one image.
    check(
        [2, 300, 5, 4],
        [33, 3],
        Conv2dOptions {
            stride: 1,
            padding: (1, 1),
        },
        50,
    );
    check(
        [70, 3, 2, 2],
        [5, 3],
        Conv2dOptions {
            stride: 1,
            padding: (1, 1),
        },
        51,
    );
    check(
        [1, 8, 32, 31],
        [9, 3],
        Conv2dOptions {
            stride: 2,
            padding: (0, 1),
        },
        52,
    );
}

#[test]
fn views_are_read_as_what_they_show() {
    let device = Device::flex();
    let options = Conv2dOptions {
        stride: 1,
        padding: (1, 1),
    };
    let make = |index, shape: [usize; 4]| {
        Tensor::<4>::from_data(TensorData::new(random(index, shape), shape), &device)
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
