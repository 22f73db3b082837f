//! Adam and AdamW with clipping by the global norm, and the EMA, over a network's parameters by name.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ddpm_kernels::{
    AdamState, AdamStep, Clip, DeviceStats, Flatten, FoundInf, PendingStats, adam_steps,
    adam_steps_if_finite, add_all,
};
use ddpm_unet::params::{self, ParamPath};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::lr::Decay;
use crate::step::read;

/// The optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimKind {
    /// Kingma & Ba 2015; weight decay is added to the gradient.
    #[default]
    Adam,
    /// Loshchilov & Hutter 2019; weight decay shrinks the weights directly.
    Adamw,
}

/// The `[optim]` section of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// Which optimiser.
    pub kind: OptimKind,
    /// Learning rate after the warm-up.
    pub lr: f64,
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// What the learning rate does after the warm-up.
    pub decay: Decay,
    /// Gradients are scaled down to this global norm; 0 switches clipping off.
    pub clip_norm: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            kind: OptimKind::Adam,
            lr: 2e-4,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            warmup_steps: 0,
            decay: Decay::Constant,
            clip_norm: 1.0,
        }
    }
}

/// The gradients of the trained parameters, flat, in the network's order.
#[derive(Debug, Default)]
pub struct ParamGrads {
    /// Which parameters have one, by the network's order.
    trained: Vec<bool>,
    flat: Vec<Tensor<1>>,
}

impl ParamGrads {
    /// The gradients of one backward pass, or of several that each went through a part of the network.
    pub(crate) fn of_backward<M: Module>(module: &M, grads: &mut [Gradients]) -> Self {
        struct Collect<'a> {
            grads: &'a mut [Gradients],
            trained: Vec<bool>,
            flatten: Flatten,
        }
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let value = param.val();
                let grad = self.grads.iter_mut().find_map(|g| value.grad_remove(g));
                self.trained.push(grad.is_some());
                if let Some(grad) = grad {
                    self.flatten.push(grad);
                }
            }
        }
        let mut collect = Collect {
            grads,
            trained: Vec::new(),
            flatten: Flatten::default(),
        };
        module.visit(&mut collect);
        Self {
            trained: collect.trained,
            flat: collect.flatten.finish(),
        }
    }

    /// The sum of two; of the same parameters, since they are of the same graph.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        debug_assert_eq!(self.trained, other.trained, "parameters with gradients");
        Self {
            flat: add_all(self.flat, other.flat),
            ..self
        }
    }

    /// Gradients that were computed before, of the parameters of which `trained` says so.
    pub(crate) fn of(trained: Vec<bool>, flat: Vec<Tensor<1>>) -> Self {
        Self { trained, flat }
    }

    /// Which parameters have one, by the network's order.
    pub(crate) fn trained(&self) -> &[bool] {
        &self.trained
    }

    /// All gradients, `[values]` each.
    pub(crate) fn flat(&self) -> &[Tensor<1>] {
        &self.flat
    }

    /// All gradients, one after the other, in one tensor.
    pub(crate) fn flattened(&self) -> Tensor<1> {
        Tensor::cat(self.flat.clone(), 0)
    }

    /// Replaces all gradients by the pieces of what [`ParamGrads::flattened`] made of them.
    pub(crate) fn replace(&mut self, flattened: &Tensor<1>) {
        let mut start = 0;
        for grad in &mut self.flat {
            let [count] = grad.dims();
            *grad = flattened.clone().narrow(0, start, count);
            start += count;
        }
    }

    /// The gradients of parameters of `counts` numbers each, one after the other, in the host's memory; 0 for those
    /// that are not trained.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back
    pub(crate) fn to_host(&self, counts: &[usize]) -> Result<Vec<f32>, TrainError> {
        let mut numbers = Vec::with_capacity(counts.iter().sum());
        let mut flat = self.flat.iter();
        for (&count, &trained) in counts.iter().zip(&self.trained) {
            match trained.then(|| flat.next()).flatten() {
                Some(grad) => numbers.extend(read(grad.clone())?),
                None => numbers.resize(numbers.len() + count, 0.0),
            }
        }
        Ok(numbers)
    }

    /// Replaces all gradients by the pieces of a vector as [`ParamGrads::to_host`] makes it.
    pub(crate) fn replace_from_host(&mut self, numbers: &[f32], counts: &[usize]) {
        let mut rest = numbers;
        let mut flat = self.flat.iter_mut();
        for (&count, &trained) in counts.iter().zip(&self.trained) {
            let (piece, after) = rest.split_at(count.min(rest.len()));
            rest = after;
            if trained && let Some(grad) = flat.next() {
                let data = TensorData::new(piece.to_vec(), [count]);
                *grad = Tensor::from_data(data, &grad.device());
            }
        }
    }
}

