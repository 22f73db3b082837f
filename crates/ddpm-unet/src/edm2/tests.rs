use burn::tensor::{Device, Int, Tensor};
use serde_json::{Value, json};

use super::*;
use crate::class_embedding::{ClassLabels, NetworkCondition};
use crate::error::UnetError;
use crate::init::{Init, InitKind};
use crate::model::{ConditionShape, Model, ModelConfig, ModelShape};
use crate::params;
use crate::testing::{gradients_match_differences, largest_difference, normal_tensor, values};

fn tiny() -> Edm2Config {
    Edm2Config {
        img_resolution: 8,
        in_channels: 2,
        out_channels: 2,
        label_dim: 3,
        model_channels: 8,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        channels_per_head: 4,
        null_class: true,
        ..Edm2Config::default()
    }
}

fn network(config: &Edm2Config, device: &Device) -> Edm2UNet {
    Edm2UNet::new(config, &mut Init::new(3, InitKind::Default, device)).unwrap()
}

fn told(labels: &[i64], device: &Device) -> NetworkCondition {
    let labels = Tensor::<1, Int>::from_data(labels, device);
    NetworkCondition::of_labels(Some(ClassLabels::Index(labels)))
}

/// √ of the mean square.
fn magnitude(x: &[f32]) -> f64 {
    let sum: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    (sum / x.len() as f64).sqrt()
}

