//! Group normalisation with SiLU, forward and backward in a few passes over each group.

use rayon::prelude::*;

use crate::group_norm::GroupNormOptions;

/// The extents of one normalisation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) channels: usize,
    /// Height times width.
    pub(super) plane: usize,
    pub(super) options: GroupNormOptions,
}

impl Shape {
    fn group_channels(&self) -> usize {
        self.channels / self.options.groups
    }

    fn group_len(&self) -> usize {
        self.group_channels() * self.plane
    }

    /// The channels of group `index`, counted over all images.
    fn first_channel(&self, index: usize) -> usize {
        index % self.options.groups * self.group_channels()
    }
}

/// Mean and 1/√(variance + eps) of a group. Two passes: the variance of the centred values does not cancel.
fn moments(group: &[f32], eps: f64) -> (f32, f32) {
    let count = group.len() as f64;
    let mean = sum(group, |x| x) / count;
    let centre = mean as f32;
    let variance = sum(group, |x| (x - centre) * (x - centre)) / count;
    (centre, (1.0 / (variance + eps).sqrt()) as f32)
}

/// Σ f(x) in eight lanes of f32 per 1024 values and f64 above that.
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    sum2(values, values, |x, _| f(x))
}

fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.0f64;
    for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
        let mut lanes = [0.0f32; 8];
        let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
        for (x, y) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
            lanes[0] += f(*x, *y);
        }
        for (a, b) in a_chunks.zip(b_chunks) {
            for i in 0..8 {
                lanes[i] += f(a[i], b[i]);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// e^x within 2 ulp for |x| < 87, without branches so that the compiler can vectorise it (Cephes' expf:
/// 2^n · e^r with a polynomial over |r| ≤ ln(2)/2).
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_6e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    f32::from_bits(((n as i32 + 127) as u32) << 23) * value
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// y = act(x̂·weight + bias).
pub(super) fn forward(shape: Shape, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0f32; x.len()];
    let groups = y
        .par_chunks_exact_mut(shape.group_len())
        .zip(x.par_chunks_exact(shape.group_len()));
    groups.enumerate().for_each(|(index, (y, x))| {
        let (mean, rstd) = moments(x, shape.options.eps);
        let first = shape.first_channel(index);
        let planes = y
            .chunks_exact_mut(shape.plane)
            .zip(x.chunks_exact(shape.plane));
        for (channel, (y, x)) in planes.enumerate() {
            let scale = weight[first + channel] * rstd;
            let shift = bias[first + channel] - mean * scale;
            if shape.options.silu {
                y.iter_mut().zip(x).for_each(|(y, x)| {
                    let a = x * scale + shift;
                    *y = a * sigmoid(a);
                });
            } else {
                y.iter_mut()
                    .zip(x)
                    .for_each(|(y, x)| *y = x * scale + shift);
            }
        }
    });
    y
}

/// dL/dx, dL/dweight and dL/dbias from dL/dy.
pub(super) fn backward(
    shape: Shape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    dy: &[f32],
) -> [Vec<f32>; 3] {
    let mut dx = vec![0.0f32; x.len()];
    // Each image's own share of the channel gradients, `[batch, channels]`, added up in order below.
    let mut shares = vec![[0.0f64; 2]; shape.batch * shape.channels];
    dx.par_chunks_exact_mut(shape.group_len())
        .zip(shares.par_chunks_exact_mut(shape.group_channels()))
        .enumerate()
        .for_each(|(index, (dx, shares))| {
            let at = index * shape.group_len();
            let (x, dy) = (
                &x[at..][..shape.group_len()],
                &dy[at..][..shape.group_len()],
            );
            let first = shape.first_channel(index);
            let channels = first..first + shape.group_channels();
            group_backward(
                shape,
                [x, dy],
                [&weight[channels.clone()], &bias[channels]],
                dx,
                shares,
            );
        });
    let mut sums = vec![[0.0f64; 2]; shape.channels];
    for image in shares.chunks_exact(shape.channels) {
        for (sum, share) in sums.iter_mut().zip(image) {
            sum[0] += share[0];
            sum[1] += share[1];
        }
    }
    let column = |i: usize| sums.iter().map(|sum| sum[i] as f32).collect();
    [dx, column(0), column(1)]
}

fn group_backward(
    shape: Shape,
    [x, dy]: [&[f32]; 2],
    [weight, bias]: [&[f32]; 2],
    dx: &mut [f32],
    shares: &mut [[f64; 2]],
) {
    let (mean, rstd) = moments(x, shape.options.eps);
    let plane = shape.plane;
    // Σ dL/dx̂ and Σ dL/dx̂ · x̂ over the group.
    let (mut sum, mut product) = (0.0f64, 0.0f64);
    for (channel, share) in shares.iter_mut().enumerate() {
        let (scale, shift) = (weight[channel], bias[channel]);
        let range = channel * plane..(channel + 1) * plane;
        let (x, dy, da) = (&x[range.clone()], &dy[range.clone()], &mut dx[range]);
        // dx holds dL/da first, a being what the activation reads.
        for (da, (x, dy)) in da.iter_mut().zip(x.iter().zip(dy)) {
            *da = if shape.options.silu {
                let a = (x - mean) * rstd * scale + shift;
                let s = sigmoid(a);
                dy * (s + a * s * (1.0 - s))
            } else {
                *dy
            };
        }
        let over_bias = self::sum(da, |da| da);
        let over_weight = sum2(da, x, |da, x| da * ((x - mean) * rstd));
        *share = [over_weight, over_bias];
        sum += over_bias * f64::from(scale);
        product += over_weight * f64::from(scale);
    }
    let count = x.len() as f64;
    let (sum, product) = ((sum / count) as f32, (product / count) as f32);
    for (channel, scale) in weight.iter().enumerate() {
        let range = channel * plane..(channel + 1) * plane;
        let (x, dx) = (&x[range.clone()], &mut dx[range]);
        dx.iter_mut().zip(x).for_each(|(dx, x)| {
            *dx = rstd * (*dx * scale - sum - (x - mean) * rstd * product);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_accurate() {
        let mut worst = 0.0f64;
        for i in -870_000..870_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        // Two units in the last place of an f32.
        assert!(worst < 2.4e-7, "{worst:e}");
        assert!(exp(1000.0).is_finite() && exp(-1000.0) < 1e-37);
    }
}
