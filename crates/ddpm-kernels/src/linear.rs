//! Fully connected layers.

use burn::tensor::Tensor;

use crate::conv2d::WeightCache;

/// y = x·Wᵀ + b. On the CPU a row has the same bits beside any other rows.
///
/// # Shapes   `x`: `[rows, in]`, `weight`: `[out, in]`, `bias`: `[out]`; returns `[rows, out]`
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    cache: Option<&WeightCache>,
) -> Tensor<2> {
    #[cfg(any(feature = "flex", feature = "cube"))]
    if crate::Place::of(&x.device()).has_kernels() {
        return as_convolution(x, weight, bias, cache);
    }
    let _ = cache;
    reference(x, weight, bias)
}

/// A 1×1 convolution of images of one pixel.
#[cfg(any(feature = "flex", feature = "cube"))]
fn as_convolution(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    cache: Option<&WeightCache>,
) -> Tensor<2> {
    use crate::conv2d::{Conv2dOptions, Convolution};
    let [rows, _] = x.dims();
    let [output, _] = weight.dims();
    let convolution = Convolution {
        norm: None,
        // [out, in] -> [out, in, 1, 1]
        weight: weight.unsqueeze_dims::<4>(&[2, 3]),
        bias: bias.unsqueeze(),
        residual: None,
        options: Conv2dOptions {
            stride: 1,
            padding: (0, 0),
            upsample_nearest_2x: false,
        },
        cache,
    };
    // [rows, in] -> [rows, in, 1, 1] -> [rows, out, 1, 1] -> [rows, out]
    let y = convolution.forward(x.unsqueeze_dims::<4>(&[2, 3]));
    y.reshape([rows, output])
}

/// burn's own operations: what other devices use, and what the kernel is tested against.
pub(crate) fn reference(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    x.matmul(weight.transpose()) + bias.unsqueeze()
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::{Device, TensorData};
    use ddpm_schedule::noise::{Stream, below, normal_fill};

    use super::*;

    fn random<const D: usize>(index: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
        let mut data = vec![0.0f32; shape.iter().product()];
        normal_fill(5, Stream::Synthetic, 0, index, &mut data);
        Tensor::from_data(TensorData::new(data, shape), device)
    }

    fn close<const D: usize>(got: Tensor<D>, expected: Tensor<D>, what: &str) {
        let difference = (got - expected.clone()).powi_scalar(2).sum();
        let relative = (difference / expected.powi_scalar(2).sum()).sqrt();
        let relative: f32 = relative.into_scalar();
        // Sums of some hundred products in f32.
        assert!(relative < 2e-6, "{what}: {relative:e}");
    }

    #[test]
    fn kernel_and_its_gradients_are_the_references() {
        let device = Device::flex().autodiff();
        for seed in 0..20 {
            let draw = |k: u64, n: u64| 1 + below(seed, Stream::Order, 10, k, n) as usize;
            let (rows, input, output) = (draw(0, 9), draw(1, 300), draw(2, 70));
            let x = random(4 * seed, [rows, input], &device).require_grad();
            let weight = random(4 * seed + 1, [output, input], &device).require_grad();
            let bias = random(4 * seed + 2, [output], &device).require_grad();
            let w = random(4 * seed + 3, [rows, output], &device);
            let run = |y: Tensor<2>| {
                let grads = (y.clone() * w.clone()).sum().backward();
                (
                    y.inner(),
                    x.grad(&grads).unwrap(),
                    weight.grad(&grads).unwrap(),
                    bias.grad(&grads).unwrap(),
                )
            };
            let fast = run(linear(x.clone(), weight.clone(), bias.clone(), None));
            let slow = run(reference(x.clone(), weight.clone(), bias.clone()));
            close(fast.0, slow.0, "y");
            close(fast.1, slow.1, "dx");
            close(fast.2, slow.2, "dweight");
            close(fast.3, slow.3, "dbias");
        }
    }

    #[test]
    fn a_row_is_the_same_beside_any_others() {
        let device = Device::flex();
        let (weight, bias) = (random(0, [33, 70], &device), random(1, [33], &device));
        let cache = WeightCache::default();
        let x = random(2, [17, 70], &device);
        let together = linear(x.clone(), weight.clone(), bias.clone(), Some(&cache));
        for i in 0..17 {
            let row = x.clone().narrow(0, i, 1);
            let alone = linear(row, weight.clone(), bias.clone(), Some(&cache));
            let expected = together.clone().narrow(0, i, 1);
            alone.into_data().assert_eq(&expected.into_data(), true);
        }
    }
}
