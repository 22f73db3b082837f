//! Outputs and gradients of networks that diffusers built.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use ddpm_unet::{ClassLabels, NetworkCondition};

use super::{Kind, gradients, networks};
use crate::Case;
use crate::source::{Source, tensor};

pub(super) const KIND: Kind = Kind {
    name: "unet/*",
    cases,
};

pub(super) fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let io = Source::tensors(&folder.join("io"))?;
    let device = Device::flex().autodiff();
    let network = networks::open(folder, &device)?;
    let labels = io.tensor("class_labels").ok().map(|labels| {
        anyhow::Ok(match labels.shape.len() {
            1 => {
                let labels: Vec<i64> = labels.values.iter().map(|&label| label as i64).collect();
                ClassLabels::Index(Tensor::<1, Int>::from_data(labels.as_slice(), &device))
            }
            _ => ClassLabels::Embedding(tensor(labels, &device)?),
        })
    });
    let condition = NetworkCondition::of_labels(labels.transpose()?);
    let x = tensor(io.tensor("x")?, &device)?.require_grad();
    let times = tensor(io.tensor("t")?, &device)?;
    let y = network.forward(x.clone(), times, condition, None)?;
    let grads = Source::open(&folder.join("grads"))?;
    gradients::compare(&network, &x, y, &io, &grads.json, |name| {
        vec![name.to_owned()]
    })
}
