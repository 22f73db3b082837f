use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor};
use serde_json::{Map, Value, json};

use super::*;
use crate::init::InitKind;
use crate::model::{ConditionShape, Model, ModelConfig, ModelShape};
use crate::params;
use crate::testing::{gradients_match_differences, largest_difference, normal_tensor, values};

fn object(json: Value) -> Map<String, Value> {
    json.as_object().unwrap().clone()
}

/// A small network of each kind, with classes and augmentations.
fn configs() -> Vec<EdmConfig> {
    let base = EdmConfig {
        img_resolution: 8,
        in_channels: 2,
        out_channels: 1,
        label_dim: 3,
        augment_dim: 2,
        model_channels: 4,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        dropout: 0.0,
        null_class: true,
        ..EdmConfig::of(EdmArchitecture::SongUNet)
    };
    let ncsnpp = EdmConfig {
        embedding_type: EdmEmbedding::Fourier,
        channel_mult_noise: 2,
        encoder_type: EdmEncoder::Residual,
        resample_filter: vec![1.0, 3.0, 3.0, 1.0],
        ..base.clone()
    };
    let skips = EdmConfig {
        encoder_type: EdmEncoder::Skip,
        decoder_type: EdmDecoder::Skip,
        ..ncsnpp.clone()
    };
    let adm = EdmConfig {
        model_channels: 32,
        ..EdmConfig {
            model_type: EdmArchitecture::DhariwalUNet,
            ..base.clone()
        }
    };
    vec![base, ncsnpp, skips, adm]
}

fn network(config: &EdmConfig, device: &Device) -> EdmUNet {
    EdmUNet::new(config, &mut Init::new(3, InitKind::Default, device)).unwrap()
}

fn told(labels: &[i64], augment: Option<Tensor<2>>, device: &Device) -> NetworkCondition {
    let labels = Tensor::<1, Int>::from_data(labels, device);
    NetworkCondition {
        labels: Some(ClassLabels::Index(labels)),
        vector: augment,
    }
}

