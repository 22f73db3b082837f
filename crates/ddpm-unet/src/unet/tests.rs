use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};

use super::UNet2D;
use crate::class_embedding::{ClassLabels, NetworkCondition};
use crate::config::{
    ClassEmbedKind, DownBlockKind, ResampleStyle, TimeScaleShift, UNet2DConfig, UpBlockKind,
};
use crate::error::UnetError;
use crate::init::{Init, InitKind};
use crate::layers::{Dropout, DropoutRng};
use crate::params::{self, ParamPath};
use crate::testing::{largest_difference, network, normal, normal_tensor, tiny_config, values};
use ddpm_kernels::DropoutKey;

fn build(config: &UNet2DConfig, seed: u64, kind: InitKind) -> UNet2D {
    UNet2D::new(config, false, &mut Init::new(seed, kind, &Device::flex())).unwrap()
}

fn rng(seed: u64, step: u64, first_row: u64) -> DropoutRng {
    DropoutRng::new(DropoutKey::new(seed, step, &Device::flex()), first_row)
}

fn output(net: &UNet2D, rows: usize) -> Vec<f32> {
    let device = Device::flex();
    let x = normal_tensor(0, [rows, 1, 8, 8], &device);
    let t = Tensor::from_floats([3.0, 500.0, 999.0], &device).narrow(0, 0, rows);
    values(
        net.forward(x, t, NetworkCondition::default(), None)
            .unwrap(),
    )
}

#[test]
fn zero_initialisation_starts_at_zero_output() {
    let config = tiny_config();
    let zero = output(&build(&config, 1, InitKind::Zero), 2);
    assert!(zero.iter().all(|y| *y == 0.0));
    let default = output(&build(&config, 1, InitKind::Default), 2);
    assert!(default.iter().any(|y| y.abs() > 1e-3));
}

#[test]
fn weights_are_a_function_of_the_seed() {
    let config = tiny_config();
    let weights = |seed| params::export(&build(&config, seed, InitKind::Default));
    let (a, b, other) = (weights(1), weights(1), weights(2));
    for (((name, a), (_, b)), (_, other)) in a.iter().zip(&b).zip(&other) {
        assert_eq!(a.as_bytes(), b.as_bytes(), "{name}");
        assert_eq!(
            a.as_bytes() != other.as_bytes(),
            !name.contains("norm"),
            "{name}"
        );
    }
}

#[test]
fn time_reaches_the_output() {
    let device = Device::flex();
    let net = network(&tiny_config(), &device);
    let x = normal_tensor::<4>(0, [1, 1, 8, 8], &device);
    let at = |t: f32| {
        let t = Tensor::from_floats([t], &device);
        values(
            net.forward(x.clone(), t, NetworkCondition::default(), None)
                .unwrap(),
        )
    };
    assert_eq!(at(10.0), at(10.0));
    assert_ne!(at(10.0), at(500.0));
}

#[test]
fn sizes_are_padded_or_refused() {
    let device = Device::flex();
    let config = tiny_config();
    let x = normal_tensor::<4>(0, [1, 1, 7, 9], &device);
    let t = Tensor::from_floats([3.0], &device);
    let refused =
        network(&config, &device).forward(x.clone(), t.clone(), NetworkCondition::default(), None);
    assert!(matches!(refused, Err(UnetError::Size { .. })));
    let padding =
        UNet2D::new(&config, true, &mut Init::new(3, InitKind::Default, &device)).unwrap();
    assert_eq!(
        padding
            .forward(x, t, NetworkCondition::default(), None)
            .unwrap()
            .dims(),
        [1, 1, 7, 9]
    );
}

#[test]
fn inputs_of_other_shapes_are_refused() {
    let device = Device::flex();
    let net = network(&tiny_config(), &device);
    for (x, t) in [([2, 3, 8, 8], 2), ([2, 1, 8, 8], 1)] {
        let (x, t) = (normal_tensor(0, x, &device), normal_tensor(1, [t], &device));
        let error = net
            .forward(x, t, NetworkCondition::default(), None)
            .unwrap_err();
        assert!(matches!(error, UnetError::Shape { .. }), "{error}");
    }
}

#[test]
fn numbers_that_are_not_told_are_zeros() {
    let device = Device::flex();
    let config = UNet2DConfig {
        vector_dim: Some(3),
        ..tiny_config()
    };
    let net = build(&config, 1, InitKind::Default);
    let run = |vector: Option<Tensor<2>>| {
        let x = normal_tensor(0, [2, 1, 8, 8], &device);
        let t = Tensor::from_floats([3.0, 500.0], &device);
        let condition = NetworkCondition {
            labels: None,
            vector,
        };
        net.forward(x, t, condition, None)
    };
    let untold = values(run(None).unwrap());
    let zeros = Tensor::zeros([2, 3], &device);
    assert_eq!(untold, values(run(Some(zeros)).unwrap()));
    let told = run(Some(normal_tensor(5, [2, 3], &device)));
    assert_ne!(untold, values(told.unwrap()));
    let wide = run(Some(normal_tensor(5, [2, 4], &device)));
    assert!(matches!(wide, Err(UnetError::Shape { .. })));
}