/// What the optimiser keeps of one parameter, flat.
#[derive(Debug, Clone)]
pub struct ParamState {
    /// The parameter's name in the network.
    pub name: String,
    /// The parameter's shape.
    pub shape: Vec<usize>,
    /// First moment.
    pub exp_avg: Tensor<1>,
    /// Second moment.
    pub exp_avg_sq: Tensor<1>,
    /// EMA weights of the parameter.
    pub ema: Tensor<1>,
}

/// One update's scalars.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// Learning rate.
    pub lr: f64,
    /// Optimiser steps done before this one.
    pub step: u64,
    /// What the gradients are multiplied with: accumulation and clipping.
    pub grad_scale: f64,
    /// The EMA's decay after this update.
    pub ema_decay: f64,
}

/// The state of fresh parameters: zero moments, EMA weights equal to the weights.
pub fn new_params<M: Module>(module: &M) -> Vec<ParamState> {
    struct Fresh {
        path: ParamPath,
        params: Vec<ParamState>,
    }
    impl ModuleVisitor for Fresh {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, container_type: &str) {
            self.path.exit(container_type);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val().without_autodiff();
            let shape = value.dims().to_vec();
            let ema = value.reshape([shape.iter().product::<usize>()]);
            self.params.push(ParamState {
                name: self.path.name(),
                shape,
                exp_avg: ema.zeros_like(),
                exp_avg_sq: ema.zeros_like(),
                ema,
            });
        }
    }
    let mut visitor = Fresh {
        path: ParamPath::default(),
        params: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.params
}

/// One optimiser step: each trained parameter and its state move once, all in one call of the kernels.
pub fn update<M: Module>(
    module: M,
    params: Vec<ParamState>,
    grads: ParamGrads,
    config: &OptimConfig,
    update: Update,
) -> (M, Vec<ParamState>) {
    let scalars = adam_scalars(config, update);
    let (module, params, ()) = moved(module, params, grads, |states, grads| {
        (adam_steps(states, grads, scalars), ())
    });
    (module, params)
}

/// As [`update`], if the device finds all numbers finite; see [`adam_steps_if_finite`].
pub(crate) fn update_if_finite<M: Module>(
    module: M,
    params: Vec<ParamState>,
    grads: ParamGrads,
    scalars: AdamStep,
    clip: Clip,
    stats: DeviceStats,
    found_inf: &mut FoundInf,
) -> (M, Vec<ParamState>, PendingStats) {
    moved(module, params, grads, |states, grads| {
        adam_steps_if_finite(states, grads, scalars, clip, stats, found_inf)
    })
}

/// A network and the state of its parameters after `step` has moved what is trained of them.
fn moved<M: Module, T>(
    module: M,
    params: Vec<ParamState>,
    grads: ParamGrads,
    step: impl FnOnce(Vec<AdamState>, Vec<Tensor<1>>) -> (Vec<AdamState>, T),
) -> (M, Vec<ParamState>, T) {
    let Some(place) = grads.flat.first().map(|grad| grad.clone().narrow(0, 0, 1)) else {
        let (_, found) = step(Vec::new(), Vec::new());
        return (module, params, found);
    };
    let mut take = Take {
        params: params.into_iter(),
        trained: grads.trained.into_iter(),
        place,
        states: Vec::new(),
        taken: Vec::new(),
    };
    let module = module.map(&mut take);
    let (states, found) = step(take.states, grads.flat);
    let mut put = Put {
        states: states.into_iter(),
        taken: take.taken.into_iter(),
        params: Vec::new(),
    };
    let module = module.map(&mut put);
    (module, put.params, found)
}

/// Takes the trained parameters out of a network, and their state.
struct Take {
    params: std::vec::IntoIter<ParamState>,
    trained: std::vec::IntoIter<bool>,
    /// One number, which stands in for the parameters meanwhile: what nobody else holds is changed where it is.
    place: Tensor<1>,
    states: Vec<AdamState>,
    taken: Vec<Taken>,
}

