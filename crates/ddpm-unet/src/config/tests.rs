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
        attention_head_dim: None,
        num_attention_heads: Some(2),
        time_features: Some(6),
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
        ("down_block_types", json!(["KDownBlock2D"])),
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
        (json!({"_num_attention_heads": 4}), "_num_attention_heads"),
        (json!({"_time_features": 0}), "_time_features"),
        (
            json!({"down_block_types": ["DownBlock2D", "DownBlock2D", "SkipDownBlock2D", "DownBlock2D"]}),
            "down_block_types",
        ),
        (
            json!({"up_block_types": ["UpBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D", "UpBlock2D"]}),
            "up_block_types",
        ),
        (
            json!({"in_channels": 1, "down_block_types": ["SkipDownBlock2D", "DownBlock2D", "DownBlock2D", "SkipDownBlock2D"]}),
            "in_channels",
        ),
        (
            json!({"out_channels": 1, "up_block_types": ["UpBlock2D", "UpBlock2D", "SkipUpBlock2D", "SkipUpBlock2D"]}),
            "out_channels",
        ),
    ] {
        match read(json).unwrap_err() {
            UnetError::Config { key: got, .. } => assert_eq!(got, key),
            other => panic!("{key}: {other}"),
        }
    }
}

#[test]
fn every_key_of_unet2d_is_heeded_or_refused() {
    // A value of each key that differs from its default; the levels need each other.
    let heeded = json!({
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "center_input_sample": true,
        "time_embedding_type": "fourier", "time_embedding_dim": 32, "freq_shift": 1, "flip_sin_to_cos": false,
        "down_block_types": ["DownBlock2D", "ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "mid_block_type": null,
        "up_block_types": ["UpBlock2D", "ResnetUpsampleBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "mid_block_scale_factor": 2,
        "downsample_padding": 0, "downsample_type": "resnet", "upsample_type": "resnet", "dropout": 0.1,
        "act_fn": "relu", "attention_head_dim": null, "norm_num_groups": 4, "attn_norm_num_groups": 4,
        "norm_eps": 1e-6, "resnet_time_scale_shift": "scale_shift", "add_attention": false,
        "class_embed_type": "timestep", "num_class_embeds": 10, "num_train_timesteps": 1000,
    });
    let heeded = heeded.as_object().unwrap();
    assert_eq!(heeded.len(), UNet2DConfig::default().to_json().len() - 1); // _class_name
    for (key, value) in heeded {
        let (config, unknown) = read(json!({ key: value })).unwrap();
        assert_ne!(config, UNet2DConfig::default(), "{key}");
        assert_eq!(unknown, Vec::<String>::new(), "{key}");
        // No key takes whatever it is given.
        let error = read(json!({ key: {"a": 1} })).unwrap_err();
        assert!(
            matches!(&error, UnetError::Unsupported { key: got, .. } if got == key),
            "{error}"
        );
    }
}

#[test]
fn old_block_names_lose_their_prefix_as_in_diffusers() {
    let (old, _) = read(json!({
        "down_block_types": ["UNetResDownBlock2D", "UNetResAttnDownBlock2D", "UNetResResnetDownsampleBlock2D", "DownBlock2D"],
        "up_block_types": ["UNetResUpBlock2D", "UNetResAttnUpBlock2D", "UNetResResnetUpsampleBlock2D", "UpBlock2D"],
    }))
    .unwrap();
    use DownBlockKind::{AttnDownBlock2D, DownBlock2D, ResnetDownsampleBlock2D};
    use UpBlockKind::{AttnUpBlock2D, ResnetUpsampleBlock2D, UpBlock2D};
    assert_eq!(
        old.down_block_types,
        [
            DownBlock2D,
            AttnDownBlock2D,
            ResnetDownsampleBlock2D,
            DownBlock2D
        ]
    );
    assert_eq!(
        old.up_block_types,
        [UpBlock2D, AttnUpBlock2D, ResnetUpsampleBlock2D, UpBlock2D]
    );
}

#[test]
fn notes_of_an_ema_are_no_unknown_keys() {
    let (_, unknown) = read(json!({
        "decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 9, "power": 0.75,
        "update_after_step": 0, "use_ema_warmup": true, "powder": 1,
    }))
    .unwrap();
    assert_eq!(unknown, ["powder"]);
}