#[test]
fn class_labels_must_be_of_the_networks_kind() {
    let device = Device::flex();
    let indices = |n: usize| {
        let data = TensorData::new(vec![1i32; n], [n]);
        Some(ClassLabels::Index(Tensor::<1, Int>::from_data(
            data, &device,
        )))
    };
    let embeddings = |shape| Some(ClassLabels::Embedding(normal_tensor(2, shape, &device)));
    let none = tiny_config();
    let table = UNet2DConfig {
        num_class_embeds: Some(4),
        ..tiny_config()
    };
    let number = UNet2DConfig {
        class_embed_type: Some(ClassEmbedKind::Timestep),
        ..tiny_config()
    };
    let identity = UNet2DConfig {
        class_embed_type: Some(ClassEmbedKind::Identity),
        ..tiny_config()
    };
    let labels = "class labels: ";
    let shape = "the network's input `class_labels` has shape ";
    let cases = [
        (&none, None, ""),
        (&none, indices(2), labels),
        (&table, indices(2), ""),
        (&table, None, labels),
        (&table, indices(3), shape),
        (&table, embeddings([2, 16]), labels),
        (&number, indices(2), ""),
        (&number, indices(1), shape),
        (&number, embeddings([2, 16]), labels),
        (&identity, embeddings([2, 16]), ""),
        (&identity, embeddings([2, 15]), shape),
        (&identity, indices(2), labels),
    ];
    for (i, (config, labels, expected)) in cases.into_iter().enumerate() {
        let (x, t) = (
            normal_tensor(0, [2, 1, 8, 8], &device),
            normal_tensor(1, [2], &device),
        );
        let error =
            match network(config, &device).forward(x, t, NetworkCondition::of_labels(labels), None)
            {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            };
        assert_eq!(error.is_empty(), expected.is_empty(), "case {i}: {error}");
        assert!(error.starts_with(expected), "case {i}: {error}");
    }
}

#[test]
fn dropout_keeps_the_mean_and_is_off_without_random_numbers() {
    let device = Device::flex();
    let dropout = Dropout::new(0.3);
    let ones = Tensor::<4>::ones([4, 8, 16, 16], &device);
    let y = values(dropout.forward(ones.clone(), Some(&rng(1, 2, 0))));
    let keep = 1.0 / 0.7;
    assert!(y.iter().all(|y| *y == 0.0 || (*y - keep).abs() < 1e-6));
    // 8192 draws: the mean's standard deviation is √(0.3/0.7/8192) = 0.0072.
    let mean = y.iter().sum::<f32>() / y.len() as f32;
    assert!((mean - 1.0).abs() < 0.029, "{mean}");
    assert_eq!(values(dropout.forward(ones.clone(), None)), values(ones));
}

#[test]
fn dropout_masks_do_not_depend_on_how_a_batch_is_split() {
    let device = Device::flex();
    let dropout = Dropout::new(0.5);
    let ones = |rows| Tensor::<4>::ones([rows, 2, 4, 4], &device);
    // The masks of the first and the second layer.
    let masks = |seed, step, first_row, rows| {
        let rng = rng(seed, step, first_row);
        [(); 2].map(|()| values(dropout.forward(ones(rows), Some(&rng))))
    };
    let whole = masks(1, 2, 0, 4);
    let (head, tail) = (masks(1, 2, 0, 1), masks(1, 2, 1, 3));
    for ((whole, head), tail) in whole.iter().zip(head).zip(tail) {
        assert_eq!(*whole, [head, tail].concat());
    }
    assert_ne!(whole[0], whole[1]);
    assert_ne!(whole[0], masks(1, 3, 0, 4)[0]);
    assert_ne!(whole[0], masks(2, 2, 0, 4)[0]);
}

