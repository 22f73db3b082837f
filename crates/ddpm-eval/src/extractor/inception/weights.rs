//! The network's weights by their names in the published file.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_store::NamedTensor;

use super::blocks::{ConvRelu, Window};
use crate::error::EvalError;

/// What is added to variances in this network.
const EPS: f64 = 1e-3;
/// The name that tells such a network.
const FIRST: &str = "Conv2d_1a_3x3.conv.weight";
const ADVICE: &str = "give the weights of FID's Inception, pt_inception-2015-12-05 as pytorch-fid and torch-fidelity load them";

/// What stands before the names of a file whose network is a part of something else, up to its last dot; `None` for another
/// tensor's name.
pub(super) fn prefix(name: &str) -> Option<&str> {
    let before = name.strip_suffix(FIRST)?;
    (before.is_empty() || before.ends_with('.')).then_some(before)
}

/// Tensors that layers take out one by one.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    path: &'a Path,
    device: &'a Device,
    tensors: HashMap<String, NamedTensor>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(path: &'a Path, tensors: Vec<NamedTensor>, device: &'a Device) -> Self {
        let before = tensors.iter().find_map(|tensor| prefix(&tensor.name));
        let before = before.unwrap_or_default().to_owned();
        let named = |tensor: NamedTensor| {
            let name = tensor.name.strip_prefix(before.as_str());
            (name.unwrap_or(&tensor.name).to_owned(), tensor)
        };
        Self {
            path,
            device,
            tensors: tensors.into_iter().map(named).collect(),
        }
    }

    /// A convolution, the normalisation that follows it folded in: with s = γ/√(σ² + ε), s·w and β - s·μ, in f64.
    pub(super) fn layer(
        &mut self,
        name: &str,
        input: usize,
        window: Window,
    ) -> Result<ConvRelu, EvalError> {
        let [rows, columns] = window.kernel;
        let shape = [window.output, input, rows, columns];
        let mut weight = self.take(&format!("{name}.conv.weight"), &shape)?;
        let mut norm = |part: &str| self.take(&format!("{name}.bn.{part}"), &[window.output]);
        let (gain, offset) = (norm("weight")?, norm("bias")?);
        let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
        let mut bias = Vec::with_capacity(window.output);
        let of_channels = weight.chunks_exact_mut(input * rows * columns);
        for (channel, of_channel) in of_channels.enumerate() {
            let scale = f64::from(gain[channel]) / (f64::from(variance[channel]) + EPS).sqrt();
            for weight in of_channel {
                *weight = (f64::from(*weight) * scale) as f32;
            }
            bias.push((f64::from(offset[channel]) - f64::from(mean[channel]) * scale) as f32);
        }
        if !weight.iter().chain(&bias).all(|number| number.is_finite()) {
            return Err(self.bad(format!(
                "with `{name}.bn` the weights of that layer are not finite; the file is damaged, so {ADVICE}"
            )));
        }
        let weight = Tensor::from_data(TensorData::new(weight, shape), self.device);
        let bias = Tensor::from_data(TensorData::new(bias, [window.output]), self.device);
        Ok(ConvRelu::new(weight, bias, window))
    }

    /// A tensor as it is.
    pub(super) fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, EvalError> {
        let data = TensorData::new(self.take(name, &shape)?, shape);
        Ok(Tensor::from_data(data, self.device))
    }

    /// The numbers of a tensor.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EvalError> {
        let Some(NamedTensor {
            shape: found, data, ..
        }) = self.tensors.remove(name)
        else {
            return Err(self.bad(format!("it has no tensor `{name}`; {ADVICE}")));
        };
        if found != shape || data.len() != shape.iter().product::<usize>() {
            return Err(self.bad(format!(
                "tensor `{name}` has the shape {found:?} instead of {shape:?}; this is another Inception, so {ADVICE}"
            )));
        }
        match data.iter().position(|number| !number.is_finite()) {
            None => Ok(data),
            Some(at) => Err(self.bad(format!(
                "tensor `{name}` is {} at {at}; the file is damaged, so {ADVICE}",
                data[at]
            ))),
        }
    }

    fn bad(&self, problem: String) -> EvalError {
        EvalError::Format {
            path: self.path.to_owned(),
            problem,
        }
    }
}
