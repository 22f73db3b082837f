//! Power-function averages that are tracked besides the main one.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use ddpm_kernels::FoundInf;

use super::power;
use crate::position::Position;

/// A power-function average of a network's weights.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    pub(crate) sigma_rel: f64,
    /// One tensor a parameter, flat, in the network's order.
    pub(crate) values: Vec<Tensor<1>>,
}

/// One update, as averages see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Images of the update.
    pub(crate) batch: u64,
    /// Images seen after it.
    pub(crate) images: u64,
    /// Whether no update was before it.
    pub(crate) first: bool,
}

impl Moment {
    /// An update of so many images, by the position after it.
    pub(crate) fn of(after: Position, batch: u64) -> Self {
        Self {
            batch,
            images: after.images_seen,
            first: after.updates == 1,
        }
    }
}

/// Averages of these σ_rel that begin with the network as it is.
pub(crate) fn track<M: Module>(module: &M, sigma_rels: &[f64]) -> Vec<Tracked> {
    let begun = |&sigma_rel: &f64| Tracked {
        sigma_rel,
        values: weights(module),
    };
    sigma_rels.iter().map(begun).collect()
}

/// Moves the averages to where they are after an update of the network: avg ← β·avg + (1-β)·w.
///
/// A device that checks its steps itself may not have made the update. It leaves the averages as they are then, by the
/// same `found_inf` that the update heeded.
pub(crate) fn keep_all<M: Module>(
    averages: Vec<Tracked>,
    module: &M,
    moment: Moment,
    found_inf: Option<&FoundInf>,
) -> Vec<Tracked> {
    if averages.is_empty() {
        return averages;
    }
    let weights = weights(module);
    let moved = |average: Tracked| {
        let beta = match moment.first {
            true => 0.0,
            false => power::beta(
                power::gamma_of(average.sigma_rel),
                moment.batch as f64,
                moment.images as f64,
            ),
        };
        let pairs = average.values.into_iter().zip(&weights);
        let values = pairs.map(|(value, weight)| {
            let share = weight.clone() * (1.0 - beta);
            match found_inf {
                None => value * beta + share,
                Some(found_inf) => found_inf.unless(value.clone() * beta + share, value),
            }
        });
        Tracked {
            values: values.collect(),
            ..average
        }
    };
    averages.into_iter().map(moved).collect()
}

/// The parameters, flat, without autodiff.
fn weights<M: Module>(module: &M) -> Vec<Tensor<1>> {
    struct Flat(Vec<Tensor<1>>);
    impl ModuleVisitor for Flat {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val().without_autodiff();
            let count = value.shape().num_elements();
            self.0.push(value.reshape([count]));
        }
    }
    let mut flat = Flat(Vec::new());
    module.visit(&mut flat);
    flat.0
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use ddpm_kernels::{Clip, adam_steps_if_finite, measure};

    use super::*;
    use crate::optim::{OptimConfig, Update, adam_scalars};

    #[derive(Module, Debug)]
    struct One {
        weight: Param<Tensor<1>>,
    }

    fn one(value: f32) -> One {
        let data = TensorData::from([value, -value]);
        let tensor = Tensor::from_data(data, &Device::flex());
        One {
            weight: Param::from_tensor(tensor),
        }
    }

    fn bits(average: &Tracked) -> Vec<u32> {
        let data = average.values[0].to_data();
        data.iter::<f32>().map(f32::to_bits).collect()
    }

    /// Lets a step with a bad loss come by.
    fn meets_nan(found_inf: &mut FoundInf) {
        let losses = Tensor::from_data([f32::NAN], &Device::flex());
        let update = Update {
            lr: 1.0,
            step: 0,
            grad_scale: 1.0,
            ema_decay: 0.0,
        };
        let scalars = adam_scalars(&OptimConfig::default(), update);
        let clip = Clip {
            divisor: 1.0,
            max_norm: 1.0,
        };
        let measured = measure(losses, &[]).unwrap();
        adam_steps_if_finite(Vec::new(), Vec::new(), scalars, clip, measured, found_inf);
    }

    #[test]
    fn an_average_begins_with_the_first_update_and_stays_where_none_is_made() {
        let sigma_rels = [0.05, 0.25];
        let mut found_inf = FoundInf::new(&Device::flex());
        let moment = |update: u64| Moment {
            batch: 4,
            images: 4 * update,
            first: update == 1,
        };
        let begun = || track(&one(100.0), &sigma_rels);
        let (mut waiting, mut ahead) = (begun(), begun());
        let mut expected = [0.0; 2];
        for update in 1..6 {
            let value = (update as f32).sin();
            waiting = keep_all(waiting, &one(value), moment(update), None);
            ahead = keep_all(ahead, &one(value), moment(update), Some(&found_inf));
            for (k, sigma_rel) in sigma_rels.into_iter().enumerate() {
                let beta = power::beta(power::gamma_of(sigma_rel), 1.0, update as f64);
                expected[k] = beta * expected[k] + (1.0 - beta) * f64::from(value);
                let found = waiting[k].values[0].to_data().iter::<f64>().next().unwrap();
                assert!(
                    (found - expected[k]).abs() < 1e-6,
                    "{update} {found} {expected:?}"
                );
                assert_eq!(bits(&waiting[k]), bits(&ahead[k]));
            }
        }
        meets_nan(&mut found_inf);
        let still = keep_all(ahead.clone(), &one(f32::NAN), moment(6), Some(&found_inf));
        found_inf.clear();
        let moved = keep_all(still.clone(), &one(3.0), moment(6), Some(&found_inf));
        for k in 0..2 {
            assert_eq!(bits(&still[k]), bits(&ahead[k]));
            assert_ne!(bits(&moved[k]), bits(&ahead[k]));
        }
    }
}
