//! Group normalisation with SiLU, forward and backward in a few passes over each group.

#![allow(unsafe_code, reason = "vectors are loaded through pointers")]

use rayon::prelude::*;

use super::element::Element;
use super::isa::{Isa, Kernel, dispatch};
use super::vector::{Vector, sigmoid, silu};
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

    /// Where the weights of channel `at`, counted over all images, lie: among those of its image if each
    /// image has its own.
    fn weight_at(&self, at: usize, weights: usize) -> usize {
        if weights > self.channels {
            at
        } else {
            at % self.channels
        }
    }
}

/// Mean and 1/√(variance + eps) of each group, `[batch, groups]`.
#[derive(Debug, Clone)]
pub(super) struct Moments(Vec<(f32, f32)>);

struct GroupMoments<'a, E> {
    group: &'a [E],
    eps: f64,
}

impl<E: Element> Kernel for GroupMoments<'_, E> {
    type Output = (f32, f32);

    /// Two passes: the variance of the centred values does not cancel.
    #[inline(always)]
    fn run<V: Vector>(self) -> (f32, f32) {
        let count = self.group.len() as f64;
        let mut mean = 0.0f64;
        for chunk in self.group.chunks(CHUNK) {
            mean += sum::<V, E>(chunk);
        }
        let centre = (mean / count) as f32;
        let mut variance = 0.0f64;
        for chunk in self.group.chunks(CHUNK) {
            variance += squares::<V, E>(chunk, centre);
        }
        let rstd = 1.0 / (variance / count + self.eps).sqrt();
        (centre, rstd as f32)
    }
}

/// Values that are added up in f32 before f64 takes over.
const CHUNK: usize = 1024;

/// Σ x
#[inline(always)]
fn sum<V: Vector, E: Element>(values: &[E]) -> f64 {
    let mut sums = [V::splat(0.0); 2];
    let chunks = values.chunks_exact(2 * V::LANES);
    let mut rest = 0.0f64;
    for x in chunks.remainder() {
        rest += f64::from(x.to_f32());
    }
    for chunk in chunks {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = sum.add(at::<V, E>(chunk, i));
        }
    }
    sums[0].add(sums[1]).total() + rest
}

/// Σ (x - centre)²
#[inline(always)]
fn squares<V: Vector, E: Element>(values: &[E], centre: f32) -> f64 {
    let mut sums = [V::splat(0.0); 2];
    let chunks = values.chunks_exact(2 * V::LANES);
    let mut rest = 0.0f64;
    for x in chunks.remainder() {
        let x = x.to_f32() - centre;
        rest += f64::from(x * x);
    }
    let centre = V::splat(centre);
    for chunk in chunks {
        for (i, sum) in sums.iter_mut().enumerate() {
            let x = at::<V, E>(chunk, i).sub(centre);
            *sum = x.mul_add(x, *sum);
        }
    }
    sums[0].add(sums[1]).total() + rest
}

/// Vector `i` of a slice.
#[inline(always)]
fn at<V: Vector, E: Element>(values: &[E], i: usize) -> V {
    let values = &values[i * V::LANES..][..V::LANES];
    // SAFETY: the slice has a vector's length.
    unsafe { E::load(values.as_ptr()) }
}

/// Writes vector `i` of a slice.
#[inline(always)]
fn put<V: Vector, E: Element>(values: &mut [E], i: usize, x: V) {
    let values = &mut values[i * V::LANES..][..V::LANES];
    // SAFETY: the slice has a vector's length.
    unsafe { E::store(x, values.as_mut_ptr()) };
}

/// The vector of the last values of a slice, from `i` vectors on, with zeros after them.
#[inline(always)]
fn last<V: Vector, E: Element>(values: &[E], i: usize) -> V {
    let values = &values[i * V::LANES..];
    // SAFETY: as many values as the slice has.
    unsafe { E::gather(values.as_ptr(), values.len().min(V::LANES), 1) }
}

/// Writes as much of a vector as the slice has room for from `i` vectors on.
#[inline(always)]
fn put_last<V: Vector, E: Element>(values: &mut [E], i: usize, x: V) {
    let values = &mut values[i * V::LANES..];
    // SAFETY: as many values as the slice has.
    unsafe { E::scatter(x, values.as_mut_ptr(), values.len().min(V::LANES), 1) };
}

