//! Adam and AdamW with clipping by the global norm, and the EMA, over a network's parameters by name.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ddpm_kernels::{
    AdamState, AdamStep, Clip, Coming, Flatten, Halt, Measured, adam_steps, adam_steps_unseen,
    add_all,
};
use ddpm_unet::params::{self, ParamPath};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::lr::Decay;
use crate::state::read;

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
    /// Adds the gradients of one backward pass, or of several that each went through a part of the network.
    pub fn add<M: Module>(&mut self, module: &M, grads: &mut [Gradients]) {
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
        let flat = collect.flatten.finish();
        if self.flat.is_empty() {
            (self.trained, self.flat) = (collect.trained, flat);
        } else {
            // The same graph again: the same parameters take part.
            debug_assert_eq!(self.trained, collect.trained, "parameters with gradients");
            self.flat = add_all(std::mem::take(&mut self.flat), flat);
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

    /// All gradients, one after the other, in one tensor; none if there is no gradient.
    pub(crate) fn flattened(&self) -> Option<Tensor<1>> {
        (!self.flat.is_empty()).then(|| Tensor::cat(self.flat.clone(), 0))
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

    /// All gradients, one after the other, in the host's memory.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back
    pub(crate) fn to_host(&self) -> Result<Vec<f32>, TrainError> {
        let mut numbers = Vec::new();
        for grad in &self.flat {
            numbers.extend(read(grad.clone())?);
        }
        Ok(numbers)
    }

    /// Replaces all gradients by the pieces of what [`ParamGrads::to_host`] made of them.
    pub(crate) fn replace_from_host(&mut self, numbers: &[f32]) {
        let mut rest = numbers;
        for grad in &mut self.flat {
            let [count] = grad.dims();
            let (piece, after) = rest.split_at(count.min(rest.len()));
            let data = TensorData::new(piece.to_vec(), [count]);
            *grad = Tensor::from_data(data, &grad.device());
            rest = after;
        }
    }

    /// Replaces the first number of the first gradient.
    #[cfg(feature = "faults")]
    pub(crate) fn spoil(&mut self, value: f32) {
        if let Some(grad) = self.flat.first_mut() {
            *grad = replace_first(grad.clone(), value);
        }
    }
}

/// A flat tensor with another first number.
#[cfg(feature = "faults")]
fn replace_first(tensor: Tensor<1>, value: f32) -> Tensor<1> {
    let first = Tensor::from_floats([value], &tensor.device());
    let rest = tensor.clone().narrow(0, 1, tensor.dims()[0] - 1);
    Tensor::cat(vec![first, rest], 0)
}

/// The network with the first number of its first parameter replaced.
#[cfg(feature = "faults")]
pub(crate) fn spoil<M: Module>(module: M, value: f32) -> M {
    struct First(Option<f32>);
    impl ModuleMapper for First {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(value) = self.0.take() else {
                return param;
            };
            let (id, tensor, mapper) = param.consume();
            let (shape, require_grad) = (tensor.shape(), tensor.is_require_grad());
            let flat = replace_first(tensor.inner().reshape([shape.num_elements()]), value);
            let value = Tensor::from_inner(flat.reshape(shape));
            Param::from_mapped_value(id, value.set_require_grad(require_grad), mapper)
        }
    }
    module.map(&mut First(Some(value)))
}

/// What the optimiser keeps of one parameter, flat.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The parameter's name in the network.
    pub name: String,
    /// The parameter's shape.
    pub shape: Vec<usize>,
    /// First moment.
    pub exp_avg: Tensor<1>,
    /// Second moment.
    pub exp_avg_sq: Tensor<1>,
    /// Moving average of the parameter.
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

/// Fresh slots for a network: zero moments, averages equal to the weights.
pub fn new_slots<M: Module>(module: &M) -> Vec<Slot> {
    struct Fresh {
        path: ParamPath,
        slots: Vec<Slot>,
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
            self.slots.push(Slot {
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
        slots: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.slots
}

/// One optimiser step: each trained parameter and its slot move once, all in one call of the kernels.
pub fn update<M: Module>(
    module: M,
    slots: Vec<Slot>,
    grads: ParamGrads,
    config: &OptimConfig,
    update: Update,
) -> (M, Vec<Slot>) {
    let scalars = adam_scalars(config, update);
    let (module, slots, ()) = moved(module, slots, grads, |states, grads| {
        (adam_steps(states, grads, scalars), ())
    });
    (module, slots)
}

/// As [`update`], judged by the device; see [`adam_steps_unseen`].
pub(crate) fn update_unseen<M: Module>(
    module: M,
    slots: Vec<Slot>,
    grads: ParamGrads,
    scalars: AdamStep,
    clip: Clip,
    measured: Measured,
    halt: &mut Halt,
) -> (M, Vec<Slot>, Coming) {
    moved(module, slots, grads, |states, grads| {
        adam_steps_unseen(states, grads, scalars, clip, measured, halt)
    })
}

/// A network and its slots after `step` has moved what is trained of them.
fn moved<M: Module, T>(
    module: M,
    slots: Vec<Slot>,
    grads: ParamGrads,
    step: impl FnOnce(Vec<AdamState>, Vec<Tensor<1>>) -> (Vec<AdamState>, T),
) -> (M, Vec<Slot>, T) {
    let Some(place) = grads.flat.first().map(|grad| grad.clone().narrow(0, 0, 1)) else {
        let (_, found) = step(Vec::new(), Vec::new());
        return (module, slots, found);
    };
    let mut take = Take {
        slots: slots.into_iter(),
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
        slots: Vec::new(),
    };
    let module = module.map(&mut put);
    (module, put.slots, found)
}

/// Takes the trained parameters out of a network and their state out of the slots.
struct Take {
    slots: std::vec::IntoIter<Slot>,
    trained: std::vec::IntoIter<bool>,
    /// One number, which stands in for the parameters meanwhile: what nobody else holds is changed where it is.
    place: Tensor<1>,
    states: Vec<AdamState>,
    taken: Vec<Taken>,
}

/// What is left of a slot.
enum Taken {
    /// It is not trained.
    Nothing(Box<Slot>),
    /// Name and shape.
    State(String, Vec<usize>),
}

impl ModuleMapper for Take {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(slot) = self.slots.next() else {
            return param;
        };
        if self.trained.next() != Some(true) {
            self.taken.push(Taken::Nothing(Box::new(slot)));
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.shape();
        let require_grad = tensor.is_require_grad();
        self.states.push(AdamState {
            weight: tensor.inner().reshape([shape.num_elements()]),
            exp_avg: slot.exp_avg,
            exp_avg_sq: slot.exp_avg_sq,
            ema: slot.ema,
        });
        self.taken.push(Taken::State(slot.name, slot.shape));
        let place = self.place.clone().reshape([1; D]).expand(shape);
        let place = Tensor::from_inner(place).set_require_grad(require_grad);
        Param::from_mapped_value(id, place, mapper)
    }
}

/// Puts them back.
struct Put {
    states: std::vec::IntoIter<AdamState>,
    taken: std::vec::IntoIter<Taken>,
    slots: Vec<Slot>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (name, shape) = match self.taken.next() {
            Some(Taken::State(name, shape)) => (name, shape),
            Some(Taken::Nothing(slot)) => {
                self.slots.push(*slot);
                return param;
            }
            None => return param,
        };
        let Some(state) = self.states.next() else {
            unreachable!("a state for each that was taken")
        };
        self.slots.push(Slot {
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

/// The network with the averaged weights, without autodiff: what samples are drawn from.
pub fn ema_network<M: Module>(module: &M, slots: &[Slot]) -> M {
    struct Replace<'a> {
        slots: std::slice::Iter<'a, Slot>,
    }
    impl ModuleMapper for Replace<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(slot) = self.slots.next() else {
                return param;
            };
            let (id, tensor, mapper) = param.consume();
            let value = slot.ema.clone().reshape(tensor.shape());
            Param::from_mapped_value(id, value, mapper)
        }
    }
    module.valid().map(&mut Replace {
        slots: slots.iter(),
    })
}

/// Slots from saved values; `values` looks a (kind, name) up, kinds being `exp_avg`, `exp_avg_sq`, `ema`.
///
/// # Errors   the first name that is missing or has another length than its parameter
pub fn restore_slots<M: Module>(
    module: &M,
    device: &Device,
    mut values: impl FnMut(&str, &str) -> Option<Vec<f32>>,
) -> Result<Vec<Slot>, String> {
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
            Ok(Slot {
                exp_avg: tensor("exp_avg")?,
                exp_avg_sq: tensor("exp_avg_sq")?,
                ema: tensor("ema")?,
                name,
                shape,
            })
        })
        .collect()
}
