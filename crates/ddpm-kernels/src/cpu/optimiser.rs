//! Adam, the moving average and the gradient's norm, each in one pass over a parameter's memory.

#![allow(unsafe_code, reason = "vectors are loaded through pointers")]

use rayon::prelude::*;

use super::isa::{Isa, Kernel, dispatch};
use super::vector::Vector;
use crate::optimiser::AdamStep;

/// Values that one task takes: small enough to share a parameter, and the unit in which squares are
/// added up, whatever the number of threads.
const CHUNK: usize = 1 << 15;

struct SumOfSquares<'a>(&'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self) -> f64 {
        let mut total = 0.0f64;
        for part in self.0.chunks(1024) {
            let chunks = part.chunks_exact(V::LANES);
            for x in chunks.remainder() {
                total += f64::from(x * x);
            }
            let mut sum = V::splat(0.0);
            for chunk in chunks {
                // SAFETY: the chunk has a vector's length.
                let x = unsafe { V::load(chunk.as_ptr()) };
                sum = x.mul_add(x, sum);
            }
            total += sum.total();
        }
        total
    }
}

/// Σ x²
pub(super) fn sum_of_squares(isa: Isa, values: &[f32]) -> f64 {
    let parts: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|chunk| dispatch(isa, SumOfSquares(chunk)))
        .collect();
    parts.iter().sum()
}

struct Adam<'a> {
    weight: &'a mut [f32],
    grad: &'a [f32],
    exp_avg: &'a mut [f32],
    exp_avg_sq: &'a mut [f32],
    ema: &'a mut [f32],
    step: AdamStep,
}

impl Kernel for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let update = Update::<V>::new(self.step);
        let len = self.weight.len();
        let whole = len / V::LANES * V::LANES;
        let (weight, grad) = (self.weight.as_mut_ptr(), self.grad.as_ptr());
        let (m, v, ema) = (
            self.exp_avg.as_mut_ptr(),
            self.exp_avg_sq.as_mut_ptr(),
            self.ema.as_mut_ptr(),
        );
        // SAFETY: all have one length, and i + LANES, or i + the rest, is at most that.
        unsafe {
            let mut i = 0;
            while i < whole {
                let values = [
                    V::load(weight.add(i)),
                    V::load(grad.add(i)),
                    V::load(m.add(i)),
                    V::load(v.add(i)),
                    V::load(ema.add(i)),
                ];
                let moved = update.apply(values);
                moved[0].store(weight.add(i));
                moved[1].store(m.add(i));
                moved[2].store(v.add(i));
                moved[3].store(ema.add(i));
                i += V::LANES;
            }
            if i < len {
                let rest = len - i;
                let values = [
                    V::gather(weight.add(i), rest, 1),
                    V::gather(grad.add(i), rest, 1),
                    V::gather(m.add(i), rest, 1),
                    V::gather(v.add(i), rest, 1),
                    V::gather(ema.add(i), rest, 1),
                ];
                let moved = update.apply(values);
                moved[0].scatter(weight.add(i), rest, 1);
                moved[1].scatter(m.add(i), rest, 1);
                moved[2].scatter(v.add(i), rest, 1);
                moved[3].scatter(ema.add(i), rest, 1);
            }
        }
    }
}

/// The scalars of an update.
#[derive(Clone, Copy)]
struct Update<V> {
    betas: [V; 2],
    rests: [V; 2],
    grad_scale: V,
    step_size: V,
    eps: V,
    root: V,
    decay_into_gradient: V,
    shrink: V,
    keep: V,
    take: V,
}

impl<V: Vector> Update<V> {
    #[inline(always)]
    fn new(step: AdamStep) -> Self {
        let [beta1, beta2] = step.betas;
        Self {
            betas: [V::splat(beta1 as f32), V::splat(beta2 as f32)],
            rests: [
                V::splat((1.0 - beta1) as f32),
                V::splat((1.0 - beta2) as f32),
            ],
            grad_scale: V::splat(step.grad_scale as f32),
            step_size: V::splat(step.step_size as f32),
            eps: V::splat(step.eps as f32),
            root: V::splat((1.0 / step.correction2.sqrt()) as f32),
            decay_into_gradient: V::splat(step.decay_into_gradient as f32),
            shrink: V::splat(step.shrink as f32),
            keep: V::splat(step.ema_decay as f32),
            take: V::splat((1.0 - step.ema_decay) as f32),
        }
    }

    /// Weight, both moments and average from weight, gradient, both moments and average.
    #[inline(always)]
    fn apply(&self, [weight, grad, m, v, ema]: [V; 5]) -> [V; 4] {
        let grad = weight.mul_add(self.decay_into_gradient, grad.mul(self.grad_scale));
        let m = m.mul_add(self.betas[0], grad.mul(self.rests[0]));
        let v = v.mul_add(self.betas[1], grad.mul(grad).mul(self.rests[1]));
        let denominator = v.sqrt().mul_add(self.root, self.eps);
        let weight = weight
            .mul(self.shrink)
            .sub(m.div(denominator).mul(self.step_size));
        let ema = ema.mul_add(self.keep, weight.mul(self.take));
        [weight, m, v, ema]
    }
}

/// One update of a parameter, its moments and its average, in place.
pub(super) fn adam(
    isa: Isa,
    weight: &mut [f32],
    grad: &[f32],
    [exp_avg, exp_avg_sq, ema]: [&mut [f32]; 3],
    step: AdamStep,
) {
    // The pass below goes by the weight's length alone.
    for len in [grad.len(), exp_avg.len(), exp_avg_sq.len(), ema.len()] {
        assert_eq!(len, weight.len(), "one value of each for every weight");
    }
    weight
        .par_chunks_mut(CHUNK)
        .zip(grad.par_chunks(CHUNK))
        .zip(exp_avg.par_chunks_mut(CHUNK))
        .zip(exp_avg_sq.par_chunks_mut(CHUNK))
        .zip(ema.par_chunks_mut(CHUNK))
        .for_each(|((((weight, grad), exp_avg), exp_avg_sq), ema)| {
            let adam = Adam {
                weight,
                grad,
                exp_avg,
                exp_avg_sq,
                ema,
                step,
            };
            dispatch(isa, adam);
        });
}