#[test]
fn parameters_have_the_names_and_shapes_of_edm() {
    for set in ["edm_ddpmpp", "edm_ncsnpp", "edm_adm"] {
        let file = format!(
            "{}/../../tests/golden/data/unet2/{set}/grads.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let config = crate::foreign::edm::config(&object(file["config"].clone())).unwrap();
        let ours: BTreeMap<String, Vec<usize>> = params::shapes(&network(&config, &Device::flex()))
            .into_iter()
            .collect();
        let listed = file["state_dict"].as_array().unwrap().iter();
        let theirs: BTreeMap<String, Vec<usize>> = listed
            .map(|entry| {
                let name = entry["name"]
                    .as_str()
                    .unwrap()
                    .strip_prefix("model.")
                    .unwrap();
                let shape = serde_json::from_value(entry["shape"].clone()).unwrap();
                (name.to_owned(), shape)
            })
            .filter(|(name, _)| !name.ends_with(".resample_filter"))
            .collect();
        assert_eq!(ours, theirs, "{set}");
    }
}

#[test]
fn the_null_class_is_no_class_and_no_augmentation_is_zeros() {
    let device = Device::flex();
    for config in configs() {
        let mut net = network(&config, &device);
        // Branches and augmentations that begin at zero.
        let parameters = params::export(&net)
            .into_iter()
            .zip(100..)
            .map(|((name, data), i)| {
                let shape = data.shape().to_vec();
                let values = crate::testing::normal(i, shape.iter().product());
                (name, shape, values.into_iter().map(|z| 0.2 * z).collect())
            });
        let parameters: Vec<(String, Vec<usize>, Vec<f32>)> = parameters.collect();
        net = params::load(net, parameters.clone()).unwrap();
        let x = normal_tensor(0, [2, 2, 8, 8], &device);
        let t = Tensor::from_floats([0.3, -0.7], &device);
        let run = |net: &EdmUNet, labels: &[i64], augment: Option<Tensor<2>>| {
            let condition = told(labels, augment, &device);
            values(net.forward(x.clone(), t.clone(), condition, None).unwrap())
        };
        let without = run(&net, &[3, 3], None);
        assert_eq!(
            run(&net, &[3, 3], Some(Tensor::zeros([2, 2], &device))),
            without
        );
        let ones = run(&net, &[3, 3], Some(Tensor::ones([2, 2], &device)));
        assert!(largest_difference(&ones, &without) > 1e-3, "{config:?}");
        assert!(largest_difference(&run(&net, &[0, 2], None), &without) > 1e-3);

        // A network whose classes have no weight does not tell them from none.
        let deaf = parameters.into_iter().map(|(name, shape, mut data)| {
            if name == "map_label.weight" {
                data.fill(0.0);
            }
            (name, shape, data)
        });
        let deaf = params::load(network(&config, &device), deaf).unwrap();
        let same = largest_difference(&run(&deaf, &[0, 2], None), &without);
        assert!(same < 1e-6, "{same}");
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    for config in configs() {
        let forward = |net: &EdmUNet, x: Tensor<4>| {
            let t = Tensor::from_floats([0.3, -0.7], &device);
            let augment = normal_tensor(7, [2, 2], &device);
            let condition = told(&[1, 3], Some(augment), &device);
            net.forward(x, t, condition, None).unwrap()
        };
        let build = || network(&config, &device);
        gradients_match_differences(build, forward, [2, 2, 8, 8], &device);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::flex();
    let [ddpmpp, ..] = &configs()[..] else {
        panic!()
    };
    let net = network(ddpmpp, &device);
    let forward = |x: [usize; 4], t: usize, condition: NetworkCondition| {
        let (x, t) = (normal_tensor(0, x, &device), normal_tensor(1, [t], &device));
        match net.forward(x, t, condition, None) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    let right = || told(&[0, 1], None, &device);
    let wide = Some(Tensor::zeros([2, 5], &device));
    let embedding = Some(ClassLabels::Embedding(Tensor::zeros([2, 3], &device)));
    for (x, t, condition, words) in [
        ([2, 2, 8, 8], 2, right(), ""),
        ([2, 1, 8, 8], 2, right(), "input `x`"),
        ([2, 2, 8, 8], 1, right(), "input `t`"),
        ([2, 2, 7, 8], 2, right(), "7x8"),
        ([2, 2, 8, 8], 2, told(&[0], None, &device), "`class_labels`"),
        (
            [2, 2, 8, 8],
            2,
            NetworkCondition::default(),
            "give `class_labels`",
        ),
        (
            [2, 2, 8, 8],
            2,
            NetworkCondition::of_labels(embedding),
            "not embeddings",
        ),
        ([2, 2, 8, 8], 2, told(&[0, 1], wide, &device), "`vector`"),
    ] {
        let error = forward(x, t, condition);
        assert_eq!(error.is_empty(), words.is_empty(), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn configurations_round_trip_and_wrong_ones_name_their_key() {
    for config in configs() {
        let (read, unknown) = EdmConfig::from_json(&config.to_json()).unwrap();
        assert_eq!(read, config);
        assert_eq!(unknown, Vec::<String>::new());
    }
    let song = |key: &str, value: Value| {
        EdmConfig::from_json(&object(json!({"model_type": "SongUNet", key: value})))
    };
    assert_eq!(song("colour", json!(1)).unwrap().1, ["colour"]);
    for (key, value, supported) in [
        ("model_type", json!("UNet"), false),
        ("channel_mult", json!("a"), false),
        ("embedding_type", json!("other"), false),
        ("dropout", json!(1.0), true),
        ("channel_mult", json!([]), true),
        ("num_blocks", json!(0), true),
        ("model_channels", json!(u64::MAX), true),
        ("img_resolution", json!(4), true),
        ("resample_filter", json!([1, 2, 1]), true),
        ("resample_filter", json!([1, -1]), true),
        ("_null_class", json!(true), true),
    ] {
        let got = match song(key, value).unwrap_err() {
            UnetError::Config { key, .. } if supported => key,
            UnetError::Unsupported { key, .. } if !supported => key,
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
        learned_variance: false,
        self_condition: true,
        steps: 10,
        condition: ConditionShape {
            classes: Some(4),
            null_class: true,
            vector: Some(3),
            picture_channels: 1,
        },
    };
    for arch in [EdmArch::Ddpmpp, EdmArch::Ncsnpp, EdmArch::Adm] {
        let section = EdmSection {
            arch,
            channels: 32,
            multipliers: vec![1, 2, 2],
            blocks: 1,
            pad: true,
            ..EdmSection::default()
        };
        let model = ModelConfig::Edm(section.clone())
            .build(shape, 1, &device)
            .unwrap();
        let Model::Edm(net) = &model else {
            panic!("{model:?}");
        };
        assert_eq!(
            model.conditioning(),
            crate::Conditioning::Classes {
                count: 4,
                null: Some(4)
            }
        );
        let x = normal_tensor(0, [1, 3, 12, 10], &device);
        let t = Tensor::from_floats([0.1], &device);
        let condition = told(&[4], Some(Tensor::ones([1, 3], &device)), &device);
        let y = net.forward(x, t, condition, None).unwrap();
        assert_eq!(y.dims(), [1, 1, 12, 10]);
        let elsewhere = EdmSection {
            attention_at: Some(vec![5]),
            ..section.clone()
        };
        let error = elsewhere.resolve(shape).unwrap_err().to_string();
        assert!(error.contains("attention_at"), "{error}");
        let headless = EdmSection {
            attention_at: Some(vec![12]),
            ..section
        };
        assert_eq!(headless.resolve(shape).is_err(), arch == EdmArch::Adm);
    }
}
