//! Small networks and reproducible numbers for the tests of this crate.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, normal_fill};

use crate::config::{DownBlockKind, UNet2DConfig, UpBlockKind};
use crate::init::{Init, InitKind};
use crate::params::{self, ParamPath};
use crate::unet::UNet2D;

/// Standard normal numbers, the same for the same `index`.
pub fn normal(index: u64, count: usize) -> Vec<f32> {
    let mut data = vec![0.0; count];
    normal_fill(7, Stream::Synthetic, 0, index, &mut data);
    data
}

/// [`normal`] as a tensor.
pub fn normal_tensor<const D: usize>(index: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let data = normal(index, shape.iter().product());
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// A tensor's numbers on the host.
pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// max |a - b|
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Two levels, the lower with attention; one image channel.
pub fn tiny_config() -> UNet2DConfig {
    UNet2DConfig {
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![4, 8],
        down_block_types: vec![DownBlockKind::DownBlock2D, DownBlockKind::AttnDownBlock2D],
        up_block_types: vec![UpBlockKind::AttnUpBlock2D, UpBlockKind::UpBlock2D],
        layers_per_block: 1,
        norm_num_groups: Some(2),
        attention_head_dim: Some(4),
        ..UNet2DConfig::default()
    }
}

/// The network of `config` with non-zero initial weights, without padding.
pub fn network(config: &UNet2DConfig, device: &Device) -> UNet2D {
    UNet2D::new(config, false, &mut Init::new(3, InitKind::Default, device)).unwrap()
}

/// Gradients of the parameters by name.
struct Grads<'a> {
    path: ParamPath,
    grads: &'a Gradients,
    found: HashMap<String, Vec<f32>>,
}

impl ModuleVisitor for Grads<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }
    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Parameters that are not trained have no gradient.
        if let Some(grad) = param.val().grad(self.grads) {
            self.found.insert(self.path.name(), values(grad));
        }
    }
}

/// Compares the gradient of Σ y·w, w normal, with differences of fourth order along random directions through the
/// input and all trained parameters. Every parameter is moved from its initial value first, so that none is zero.
pub fn gradients_match_differences<M: Module>(
    build: impl Fn() -> M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
    shape: [usize; 4],
    device: &Device,
) {
    let start: Vec<(String, Vec<usize>, Vec<f32>)> = params::export(&build())
        .into_iter()
        .zip(500..)
        .map(|((name, data), index)| {
            let dims = data.shape().to_vec();
            let mut values: Vec<f32> = data.try_to_vec().unwrap();
            let noise = normal(index, values.len());
            values
                .iter_mut()
                .zip(noise)
                .for_each(|(x, z)| *x += 0.1 * z);
            (name, dims, values)
        })
        .collect();
    let x = normal(0, shape.iter().product());
    let tensor = |data: Vec<f32>| Tensor::<4>::from_data(TensorData::new(data, shape), device);
    let net = params::load(build(), start.clone()).unwrap();
    let input = tensor(x.clone()).require_grad();
    let y = forward(&net, input.clone());
    let weights = normal(1, y.shape().num_elements());
    let w = Tensor::from_data(TensorData::new(weights.clone(), y.dims()), device);
    let grads = (y * w).sum().backward();
    let mut visitor = Grads {
        path: ParamPath::default(),
        grads: &grads,
        found: HashMap::new(),
    };
    net.visit(&mut visitor);
    let mut gradient = visitor.found;
    gradient.insert("x".into(), values(input.grad(&grads).unwrap()));

    let mut names: Vec<&String> = gradient.keys().collect();
    names.sort();
    let square = |a: &[f32]| a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>();
    let norm = gradient.values().map(|g| square(g)).sum::<f64>().sqrt();
    for k in 0..4 {
        let direction: HashMap<&str, Vec<f32>> = names
            .iter()
            .zip(1000 * (k + 1)..)
            .map(|(name, index)| (name.as_str(), normal(index, gradient[*name].len())))
            .collect();
        let moved = |name: &str, data: &[f32], step: f32| -> Vec<f32> {
            match direction.get(name) {
                Some(along) => data.iter().zip(along).map(|(x, d)| x + step * d).collect(),
                None => data.to_vec(),
            }
        };
        let loss = |step: f32| -> f64 {
            let tensors = start
                .iter()
                .map(|(name, dims, data)| (name.clone(), dims.clone(), moved(name, data, step)));
            let net = params::load(build(), tensors).unwrap();
            let y = values(forward(&net, tensor(moved("x", &x, step))));
            let pairs = y.iter().zip(&weights);
            pairs.map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
        };
        let difference = |h: f32| (loss(h) - loss(-h)) / (2.0 * f64::from(h));
        let h = 5e-4;
        let numeric = (4.0 * difference(h) - difference(2.0 * h)) / 3.0;
        let exact: f64 = direction
            .iter()
            .flat_map(|(name, d)| gradient[*name].iter().zip(d))
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let error = (numeric - exact).abs() / norm;
        assert!(
            error < 5e-4,
            "direction {k}: {numeric} by differences, {exact} by gradient, of {norm}"
        );
    }
}
