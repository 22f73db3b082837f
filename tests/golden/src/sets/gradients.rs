//! A network's output, the loss's gradient with respect to its input, and the norm of each parameter's gradient.

use std::collections::HashMap;

use anyhow::Context;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use ddpm_unet::Model;
use ddpm_unet::params::ParamPath;
use serde_json::{Map, Value};

use crate::Case;
use crate::source::Source;

/// Both are float32 programs; of ‖a - b‖/‖b‖.
pub(super) const OF_TENSORS: f64 = 1e-4;
/// Of a gradient's norm, or of 1e-4 of the largest one: a key's bias adds the same to each score of a row, so that its
/// gradient is 0 but for rounding.
const OF_NORMS: f64 = 1e-3;

/// `y` is what the network made of `x`; the loss is the mean of y·w. `ours` tells the parameters here that a
/// parameter of theirs became.
pub(super) fn compare(
    network: &Model,
    x: &Tensor<4>,
    y: Tensor<4>,
    io: &Source,
    grads: &Map<String, Value>,
    ours: impl Fn(&str) -> Vec<String>,
) -> anyhow::Result<Vec<Case>> {
    let w = crate::source::tensor(io.tensor("w")?, &x.device())?;
    let gradients = (y.clone() * w).mean().backward();
    let dx = x.grad(&gradients).context("no gradient")?;
    let mut cases = vec![
        Case::new("output", OF_TENSORS, distance(y, &io.tensor("y")?.values)),
        Case::new("dL/dx", OF_TENSORS, distance(dx, &io.tensor("dx")?.values)),
    ];
    let theirs = grads
        .get("grad_norm")
        .and_then(Value::as_object)
        .context("`grad_norm` is missing")?;
    let mut visitor = Squares {
        path: ParamPath::default(),
        gradients: &gradients,
        squares: HashMap::new(),
    };
    network.visit(&mut visitor);
    let largest = theirs
        .values()
        .filter_map(Value::as_f64)
        .fold(0.0, f64::max);
    for (name, norm) in theirs {
        let parts = ours(name)
            .into_iter()
            .map(|part| visitor.squares.remove(&part));
        let square: Option<f64> = parts.sum();
        let norm = norm.as_f64().context("not a number")?;
        let share = match square {
            Some(square) if square > 0.0 || norm == 0.0 => {
                Ok((square.sqrt() - norm).abs() / norm.max(1e-4 * largest))
            }
            _ => Err(anyhow::anyhow!("no such parameter")),
        };
        cases.push(Case::new(name, OF_NORMS, share));
    }
    for name in visitor.squares.into_keys() {
        cases.push(Case::new(
            name,
            OF_NORMS,
            Err(anyhow::anyhow!("is no parameter of theirs")),
        ));
    }
    Ok(cases)
}

/// ‖ours - theirs‖/‖theirs‖.
pub(super) fn distance(ours: Tensor<4>, theirs: &[f64]) -> anyhow::Result<f64> {
    let data = ours
        .try_into_data()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let ours: Vec<f64> = data.iter::<f64>().collect();
    anyhow::ensure!(
        ours.len() == theirs.len(),
        "{} numbers, not {}",
        theirs.len(),
        ours.len()
    );
    let difference: f64 = ours.iter().zip(theirs).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = theirs.iter().map(|b| b.powi(2)).sum();
    Ok((difference / size).sqrt())
}

/// The squared norm of each parameter's gradient.
struct Squares<'a> {
    path: ParamPath,
    gradients: &'a Gradients,
    squares: HashMap<String, f64>,
}

impl ModuleVisitor for Squares<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Parameters that are not trained have no gradient.
        let Some(gradient) = param.val().grad(self.gradients) else {
            return;
        };
        let squares = gradient
            .into_data()
            .iter::<f64>()
            .map(|g| g * g)
            .sum::<f64>();
        self.squares.insert(self.path.name(), squares);
    }
}