#[test]
fn networks_with_dropout_train_the_same_on_split_batches() {
    let device = Device::flex();
    let net = network(
        &UNet2DConfig {
            dropout: 0.4,
            ..tiny_config()
        },
        &device,
    );
    let x = normal_tensor::<4>(0, [3, 1, 8, 8], &device);
    let t = Tensor::<1>::from_floats([3.0, 500.0, 999.0], &device);
    let part = |first: usize, rows: usize, rng: Option<DropoutRng>| {
        let (x, t) = (
            x.clone().narrow(0, first, rows),
            t.clone().narrow(0, first, rows),
        );
        values(
            net.forward(x, t, NetworkCondition::default(), rng.as_ref())
                .unwrap(),
        )
    };
    let rng = |row| Some(rng(9, 4, row));
    let whole = part(0, 3, rng(0));
    let split = [part(0, 1, rng(0)), part(1, 2, rng(1))].concat();
    assert!(largest_difference(&whole, &split) < 1e-5);
    assert!(largest_difference(&whole, &part(0, 3, None)) > 1e-2);
    assert_eq!(part(0, 3, None), part(0, 3, None));
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
        let grad = param.val().grad(self.grads).unwrap();
        self.found.insert(self.path.name(), values(grad));
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let config = UNet2DConfig {
        down_block_types: vec![
            DownBlockKind::ResnetDownsampleBlock2D,
            DownBlockKind::AttnDownBlock2D,
        ],
        up_block_types: vec![UpBlockKind::AttnUpBlock2D, UpBlockKind::UpBlock2D],
        upsample_type: ResampleStyle::Resnet,
        resnet_time_scale_shift: TimeScaleShift::ScaleShift,
        mid_block_scale_factor: 1.4,
        ..tiny_config()
    };
    let net = network(&config, &device);
    let shape = [2, 1, 8, 8];
    let x = normal_tensor::<4>(0, shape, &device).require_grad();
    let w = normal_tensor::<4>(1, shape, &device);
    let t = Tensor::<1>::from_floats([3.0, 700.0], &device);

    let y = net
        .forward(x.clone(), t.clone(), NetworkCondition::default(), None)
        .unwrap();
    let grads = (y * w.clone()).sum().backward();
    let mut visitor = Grads {
        path: ParamPath::default(),
        grads: &grads,
        found: HashMap::new(),
    };
    net.visit(&mut visitor);
    let mut gradient = visitor.found;
    gradient.insert("x".into(), values(x.grad(&grads).unwrap()));

    let point: Vec<(String, Vec<usize>, Vec<f32>)> = params::export(&net)
        .into_iter()
        .map(|(name, data)| (name, data.shape().to_vec(), data.try_to_vec().unwrap()))
        .collect();
    let weights = values(w);
    // Σ y·w, summed in f64, at the point moved by `step` along a direction.
    let loss = |direction: &HashMap<String, Vec<f32>>, step: f32| -> f64 {
        let moved = |name: &str, data: &[f32]| -> Vec<f32> {
            let along = &direction[name];
            data.iter().zip(along).map(|(x, d)| x + step * d).collect()
        };
        let tensors = point
            .iter()
            .map(|(name, shape, data)| (name.clone(), shape.clone(), moved(name, data)));
        let net = params::load(network(&config, &device), tensors).unwrap();
        let x = TensorData::new(moved("x", &values(x.clone())), shape);
        let x = Tensor::from_data(x, &device);
        let y = values(
            net.forward(x, t.clone(), NetworkCondition::default(), None)
                .unwrap(),
        );
        y.iter()
            .zip(&weights)
            .map(|(y, w)| f64::from(*y) * f64::from(*w))
            .sum()
    };
    let all = |a: &HashMap<String, Vec<f32>>, b: &HashMap<String, Vec<f32>>| -> f64 {
        a.iter()
            .flat_map(|(name, a)| a.iter().zip(&b[name]))
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let norm = all(&gradient, &gradient).sqrt();
    let mut names: Vec<&String> = gradient.keys().collect();
    names.sort();
    for k in 0..4 {
        let direction: HashMap<String, Vec<f32>> = names
            .iter()
            .zip(1000 * (k + 1)..)
            .map(|(name, index)| ((*name).clone(), normal(index, gradient[*name].len())))
            .collect();
        // Two steps give the fourth-order formula. Halving h from 2e-3 to 1e-3 cuts the error from
        // 5e-3 to 3e-4 of ‖∇L‖, as h⁴ does, so truncation leaves 2e-5 at 5e-4; rounding of the 128
        // outputs in f32 leaves about 1e-5/h = 0.02, 2e-4 of ‖∇L‖ = 78 at the worst.
        let difference =
            |h: f32| (loss(&direction, h) - loss(&direction, -h)) / (2.0 * f64::from(h));
        let h = 5e-4;
        let numeric = (4.0 * difference(h) - difference(2.0 * h)) / 3.0;
        let exact = all(&gradient, &direction);
        let error = (numeric - exact).abs() / norm;
        assert!(
            error < 3e-4,
            "direction {k}: {numeric} by differences, {exact} by gradient"
        );
    }
}

#[test]
fn an_image_has_the_same_bits_in_any_batch() {
    let device = Device::flex();
    // Levels on both sides of the kernels' choices, and channels that are no whole blocks.
    let config = UNet2DConfig {
        block_out_channels: vec![12, 20, 40],
        down_block_types: vec![
            DownBlockKind::DownBlock2D,
            DownBlockKind::AttnDownBlock2D,
            DownBlockKind::DownBlock2D,
        ],
        up_block_types: vec![
            UpBlockKind::UpBlock2D,
            UpBlockKind::AttnUpBlock2D,
            UpBlockKind::UpBlock2D,
        ],
        ..tiny_config()
    };
    let net = network(&config, &device);
    let x = normal_tensor(0, [5, 1, 16, 24], &device);
    let t = Tensor::<1>::from_floats([0.0, 10.0, 500.0, 700.0, 999.0], &device);
    let together = net
        .forward(x.clone(), t.clone(), NetworkCondition::default(), None)
        .unwrap();
    for i in 0..5 {
        let alone = net
            .forward(
                x.clone().narrow(0, i, 1),
                t.clone().narrow(0, i, 1),
                NetworkCondition::default(),
                None,
            )
            .unwrap();
        let expected = together.clone().narrow(0, i, 1);
        alone.into_data().assert_eq(&expected.into_data(), true);
    }
}