/// The moments of every group.
pub(super) fn moments<E: Element>(isa: Isa, shape: Shape, x: &[E]) -> Moments {
    let eps = shape.options.eps;
    let groups = x.par_chunks_exact(shape.group_len().max(1));
    Moments(
        groups
            .map(|group| dispatch(isa, GroupMoments { group, eps }))
            .collect(),
    )
}

/// Scale and shift of every channel, `[batch, channels]`: x̂·weight + bias = x·scale + shift.
pub(super) fn affine(
    shape: Shape,
    moments: &Moments,
    weight: &[f32],
    bias: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let per_group = shape.group_channels();
    (0..shape.batch * shape.channels)
        .map(|at| {
            let (mean, rstd) = moments.0[at / per_group];
            let channel = shape.weight_at(at, weight.len());
            let scale = weight[channel] * rstd;
            (scale, bias[channel] - mean * scale)
        })
        .unzip()
}

struct Apply<'a, E> {
    x: &'a [E],
    scale: f32,
    shift: f32,
    silu: bool,
    y: &'a mut [E],
}

impl<E: Element> Kernel for Apply<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (scale, shift) = (V::splat(self.scale), V::splat(self.shift));
        let whole = self.x.len() / V::LANES;
        for i in 0..whole {
            let a = at::<V, E>(self.x, i).mul_add(scale, shift);
            put(self.y, i, if self.silu { silu(a) } else { a });
        }
        if whole * V::LANES < self.x.len() {
            let a = last::<V, E>(self.x, whole).mul_add(scale, shift);
            put_last(self.y, whole, if self.silu { silu(a) } else { a });
        }
    }
}

/// y = act(x̂·weight + bias), and the moments.
pub(super) fn forward<E: Element>(
    isa: Isa,
    shape: Shape,
    x: &[E],
    weight: &[f32],
    bias: &[f32],
) -> (Vec<E>, Moments) {
    let moments = moments(isa, shape, x);
    let (scale, shift) = affine(shape, &moments, weight, bias);
    let plane = shape.plane.max(1);
    let mut y = vec![E::ZERO; x.len()];
    let planes = y.par_chunks_exact_mut(plane).zip(x.par_chunks_exact(plane));
    planes.enumerate().for_each(|(at, (y, x))| {
        let apply = Apply {
            x,
            scale: scale[at],
            shift: shift[at],
            silu: shape.options.silu,
            y,
        };
        dispatch(isa, apply);
    });
    (y, moments)
}

/// dL/dx in the place of dL/dy, and dL/dweight and dL/dbias.
pub(super) fn backward<E: Element>(
    isa: Isa,
    shape: Shape,
    x: &[E],
    [weight, bias]: [&[f32]; 2],
    moments: &Moments,
    dy: &mut [E],
) -> [Vec<f32>; 2] {
    // Each image's own share of the channel gradients, `[batch, channels]`, added up in order below unless each
    // image has its own weights.
    let mut shares = vec![[0.0f64; 2]; shape.batch * shape.channels];
    dy.par_chunks_exact_mut(shape.group_len().max(1))
        .zip(x.par_chunks_exact(shape.group_len().max(1)))
        .zip(shares.par_chunks_exact_mut(shape.group_channels().max(1)))
        .enumerate()
        .for_each(|(index, ((dy, x), shares))| {
            let first = shape.weight_at(index * shape.group_channels(), weight.len());
            let channels = first..first + shape.group_channels();
            let group = GroupBackward {
                x,
                dy,
                weight: &weight[channels.clone()],
                bias: &bias[channels],
                moments: moments.0[index],
                silu: shape.options.silu,
                plane: shape.plane,
                shares,
            };
            dispatch(isa, group);
        });
    let mut sums = vec![[0.0f64; 2]; weight.len()];
    for image in shares.chunks_exact(weight.len().max(1)) {
        for (sum, share) in sums.iter_mut().zip(image) {
            sum[0] += share[0];
            sum[1] += share[1];
        }
    }
    let column = |i: usize| sums.iter().map(|sum| sum[i] as f32).collect();
    [column(1), column(0)]
}

