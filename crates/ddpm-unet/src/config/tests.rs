use serde_json::json;

use super::*;
use crate::testing::tiny_config;

fn read(json: Value) -> Result<(UNet2DConfig, Vec<String>), UnetError> {
    UNet2DConfig::from_json(json.as_object().unwrap())
}

#[test]
fn missing_keys_take_defaults_and_unknown_keys_are_listed() {
    assert_eq!(read(json!({})).unwrap(), (UNet2DConfig::default(), vec![]));
    let (config, unknown) = read(json!({
        "_class_name": "UNet2DModel", "in_channels": 1, "colour": "red", "freq_shift": 1,
        "act_fn": "swish", "attention_head_dim": null, "sample_size": [8, 16], "age": 3,
    }))
    .unwrap();
    let expected = UNet2DConfig {
        in_channels: 1,
        freq_shift: 1.0,
        attention_head_dim: None,
        sample_size: Some(SampleSize::HeightWidth([8, 16])),
        ..UNet2DConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(unknown, ["age", "colour"]);
}

#[test]
fn round_trips() {
    let config = UNet2DConfig {
        class_embed_type: Some(ClassEmbedKind::Timestep),
        mid_block_scale_factor: std::f64::consts::SQRT_2,
        mid_block_type: None,
        ..tiny_config()
    };
    let (read, unknown) = UNet2DConfig::from_json(&config.to_json()).unwrap();
    assert_eq!(read, config);
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn unsupported_values_name_their_key() {
    for (key, value) in [
        ("act_fn", json!("elu")),
        ("down_block_types", json!(["SkipDownBlock2D"])),
        ("up_block_types", json!("UpBlock2D")),
        ("mid_block_type", json!("UNetMidBlock2DCrossAttn")),
        ("time_embedding_type", json!("other")),
        ("resnet_time_scale_shift", json!("spatial")),
        ("class_embed_type", json!("projection")),
        ("downsample_type", json!("fir")),
        ("layers_per_block", json!(-1)),
        ("in_channels", json!(2.5)),
        ("norm_eps", json!(null)),
    ] {
        let error = read(json!({ key: value.clone() })).unwrap_err();
        let start = format!("config.json: `{key}` = {value} is not supported; supported: ");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn impossible_values_name_their_key() {
    for (json, key) in [
        (json!({"block_out_channels": []}), "block_out_channels"),
        (
            json!({"block_out_channels": [8, 0, 8, 8]}),
            "block_out_channels",
        ),
        (json!({"block_out_channels": [8, 8, 8]}), "down_block_types"),
        (json!({"up_block_types": ["UpBlock2D"]}), "up_block_types"),
        (json!({"in_channels": 0}), "in_channels"),
        (json!({"out_channels": 10_000_000}), "out_channels"),
        (json!({"norm_num_groups": 0}), "norm_num_groups"),
        (json!({"attention_head_dim": 0}), "attention_head_dim"),
        (json!({"downsample_padding": 2}), "downsample_padding"),
        (json!({"dropout": 1.0}), "dropout"),
        (json!({"norm_eps": 0.0}), "norm_eps"),
        (
            json!({"mid_block_scale_factor": 0}),
            "mid_block_scale_factor",
        ),
        (json!({"freq_shift": 112}), "freq_shift"),
        (
            json!({"block_out_channels": [u64::MAX, 8, 8, 8]}),
            "block_out_channels",
        ),
        (json!({"layers_per_block": 1_000_000}), "layers_per_block"),
        (json!({"sample_size": u64::MAX}), "sample_size"),
        (json!({"sample_size": [8, 0]}), "sample_size"),
        (
            json!({"time_embedding_type": "learned"}),
            "num_train_timesteps",
        ),
    ] {
        match read(json).unwrap_err() {
            UnetError::Config { key: got, .. } => assert_eq!(got, key),
            other => panic!("{key}: {other}"),
        }
    }
}
