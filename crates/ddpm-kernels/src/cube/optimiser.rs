//! Adam and the moving average over all parameters at once.
//!
//! Weights, moments, averages and gradients each lie in one piece of memory, a parameter after the other,
//! so that an update is one kernel for the network instead of one for each parameter.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::finite::Decision;
use super::relayout;
use super::tensor::{address, grid, slice};
use crate::optimiser::AdamStep;

/// Values that a parameter's place is rounded up to: 256 bytes, what the graphics interfaces align buffers to.
const ALIGN: usize = 64;

/// Where each of several tensors begins, in values, and how long all are together.
fn places(lengths: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    let mut end = 0;
    let starts = lengths
        .map(|length| {
            let start = end;
            end += length.next_multiple_of(ALIGN);
            start
        })
        .collect();
    (starts, end)
}

/// Parts of one piece of memory, as tensors.
fn views(buffer: &CubeTensor, lengths: &[usize]) -> Vec<CubeTensor> {
    let (starts, _) = places(lengths.iter().copied());
    let parts = starts.iter().zip(lengths);
    parts
        .map(|(&start, &length)| slice(buffer, start, length, [length]))
        .collect()
}

/// The one piece of memory that `parts` are, if they are all of one as [`flatten`] lays it out.
fn whole(parts: &[CubeTensor]) -> Option<CubeTensor> {
    let first = parts.first()?;
    let (starts, end) = places(parts.iter().map(|part| part.meta.shape().num_elements()));
    let fits = parts.iter().zip(starts).all(|(part, start)| {
        std::ptr::eq(
            part.handle.memory.descriptor(),
            first.handle.memory.descriptor(),
        ) && part.dtype == DType::F32
            && part.is_contiguous()
            && part.handle.offset_start.unwrap_or(0) == (start * 4) as u64
    });
    let mut handle = first.handle.clone();
    let spare = handle.size().checked_sub((end * 4) as u64)?;
    handle.offset_end = Some(spare);
    fits.then(|| {
        CubeTensor::new_contiguous(
            first.client.clone(),
            first.device.clone(),
            [end].into(),
            handle,
            DType::F32,
        )
    })
}

/// Copies tensors of any shapes, strides and types, in f32 and in row-major order, into one piece of memory.
///
/// # Shapes   returns `[values]` for each
pub(crate) fn flatten(parts: Vec<CubeTensor>) -> Vec<CubeTensor> {
    let Some(first) = parts.first() else {
        return parts;
    };
    let lengths: Vec<usize> = parts
        .iter()
        .map(|part| part.meta.shape().num_elements())
        .collect();
    let (starts, end) = places(lengths.iter().copied());
    // Zeros between parts, which a sum over all may then include.
    let buffer = burn_cubecl::ops::numeric::zeros_client(
        first.client.clone(),
        first.device.clone(),
        [end].into(),
        DType::F32,
    );
    relayout::gather(parts, &starts, &buffer);
    views(&buffer, &lengths)
}

/// a + b for all of them, in one kernel.
pub(crate) fn add_all(a: Vec<CubeTensor>, b: Vec<CubeTensor>) -> Vec<CubeTensor> {
    if a.is_empty() {
        return b;
    }
    let lengths: Vec<usize> = a
        .iter()
        .map(|part| part.meta.shape().num_elements())
        .collect();
    let ((_a, whole_a), (_b, whole_b)) = (flat(a), flat(b));
    views(&burn_cubecl::ops::numeric::add(whole_a, whole_b), &lengths)
}

pub(super) fn flat(parts: Vec<CubeTensor>) -> (Vec<CubeTensor>, CubeTensor) {
    if let Some(whole) = whole(&parts) {
        return (parts, whole);
    }
    let parts = flatten(parts);
    let Some(whole) = whole(&parts) else {
        unreachable!("parts of one piece of memory")
    };
    (parts, whole)
}