/// What is left of a parameter's state.
enum Taken {
    /// It is not trained.
    Nothing(Box<ParamState>),
    /// Name and shape.
    State(String, Vec<usize>),
}

impl ModuleMapper for Take {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(param_state) = self.params.next() else {
            return param;
        };
        if self.trained.next() != Some(true) {
            self.taken.push(Taken::Nothing(Box::new(param_state)));
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let require_grad = tensor.is_require_grad();
        self.states.push(AdamState {
            weight: tensor.inner().reshape([shape.num_elements()]),
            exp_avg: param_state.exp_avg,
            exp_avg_sq: param_state.exp_avg_sq,
            ema: param_state.ema,
        });
        self.taken
            .push(Taken::State(param_state.name, param_state.shape));
        let place = self.place.clone().reshape([1; D]).expand(shape);
        let place = Tensor::from_inner(place).set_require_grad(require_grad);
        Param::from_mapped_value(id, place, mapper)
    }
}

/// Puts them back.
struct Put {
    states: std::vec::IntoIter<AdamState>,
    taken: std::vec::IntoIter<Taken>,
    params: Vec<ParamState>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (name, shape) = match self.taken.next() {
            Some(Taken::State(name, shape)) => (name, shape),
            Some(Taken::Nothing(param_state)) => {
                self.params.push(*param_state);
                return param;
            }
            None => return param,
        };
        let Some(state) = self.states.next() else {
            unreachable!("a state for each that was taken")
        };
        self.params.push(ParamState {
            name,
            shape,
            exp_avg: state.exp_avg,
            exp_avg_sq: state.exp_avg_sq,
            ema: state.ema,
        });
        let (id, place, mapper) = param.consume();
        let require_grad = place.is_require_grad();
        let value = Tensor::from_inner(state.weight.reshape(place.shape()));
        Param::from_mapped_value(id, value.set_require_grad(require_grad), mapper)
    }
}

/// What the kernels need to know of an update.
pub(crate) fn adam_scalars(config: &OptimConfig, update: Update) -> AdamStep {
    let [beta1, beta2] = config.betas;
    let updates = (update.step + 1) as i32;
    let (decay_into_gradient, shrink) = match config.kind {
        OptimKind::Adam => (config.weight_decay, 1.0),
        OptimKind::Adamw => (0.0, 1.0 - update.lr * config.weight_decay),
    };
    AdamStep {
        grad_scale: update.grad_scale,
        betas: config.betas,
        step_size: update.lr / (1.0 - beta1.powi(updates)),
        correction2: 1.0 - beta2.powi(updates),
        eps: config.eps,
        decay_into_gradient,
        shrink,
        ema_decay: update.ema_decay,
    }
}

/// The network with the EMA weights, without autodiff: what samples are drawn from.
pub fn ema_network<M: Module>(module: &M, params: &[ParamState]) -> M {
    struct Replace<'a> {
        params: std::slice::Iter<'a, ParamState>,
    }
    impl ModuleMapper for Replace<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(param_state) = self.params.next() else {
                return param;
            };
            let (id, tensor, mapper) = param.consume();
            let value = param_state.ema.clone().reshape(tensor.shape());
            Param::from_mapped_value(id, value, mapper)
        }
    }
    module.valid().map(&mut Replace {
        params: params.iter(),
    })
}

/// The state of parameters from saved values; `values` looks a (kind, name) up, kinds being `exp_avg`, `exp_avg_sq`, `ema`.
///
/// # Errors   the first name that is missing or has another length than its parameter
pub fn restore_params<M: Module>(
    module: &M,
    device: &Device,
    mut values: impl FnMut(&str, &str) -> Option<Vec<f32>>,
) -> Result<Vec<ParamState>, String> {
    let device = device.clone().inner();
    params::shapes(module)
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let mut tensor = |kind: &str| match values(kind, &name) {
                Some(data) if data.len() == count => {
                    Ok(Tensor::from_data(TensorData::new(data, [count]), &device))
                }
                _ => Err(format!("{kind}/{name}")),
            };
            Ok(ParamState {
                exp_avg: tensor("exp_avg")?,
                exp_avg_sq: tensor("exp_avg_sq")?,
                ema: tensor("ema")?,
                name,
                shape,
            })
        })
        .collect()
}
