//! One step of Adam with the moving average of the weights, and the norm of a gradient.

use burn::tensor::Tensor;

/// The scalars of one update (Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019 for AdamW).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// What the gradient is multiplied with first: accumulation and clipping.
    pub grad_scale: f64,
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// Learning rate over 1 - β₁^t.
    pub step_size: f64,
    /// 1 - β₂^t
    pub correction2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Times the weight, added to the gradient: Adam's weight decay.
    pub decay_into_gradient: f64,
    /// What the weight is multiplied with before its update: AdamW's weight decay; 1 without.
    pub shrink: f64,
    /// Decay of the moving average.
    pub ema_decay: f64,
}

/// A parameter and what the optimiser keeps of it, all flat and of one length.
#[derive(Debug, Clone)]
pub struct AdamState {
    /// The parameter.
    pub weight: Tensor<1>,
    /// First moment.
    pub exp_avg: Tensor<1>,
    /// Second moment.
    pub exp_avg_sq: Tensor<1>,
    /// Moving average of the parameter.
    pub ema: Tensor<1>,
}

/// m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², w ← w·shrink - step_size·m / (√v/√correction2 + eps),
/// ema ← decay·ema + (1-decay)·w; on the CPU in one pass and in place where the memory is not shared.
///
/// # Shapes   `state` and `grad`: `[values]`, without autodiff
pub fn adam_step(state: AdamState, grad: Tensor<1>, step: AdamStep) -> AdamState {
    #[cfg(feature = "flex")]
    if crate::is_cpu(&grad.device()) {
        return crate::cpu::adam_step(state, grad, step);
    }
    reference(state, grad, step)
}

/// burn's own operations: what other devices use, and what the kernel is tested against.
pub(crate) fn reference(state: AdamState, grad: Tensor<1>, step: AdamStep) -> AdamState {
    let [beta1, beta2] = step.betas;
    let mut grad = grad * step.grad_scale;
    if step.decay_into_gradient != 0.0 {
        grad = grad + state.weight.clone() * step.decay_into_gradient;
    }
    let exp_avg = state.exp_avg * beta1 + grad.clone() * (1.0 - beta1);
    let exp_avg_sq = state.exp_avg_sq * beta2 + grad.clone() * grad * (1.0 - beta2);
    let denominator = exp_avg_sq.clone().sqrt() / step.correction2.sqrt() + step.eps;
    let weight = state.weight * step.shrink - exp_avg.clone() / denominator * step.step_size;
    let ema = state.ema * step.ema_decay + weight.clone() * (1.0 - step.ema_decay);
    AdamState {
        weight,
        exp_avg,
        exp_avg_sq,
        ema,
    }
}

/// Σ over all tensors of Σ x², read back in one transfer.
///
/// # Shapes   each `[values]`, of any lengths, on one device
pub fn sum_of_squares(tensors: &[Tensor<1>]) -> f64 {
    let Some(first) = tensors.first() else {
        return 0.0;
    };
    #[cfg(feature = "flex")]
    if crate::is_cpu(&first.device()) {
        return tensors
            .iter()
            .cloned()
            .map(crate::cpu::sum_of_squares)
            .sum();
    }
    let _ = first;
    let squares: Vec<Tensor<1>> = tensors
        .iter()
        .map(|x| (x.clone() * x.clone()).sum())
        .collect();
    f64::from(Tensor::cat(squares, 0).sum().into_scalar::<f32>())
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