/// The scalars of [`AdamStep`], as a kernel takes them.
#[derive(CubeLaunch, CubeType)]
struct Scalars {
    grad_scale: f32,
    beta1: f32,
    beta2: f32,
    step_size: f32,
    root_correction2: f32,
    eps: f32,
    decay_into_gradient: f32,
    shrink: f32,
    ema_decay: f32,
}

#[cube(launch, address_type = "dynamic")]
fn adam<N: Size>(
    weight: &mut Tensor<Vector<f32, N>>,
    grad: &Tensor<Vector<f32, N>>,
    exp_avg: &mut Tensor<Vector<f32, N>>,
    exp_avg_sq: &mut Tensor<Vector<f32, N>>,
    ema: &mut Tensor<Vector<f32, N>>,
    scale: &Tensor<f32>,
    found_inf: &Tensor<f32>,
    step: Scalars,
    threads: usize,
    #[comptime] checked: bool,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let mut grad_scale = step.grad_scale;
    if checked {
        if found_inf[0] != 0.0 {
            terminate!();
        }
        grad_scale = scale[0];
    }
    let one = 1.0f32;
    let w = weight[ABSOLUTE_POS];
    let g =
        grad[ABSOLUTE_POS] * Vector::new(grad_scale) + w * Vector::new(step.decay_into_gradient);
    let m = exp_avg[ABSOLUTE_POS] * Vector::new(step.beta1) + g * Vector::new(one - step.beta1);
    let v =
        exp_avg_sq[ABSOLUTE_POS] * Vector::new(step.beta2) + g * g * Vector::new(one - step.beta2);
    let root = v.sqrt() / Vector::new(step.root_correction2) + Vector::new(step.eps);
    let w = w * Vector::new(step.shrink) - m / root * Vector::new(step.step_size);
    exp_avg[ABSOLUTE_POS] = m;
    exp_avg_sq[ABSOLUTE_POS] = v;
    weight[ABSOLUTE_POS] = w;
    ema[ABSOLUTE_POS] =
        ema[ABSOLUTE_POS] * Vector::new(step.ema_decay) + w * Vector::new(one - step.ema_decay);
}

/// Moves all parameters, in place once they lie in one piece of memory; the first call brings them there. With a
/// decision, `step.grad_scale` is not read, and a GPU that has found NaN or infinity moves nothing.
pub(crate) fn adam_all(
    [weight, exp_avg, exp_avg_sq, ema]: [Vec<CubeTensor>; 4],
    grad: Vec<CubeTensor>,
    step: AdamStep,
    decision: Option<Decision>,
) -> [Vec<CubeTensor>; 4] {
    if weight.is_empty() {
        return [weight, exp_avg, exp_avg_sq, ema];
    }
    let [(weight, w), (exp_avg, m), (exp_avg_sq, v), (ema, e)] =
        [weight, exp_avg, exp_avg_sq, ema].map(flat);
    let (_, g) = flat(grad);
    let threads = w.meta.shape().num_elements() / 4;
    let (count, dim) = grid(&w.client, threads);
    super::algorithm::updated();
    let client = w.client.clone();
    let width = address(&[&w]);
    let checked = decision.is_some();
    let Decision { scale, found_inf } = decision.unwrap_or_else(|| Decision {
        scale: g.clone(),
        found_inf: g.clone(),
    });
    adam::launch(
        &client,
        count,
        dim,
        width,
        4,
        w.into_tensor_arg(),
        g.into_tensor_arg(),
        m.into_tensor_arg(),
        v.into_tensor_arg(),
        e.into_tensor_arg(),
        scale.into_tensor_arg(),
        found_inf.into_tensor_arg(),
        ScalarsLaunch::new(
            step.grad_scale as f32,
            step.betas[0] as f32,
            step.betas[1] as f32,
            step.step_size as f32,
            step.correction2.sqrt() as f32,
            step.eps as f32,
            step.decay_into_gradient as f32,
            step.shrink as f32,
            step.ema_decay as f32,
        ),
        threads,
        checked,
    );
    [weight, exp_avg, exp_avg_sq, ema]
}
