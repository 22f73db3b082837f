//! Outputs and gradients of networks that diffusers built.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use ddpm_unet::ClassLabels;
use ddpm_unet::params::ParamPath;
use serde_json::Value;

use super::{Kind, networks};
use crate::Case;
use crate::source::Source;

pub(super) const KIND: Kind = Kind {
    name: "unet/*",
    cases,
};

/// Both are float32 programs; of ‖a - b‖/‖b‖.
const OF_TENSORS: f64 = 1e-4;
/// Of a gradient's norm, or of 1e-4 of the largest one: a key's bias adds the same to each score of a row, so that its
/// gradient is 0 but for rounding.
const OF_NORMS: f64 = 1e-3;

fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let io = Source::tensors(&folder.join("io"))?;
    let device = Device::flex().autodiff();
    let network = networks::open(folder, &device)?;
    let images = |name: &str| -> anyhow::Result<Tensor<4>> {
        let series = io.tensor(name)?;
        let values: Vec<f32> = series.values.iter().map(|&value| value as f32).collect();
        let shape: [usize; 4] = series
            .shape
            .as_slice()
            .try_into()
            .context("no batch of images")?;
        Ok(Tensor::from_data(TensorData::new(values, shape), &device))
    };
    let times: Vec<f32> = io.tensor("t")?.values.iter().map(|&t| t as f32).collect();
    let times = Tensor::<1>::from_floats(times.as_slice(), &device);
    let labels = io.tensor("class_labels").ok().map(|labels| {
        let labels: Vec<i64> = labels.values.iter().map(|&label| label as i64).collect();
        ClassLabels::Index(Tensor::<1, Int>::from_data(labels.as_slice(), &device))
    });
    let x = images("x")?.require_grad();
    let y = network.forward(x.clone(), times, labels, None)?;
    let gradients = (y.clone() * images("w")?).mean().backward();
    let dx = x.grad(&gradients).context("no gradient")?;
    let mut cases = vec![
        Case::new("output", OF_TENSORS, distance(y, &io.tensor("y")?.values)),
        Case::new("dL/dx", OF_TENSORS, distance(dx, &io.tensor("dx")?.values)),
    ];
    let grads = Source::open(&folder.join("grads"))?;
    let theirs = grads
        .json
        .get("grad_norm")
        .and_then(Value::as_object)
        .context("`grad_norm` is missing")?;
    let mut visitor = Norms {
        path: ParamPath::default(),
        gradients: &gradients,
        norms: HashMap::new(),
    };
    network.visit(&mut visitor);
    let largest = theirs
        .values()
        .filter_map(Value::as_f64)
        .fold(0.0, f64::max);
    for (name, norm) in theirs {
        let ours = visitor.norms.remove(name).context("no such parameter");
        let norm = norm.as_f64().context("not a number")?;
        let share = ours.map(|ours| (ours - norm).abs() / norm.max(1e-4 * largest));
        cases.push(Case::new(name, OF_NORMS, share));
    }
    for name in visitor.norms.into_keys() {
        cases.push(Case::new(
            name,
            OF_NORMS,
            Err(anyhow::anyhow!("is no parameter of theirs")),
        ));
    }
    Ok(cases)
}

/// ‖ours - theirs‖/‖theirs‖.
fn distance(ours: Tensor<4>, theirs: &[f64]) -> anyhow::Result<f64> {
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

struct Norms<'a> {
    path: ParamPath,
    gradients: &'a Gradients,
    norms: HashMap<String, f64>,
}

impl ModuleVisitor for Norms<'_> {
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
        self.norms.insert(self.path.name(), squares.sqrt());
    }
}
