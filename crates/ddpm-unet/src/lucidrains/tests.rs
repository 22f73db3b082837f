use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use super::*;
use crate::class_embedding::{ClassLabels, NetworkCondition};
use crate::error::UnetError;
use crate::foreign::{Named, lucidrains as foreign};
use crate::init::{Init, InitKind};
use crate::model::{ConditionShape, Model, ModelConfig, ModelShape};
use crate::params;
use crate::testing::{gradients_match_differences, normal_tensor};

/// Two small networks: with a self-condition, and with a learned variance, learned sinusoids, more channels at first and
/// other heads and attention on each level.
fn configs() -> [(&'static str, LucidrainsConfig); 2] {
    let first = LucidrainsConfig {
        in_channels: 6,
        out_channels: 3,
        dim: 8,
        init_dim: 8,
        dim_mults: vec![1, 2],
        full_attn: vec![false, true],
        attn_heads: vec![2, 2],
        attn_dim_head: vec![4, 4],
        ..LucidrainsConfig::default()
    };
    let second = LucidrainsConfig {
        in_channels: 2,
        out_channels: 4,
        dim: 6,
        init_dim: 5,
        dim_mults: vec![2, 1, 3],
        full_attn: vec![false, true, false],
        attn_heads: vec![1, 2, 3],
        attn_dim_head: vec![3, 4, 2],
        learned_sinusoidal_dim: 6,
        ..LucidrainsConfig::default()
    };
    [("lucidrains", first), ("lucidrains_learned", second)]
}

fn network(config: &LucidrainsConfig, device: &Device) -> LucidrainsUNet {
    LucidrainsUNet::new(config, &mut Init::new(3, InitKind::Default, device)).unwrap()
}

/// The tensors of the reference figures, all zeros.
fn listed(set: &str) -> Vec<Named> {
    let file = format!(
        "{}/../../tests/golden/data/unet2/{set}/grads.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let listed = file["state_dict"].as_array().unwrap().iter();
    listed
        .map(|entry| {
            let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
            let data = vec![0.0; shape.iter().product()];
            (entry["name"].as_str().unwrap().to_owned(), shape, data)
        })
        .collect()
}

#[test]
fn lucidrains_networks_are_read_off_names_and_shapes() {
    for (set, expected) in configs() {
        let (config, tensors) = foreign::network(listed(set)).unwrap();
        assert_eq!(config, expected);
        let theirs: BTreeMap<String, Vec<usize>> = tensors
            .into_iter()
            .map(|(name, shape, _)| (name, shape))
            .collect();
        let ours: BTreeMap<String, Vec<usize>> = params::shapes(&network(&config, &Device::flex()))
            .into_iter()
            .collect();
        assert_eq!(ours, theirs, "{set}");
    }
}

#[test]
fn hostile_lucidrains_shapes_are_refused_by_name() {
    let with = |name: &str, shape: &[usize]| {
        let mut tensors = listed("lucidrains");
        tensors.retain(|(other, ..)| other != name);
        if !shape.is_empty() {
            let data = vec![0.0; shape.iter().product()];
            tensors.push((name.to_owned(), shape.to_vec(), data));
        }
        tensors
    };
    for (name, shape, words) in [
        ("init_conv.weight", &[][..], "`init_conv.weight` is missing"),
        ("init_conv.weight", &[8, 6, 7], "expected 4 dimensions"),
        ("init_conv.weight", &[0, 6, 7, 7], "`init_dim` = 0"),
        ("final_conv.weight", &[0, 8, 1, 1], "`out_channels` = 0"),
        ("time_mlp.3.weight", &[3, 32], "no multiple of 0"),
        ("time_mlp.3.weight", &[8, 32], "`dim` = 2"),
        ("time_mlp.0.weights", &[0, 2], "expected 1 dimensions"),
        ("downs.0.0.block1.proj.weight", &[], "1 to 12 levels"),
        ("downs.0.2.mem_kv", &[2, 0, 4, 4], "`attn_dim_head` = 0"),
        ("downs.1.2.mem_kv", &[], "`downs.1.2.mem_kv` is missing"),
        ("downs.1.3.weight", &[15, 8, 3, 3], "leaves 15 channels"),
        ("downs.0.3.weight", &[8], "is there under two names"),
        (
            "downs.0.0.block1.norm.weight",
            &[8],
            "denoising-diffusion-pytorch 1",
        ),
    ] {
        let tensors = with(name, shape);
        // Both names of one parameter.
        let error = foreign::network(tensors).unwrap_err().to_string();
        assert!(error.contains(words), "{name} {shape:?}: {error}");
    }
}

#[test]
fn lucidrains_gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    for (_, config) in configs() {
        let forward = |net: &LucidrainsUNet, x: Tensor<4>| {
            let t = Tensor::from_floats([0.3, 1.7], &device);
            net.forward(x, t, NetworkCondition::default(), None)
                .unwrap()
        };
        let shape = [2, config.in_channels, 8, 4];
        gradients_match_differences(|| network(&config, &device), forward, shape, &device);
    }
}

#[test]
fn lucidrains_inputs_that_do_not_fit_are_refused() {
    let device = Device::flex();
    let [(_, config), _] = configs();
    let net = network(&config, &device);
    let labels = || {
        let labels = Tensor::<1, burn::tensor::Int>::from_data([0i64, 1], &device);
        NetworkCondition::of_labels(Some(ClassLabels::Index(labels)))
    };
    for (x, t, condition, words) in [
        ([2, 6, 4, 6], 2, NetworkCondition::default(), ""),
        ([2, 3, 4, 6], 2, NetworkCondition::default(), "input `x`"),
        ([2, 6, 4, 6], 1, NetworkCondition::default(), "input `t`"),
        ([2, 6, 4, 5], 2, NetworkCondition::default(), "4x5"),
        ([2, 6, 4, 6], 2, labels(), "class labels"),
    ] {
        let (x, t) = (normal_tensor(0, x, &device), normal_tensor(1, [t], &device));
        let error = match net.forward(x, t, condition, None) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(error.is_empty(), words.is_empty(), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn lucidrains_configurations_round_trip_and_wrong_ones_name_their_key() {
    for (_, config) in configs() {
        let (read, unknown) = LucidrainsConfig::from_json(&config.to_json()).unwrap();
        assert_eq!((read, unknown), (config, vec![]));
    }
    for (key, value) in [
        ("dim", json!(7)),
        ("dim", json!(u64::MAX)),
        ("dim_mults", json!([])),
        ("dim_mults", json!([1, 2])),
        ("full_attn", json!([true])),
        ("attn_heads", json!([1, 1, 1, 0])),
        ("attn_dim_head", json!([1, 1, 1, u64::MAX])),
        ("learned_sinusoidal_dim", json!(3)),
        ("dropout", json!(1.0)),
    ] {
        let json = json!({key: value});
        let error = LucidrainsConfig::from_json(json.as_object().unwrap()).unwrap_err();
        assert!(matches!(error, UnetError::Config { .. }), "{key}: {error}");
    }
}

#[test]
fn lucidrains_sections_build_networks_for_their_images_and_keep_them() {
    let device = Device::flex();
    let shape = |side: usize| ModelShape {
        channels: 2,
        height: side,
        width: side - 2,
        learned_variance: true,
        self_condition: true,
        steps: 10,
        condition: ConditionShape::default(),
    };
    let section = LucidrainsSection {
        channels: 4,
        init_channels: Some(6),
        multipliers: vec![1, 2, 2],
        attention_at: Some(vec![8]),
        heads: vec![1, 2, 3],
        head_dim: vec![2],
        pad: true,
        ..LucidrainsSection::default()
    };
    let config = ModelConfig::Lucidrains(section.clone());
    let model = config.build(shape(16), 1, &device).unwrap();
    let x = normal_tensor(0, [1, 4, 16, 14], &device);
    let t = Tensor::from_floats([3.0], &device);
    let y = model
        .forward(x, t, NetworkCondition::default(), None)
        .unwrap();
    assert_eq!(y.dims(), [1, 4, 16, 14]);
    // At twice the size attention is on the same level.
    let ModelConfig::Lucidrains(like) = ModelConfig::like(&model, shape(32)) else {
        panic!("another kind");
    };
    assert_eq!(like.attention_at, Some(vec![16]));
    let larger = ModelConfig::Lucidrains(like)
        .build(shape(32), 1, &device)
        .unwrap();
    assert_eq!(params::shapes(&larger), params::shapes(&model));
    let Model::Lucidrains(_) = larger else {
        panic!("another kind");
    };

    let classes = ModelShape {
        condition: ConditionShape {
            classes: Some(3),
            ..ConditionShape::default()
        },
        ..shape(16)
    };
    let three = LucidrainsSection {
        heads: vec![1, 2],
        ..section.clone()
    };
    let elsewhere = LucidrainsSection {
        attention_at: Some(vec![5]),
        ..section.clone()
    };
    for (section, shape, key) in [
        (section, classes, "model.kind"),
        (three, shape(16), "model.heads"),
        (elsewhere, shape(16), "model.attention_at"),
    ] {
        let error = section.resolve(shape).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
