//! Halving and doubling by a filter (Zhang 2019; Song et al. 2021, appendix H), as NCSN++ does.
//!
//! Written as sums of shifted images: they run, and have gradients, wherever tensors do.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;
use ddpm_kernels::upsample_nearest_2x;

use crate::resample::avg_pool_2x;

/// The filter of NCSN++, and the one of diffusers' skip blocks.
pub(crate) const FIR: [f64; 4] = [1.0, 3.0, 3.0, 1.0];

/// y\[i\] = Σ f\[k\]·x\[2i + k - pad\] along rows and columns, with zeros around x and f = `taps`/Σ `taps`.
///
/// `taps` are even in number, and half as many less one is the `pad` that halves.
///
/// # Shapes   `x`: `[batch, channels, height, width]`, even; returns `[batch, channels, height', width']` with
/// height' = (height - taps)/2 + pad + 1
pub(crate) fn halve(x: Tensor<4>, taps: &[f64], pad: usize) -> Tensor<4> {
    if taps.len() == 2 && taps[0] == taps[1] && pad == 0 {
        return avg_pool_2x(x);
    }
    let sum: f64 = taps.iter().sum();
    along_both(x, |x| {
        let [lead, length, trail] = x.dims();
        let padded = length + 2 * pad;
        let half = (padded - taps.len()) / 2 + 1;
        // [lead, padded, trail] -> [lead, padded/2, 2, trail]
        let pairs = around(x, pad).reshape([lead, padded / 2, 2, trail]);
        let term = |(k, tap): (usize, &f64)| {
            let shifted = pairs.clone().narrow(1, k / 2, half).narrow(2, k % 2, 1);
            shifted.reshape([lead, half, trail]) * (tap / sum)
        };
        add(taps.iter().enumerate().map(term))
    })
}

/// The transpose of [`halve`] that doubles, times 4: y\[2j + k - pad\] += 2·f\[k\]·x\[j\] along rows and columns.
///
/// # Shapes   `x`: `[batch, channels, height, width]`; returns `[batch, channels, 2·height, 2·width]`
pub(crate) fn double(x: Tensor<4>, taps: &[f64]) -> Tensor<4> {
    if taps.len() == 2 && taps[0] == taps[1] {
        return upsample_nearest_2x(x);
    }
    let sum: f64 = taps.iter().sum();
    let margin = taps.len() / 2;
    let pad = margin - 1;
    along_both(x, |x| {
        let [lead, length, trail] = x.dims();
        let x = around(x, margin);
        // Those with k = parity + pad (mod 2) reach the results of this parity.
        let results = [0, 1].map(|parity| {
            let reach = (0..taps.len()).filter(|k| (parity + pad + k).is_multiple_of(2));
            let term = |k: usize| {
                let from = (2 * margin + parity + pad - k) / 2;
                x.clone().narrow(1, from, length) * (2.0 * taps[k] / sum)
            };
            // [lead, length, trail] -> [lead, length, 1, trail]
            add(reach.map(term)).unsqueeze_dim::<4>(2)
        });
        // [lead, length, 2, trail] -> [lead, 2·length, trail]
        Tensor::cat(results.to_vec(), 2).reshape([lead, 2 * length, trail])
    })
}

/// The operation along the second of three dimensions, done to rows and to columns.
fn along_both(x: Tensor<4>, along: impl Fn(Tensor<3>) -> Tensor<3>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    // [batch, channels, height, width] -> [batch·channels, height, width] -> [batch·channels, height', width]
    let x = along(x.reshape([batch * channels, height, width]));
    let [_, height, _] = x.dims();
    // -> [batch·channels·height', width, 1] -> [batch·channels·height', width', 1]
    let x = along(x.reshape([batch * channels * height, width, 1]));
    let [_, width, _] = x.dims();
    x.reshape([batch, channels, height, width])
}

/// Zeros before and after along the second dimension.
fn around(x: Tensor<3>, margin: usize) -> Tensor<3> {
    match margin {
        0 => x,
        _ => x.pad([(margin, margin), (0, 0)], PadMode::Constant(0.0)),
    }
}

fn add(terms: impl Iterator<Item = Tensor<3>>) -> Tensor<3> {
    terms
        .reduce(|a, b| a + b)
        .unwrap_or_else(|| unreachable!("a filter has taps"))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{largest_difference, normal_tensor, values};

    /// By the definition, in f64.
    fn by_definition(x: &[f32], height: usize, width: usize, taps: &[f64], up: bool) -> Vec<f32> {
        let sum: f64 = taps.iter().sum();
        let pad = taps.len() as isize / 2 - 1;
        let [rows, columns] = [height, width].map(|n| if up { 2 * n } else { n / 2 });
        // Σ over taps along one dimension: pairs of (place, weight).
        let reach = |i: usize, n: usize| -> Vec<(usize, f64)> {
            let place = |k: usize| match up {
                false => Some(2 * i as isize + k as isize - pad),
                true => {
                    let twice = i as isize + pad - k as isize;
                    (twice % 2 == 0).then_some(twice / 2)
                }
            };
            let gain = if up { 2.0 } else { 1.0 };
            (0..taps.len())
                .filter_map(|k| Some((place(k)?, gain * taps[k] / sum)))
                .filter(|(place, _)| (0..n as isize).contains(place))
                .map(|(place, weight)| (place as usize, weight))
                .collect()
        };
        let mut result = Vec::new();
        for plane in x.chunks(height * width) {
            for i in 0..rows {
                for j in 0..columns {
                    let mut y = 0.0;
                    for (r, a) in reach(i, height) {
                        for (c, b) in reach(j, width) {
                            y += a * b * f64::from(plane[r * width + c]);
                        }
                    }
                    result.push(y as f32);
                }
            }
        }
        result
    }

    #[test]
    fn filters_are_their_definition() {
        let device = Device::flex();
        for (i, taps) in [
            &[1.0, 1.0][..],
            &[1.0, 2.0],
            &FIR,
            &[1.0, 2.0, -0.5, 3.0, 4.0, 0.25],
        ]
        .into_iter()
        .enumerate()
        {
            let x = normal_tensor(i as u64, [2, 3, 6, 8], &device);
            let data = values(x.clone());
            let down = halve(x.clone(), taps, taps.len() / 2 - 1);
            assert_eq!(down.dims(), [2, 3, 3, 4]);
            let expected = by_definition(&data, 6, 8, taps, false);
            assert!(
                largest_difference(&values(down), &expected) < 1e-6,
                "{taps:?}"
            );
            let up = double(x, taps);
            assert_eq!(up.dims(), [2, 3, 12, 16]);
            let expected = by_definition(&data, 6, 8, taps, true);
            assert!(
                largest_difference(&values(up), &expected) < 1e-6,
                "{taps:?}"
            );
        }
    }

    #[test]
    fn doubling_is_four_times_the_gradient_of_halving() {
        let device = Device::flex().autodiff();
        let x = normal_tensor(0, [1, 2, 8, 6], &device).require_grad();
        let w = normal_tensor(1, [1, 2, 4, 3], &device);
        let grads = (halve(x.clone(), &FIR, 1) * w.clone()).sum().backward();
        let expected = values(double(w, &FIR) / 4.0);
        assert!(largest_difference(&values(x.grad(&grads).unwrap()), &expected) < 1e-6);
    }
}