struct GroupBackward<'a, E> {
    x: &'a [E],
    dy: &'a mut [E],
    weight: &'a [f32],
    bias: &'a [f32],
    moments: (f32, f32),
    silu: bool,
    plane: usize,
    /// (Σ da, Σ da·x̂) of each channel.
    shares: &'a mut [[f64; 2]],
}

impl<E: Element> Kernel for GroupBackward<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (mean, rstd) = self.moments;
        let plane = self.plane;
        let whole = plane / V::LANES;
        let rest = whole * V::LANES < plane;
        // Σ dL/dx̂ and Σ dL/dx̂ · x̂ over the group.
        let (mut sum, mut product) = (0.0f64, 0.0f64);
        for (channel, share) in self.shares.iter_mut().enumerate() {
            let (weight, bias) = (self.weight[channel], self.bias[channel]);
            let range = channel * plane..(channel + 1) * plane;
            let (x, da) = (&self.x[range.clone()], &mut self.dy[range]);
            let line = Line {
                scale: V::splat(weight * rstd),
                shift: V::splat(bias - mean * rstd * weight),
                mean: V::splat(mean),
                rstd: V::splat(rstd),
                silu: self.silu,
            };
            let mut sums = [V::splat(0.0); 2];
            for i in 0..whole {
                let d = line.activation_gradient(at(da, i), at(x, i));
                put(da, i, d);
                sums[0] = sums[0].add(d);
                sums[1] = d.mul_add(line.normal(at(x, i)), sums[1]);
                // In f32 for as long as it takes to add up some ten thousand values.
                if i % CHUNK == CHUNK - 1 {
                    share[0] += sums[0].total();
                    share[1] += sums[1].total();
                    sums = [V::splat(0.0); 2];
                }
            }
            if rest {
                // The lanes after the last value are zeros in da, and so in both sums.
                let d = line.activation_gradient(last(da, whole), last(x, whole));
                put_last(da, whole, d);
                sums[0] = sums[0].add(d);
                sums[1] = d.mul_add(line.normal(last(x, whole)), sums[1]);
            }
            share[0] += sums[0].total();
            share[1] += sums[1].total();
            sum += share[0] * f64::from(weight);
            product += share[1] * f64::from(weight);
        }
        let count = self.x.len() as f64;
        let (sum, product) = ((sum / count) as f32, (product / count) as f32);
        // rstd·(da·weight - sum - x̂·product), in powers of da and x
        let by_x = V::splat(-rstd * rstd * product);
        let constant = V::splat(rstd * (mean * rstd * product - sum));
        for (channel, weight) in self.weight.iter().enumerate() {
            let range = channel * plane..(channel + 1) * plane;
            let (x, dx) = (&self.x[range.clone()], &mut self.dy[range]);
            let by_da = V::splat(rstd * weight);
            for i in 0..whole {
                let d = at::<V, E>(dx, i).mul_add(by_da, at::<V, E>(x, i).mul_add(by_x, constant));
                put(dx, i, d);
            }
            if rest {
                let x = last::<V, E>(x, whole).mul_add(by_x, constant);
                put_last(dx, whole, last::<V, E>(dx, whole).mul_add(by_da, x));
            }
        }
    }
}

/// What is the same for all values of a channel.
#[derive(Clone, Copy)]
struct Line<V> {
    scale: V,
    shift: V,
    mean: V,
    rstd: V,
    silu: bool,
}

impl<V: Vector> Line<V> {
    /// dL/da from dL/dy, a = x·scale + shift being what the activation reads.
    #[inline(always)]
    fn activation_gradient(self, dy: V, x: V) -> V {
        if !self.silu {
            return dy;
        }
        let a = x.mul_add(self.scale, self.shift);
        let s = sigmoid(a);
        dy.mul(a.mul(s).mul_add(V::splat(1.0).sub(s), s))
    }

    /// x̂
    #[inline(always)]
    fn normal(self, x: V) -> V {
        x.sub(self.mean).mul(self.rstd)
    }
}
