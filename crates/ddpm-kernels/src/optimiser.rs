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
    if crate::Place::of(&grad.device()) == crate::Place::Cpu {
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

/// As [`adam_step`] for all parameters of a network, on a GPU in one kernel and in place once they lie in one
/// piece of memory, where the first call brings them: clones of the tensors see the new values.
///
/// # Shapes   as [`adam_step`], for each
pub fn adam_steps(states: Vec<AdamState>, grads: Vec<Tensor<1>>, step: AdamStep) -> Vec<AdamState> {
    #[cfg(feature = "cube")]
    if grads
        .first()
        .is_some_and(|grad| crate::Place::of(&grad.device()) == crate::Place::Gpu)
    {
        return crate::cube::adam_all(states, grads, step);
    }
    let pairs = states.into_iter().zip(grads);
    pairs
        .map(|(state, grad)| adam_step(state, grad, step))
        .collect()
}

/// Gradients of a network's parameters on their way to the optimiser: flat, in f32 and in order, on a GPU in
/// one piece of memory.
#[derive(Debug, Default)]
pub struct Flatten {
    flat: Vec<Tensor<1>>,
    #[cfg(feature = "cube")]
    parts: Vec<burn_cubecl::tensor::CubeTensor>,
}

impl Flatten {
    /// Takes the next tensor, without autodiff.
    pub fn push<const D: usize>(&mut self, tensor: Tensor<D>) {
        #[cfg(feature = "cube")]
        if crate::Place::of(&tensor.device()) == crate::Place::Gpu {
            return self.parts.push(crate::cube::primitive(tensor));
        }
        let count = tensor.shape().num_elements();
        self.flat.push(tensor.reshape([count]));
    }

    /// All of them, `[values]` each.
    pub fn finish(self) -> Vec<Tensor<1>> {
        #[cfg(feature = "cube")]
        if !self.parts.is_empty() {
            return crate::cube::flatten(self.parts);
        }
        self.flat
    }
}

/// a + b for each pair, on a GPU in one kernel.
///
/// # Shapes   each `[values]`, pairwise equal; returns the same
pub fn add_all(a: Vec<Tensor<1>>, b: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    #[cfg(feature = "cube")]
    if a.first()
        .is_some_and(|a| crate::Place::of(&a.device()) == crate::Place::Gpu)
    {
        return crate::cube::add_all(a, b);
    }
    a.into_iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Σ over all tensors of Σ x², at once; GPUs do it in [`crate::measure`].
///
/// # Shapes   each `[values]`, of any lengths, on one device
/// # Errors   what the device says if its work failed
pub(crate) fn sum_of_squares(tensors: &[Tensor<1>]) -> Result<f64, String> {
    let Some(first) = tensors.first() else {
        return Ok(0.0);
    };
    match crate::Place::of(&first.device()) {
        #[cfg(feature = "flex")]
        crate::Place::Cpu => Ok(tensors
            .iter()
            .cloned()
            .map(crate::cpu::sum_of_squares)
            .sum()),
        _ => {
            let squares: Vec<Tensor<1>> = tensors
                .iter()
                .map(|x| (x.clone() * x.clone()).sum())
                .collect();
            let sum = Tensor::cat(squares, 0).sum().try_into_data();
            let sum = sum.map_err(|error| error.to_string())?;
            Ok(sum.iter::<f64>().sum())
        }
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