/// Of one network each part's magnitude strays, since channels are few and correlated; over networks it does not.
#[test]
fn magnitudes_stay_near_one_through_the_whole_network() {
    const NETWORKS: u64 = 6;
    let device = Device::flex();
    let config = Edm2Config {
        img_resolution: 32,
        in_channels: 3,
        out_channels: 3,
        model_channels: 32,
        channel_mult: vec![1, 2, 3],
        num_blocks: 2,
        attn_resolutions: vec![16, 8],
        channels_per_head: 16,
        ..tiny()
    };
    let mut parts: Vec<(String, Vec<f64>)> = Vec::new();
    for seed in 0..NETWORKS {
        let net = Edm2UNet::new(&config, &mut Init::new(seed, InitKind::Default, &device)).unwrap();
        let x = normal_tensor(seed, [2, 3, 32, 32], &device);
        let t = Tensor::from_floats([-1.5, 1.1], &device);
        let mut at = 0;
        let y = net
            .observed(x, t, told(&[0, 3], &device), None, &mut |name, x| {
                if seed == 0 {
                    parts.push((name.to_owned(), Vec::new()));
                }
                parts[at].1.push(magnitude(&values(x.clone())));
                at += 1;
            })
            .unwrap();
        // The output's gain begins at zero.
        assert!(values(y).iter().all(|y| *y == 0.0));
    }
    // Three levels of blocks on both ways, and what resamples.
    assert_eq!(parts.len(), 9 + 13);
    for (name, found) in &parts {
        let mean = found.iter().sum::<f64>() / NETWORKS as f64;
        // Zeros around the 3×3 convolutions take some of it where maps are small.
        assert!((0.85..1.1).contains(&mean), "{name}: {mean} {parts:?}");
        assert!(
            found.iter().all(|m| (0.6..1.4).contains(m)),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn weights_act_by_their_direction_alone() {
    let device = Device::flex();
    let run = |scale: f32| {
        let net = network(&tiny(), &device);
        let moved = params::export(&net).into_iter().map(|(name, data)| {
            let shape = data.shape().to_vec();
            let mut values: Vec<f32> = data.try_to_vec().unwrap();
            if name.ends_with(".weight") {
                values.iter_mut().for_each(|x| *x *= scale);
            }
            if name.ends_with("_gain") {
                values.fill(0.5);
            }
            (name, shape, values)
        });
        let net = params::load(network(&tiny(), &device), moved).unwrap();
        let x = normal_tensor(0, [2, 2, 8, 8], &device);
        let t = Tensor::from_floats([0.3, -0.7], &device);
        values(net.forward(x, t, told(&[1, 3], &device), None).unwrap())
    };
    let y = run(1.0);
    // Of the order of the gain: the last layer keeps magnitudes too.
    assert!((0.2..0.8).contains(&magnitude(&y)), "{}", magnitude(&y));
    assert!(largest_difference(&y, &run(7.0)) < 2e-3);
}

#[test]
fn gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let forward = |net: &Edm2UNet, x: Tensor<4>| {
        let t = Tensor::from_floats([0.3, -0.7], &device);
        net.forward(x, t, told(&[1, 3], &device), None).unwrap()
    };
    let build = || network(&tiny(), &device);
    gradients_match_differences(build, forward, [2, 2, 8, 8], &device);
}

#[test]
fn configurations_round_trip_and_wrong_ones_name_their_key() {
    let (read, unknown) = Edm2Config::from_json(&tiny().to_json()).unwrap();
    assert_eq!((read, unknown), (tiny(), vec![]));
    let read =
        |key: &str, value: Value| Edm2Config::from_json(json!({ key: value }).as_object().unwrap());
    assert_eq!(read("colour", json!(1)).unwrap().1, ["colour"]);
    for (key, value, known) in [
        ("channel_mult", json!("a"), false),
        ("clip_act", json!("a"), false),
        ("channel_mult", json!([0]), true),
        ("num_blocks", json!(100), true),
        ("concat_balance", json!(1.5), true),
        ("clip_act", json!(-1.0), true),
        ("channels_per_head", json!(0), true),
        ("img_resolution", json!(7), true),
        ("_null_class", json!(true), true),
    ] {
        let got = match read(key, value).unwrap_err() {
            UnetError::Config { key, .. } if known => key,
            UnetError::Unsupported { key, .. } if !known => key,
            other => panic!("{other}"),
        };
        assert_eq!(got, key);
    }
}

#[test]
fn sections_build_networks_for_their_images() {
    let device = Device::flex();
    let shape = ModelShape {
        channels: 1,
        height: 12,
        width: 10,
        learned_variance: true,
        self_condition: false,
        steps: 10,
        condition: ConditionShape {
            classes: Some(4),
            ..ConditionShape::default()
        },
    };
    let section = Edm2Section {
        channels: 16,
        multipliers: vec![1, 2, 2],
        blocks: 1,
        head_dim: 16,
        pad: true,
        ..Edm2Section::default()
    };
    let model = ModelConfig::Edm2(section.clone())
        .build(shape, 1, &device)
        .unwrap();
    let Model::Edm2(net) = &model else {
        panic!("{model:?}");
    };
    let x = normal_tensor(0, [1, 1, 12, 10], &device);
    let t = Tensor::from_floats([0.1], &device);
    let y = net.forward(x, t, told(&[3], &device), None).unwrap();
    assert_eq!(y.dims(), [1, 2, 12, 10]);
    let numbers = ModelShape {
        condition: ConditionShape {
            vector: Some(2),
            ..shape.condition
        },
        ..shape
    };
    for (section, shape, words) in [
        (section.clone(), numbers, "2 numbers"),
        (
            Edm2Section {
                head_dim: 64,
                attention_at: Some(vec![6]),
                ..section.clone()
            },
            shape,
            "attention_at",
        ),
        (
            Edm2Section {
                pad: false,
                ..section
            },
            shape,
            "12x10",
        ),
    ] {
        let error = section.resolve(shape).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn unit_weights_draw_the_same_and_have_magnitude_one() {
    let device = Device::flex();
    let net = network(&tiny(), &device);
    // Of other magnitudes, as updates leave them.
    let scaled: Vec<_> = params::export(&net)
        .into_iter()
        .map(|(name, data)| {
            let shape = data.shape().to_vec();
            let factor = if shape.len() > 1 { 3.0 } else { 1.0 };
            let numbers: Vec<f32> = data.try_to_vec().unwrap();
            (name, shape, numbers.iter().map(|x| factor * x).collect())
        })
        .collect();
    let net = params::load(net, scaled).unwrap();
    let x = normal_tensor(5, [2, 2, 8, 8], &device);
    let t = Tensor::from_floats([0.3, -0.4], &device);
    let run = |net: &Edm2UNet| {
        let output = net.forward(x.clone(), t.clone(), told(&[0, 2], &device), None);
        values(output.unwrap())
    };
    let (before, unit) = (run(&net), net.with_unit_weights());
    assert!(largest_difference(&before, &run(&unit)) < 1e-5);
    for (name, data) in params::export(&unit) {
        if data.shape().len() > 1 {
            let numbers: Vec<f32> = data.try_to_vec().unwrap();
            assert!((magnitude(&numbers) - 1.0).abs() < 1e-3, "{name}");
        }
    }
}
