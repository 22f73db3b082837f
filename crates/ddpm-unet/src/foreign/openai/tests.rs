use std::collections::BTreeMap;

use burn::tensor::Device;
use serde_json::Value;

use super::*;
use crate::init::{Init, InitKind};
use crate::params;
use crate::unet::UNet2D;

/// The tensors of a network whose values are where they lie: name and shape from the reference figures.
fn tensors(set: &str) -> Vec<Named> {
    let file = format!(
        "{}/../../tests/golden/data/unet2/{set}/grads.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let listed = file["state_dict"].as_array().unwrap().iter();
    listed
        .map(|entry| {
            let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
            let data = (0..shape.iter().product::<usize>()).map(|i| i as f32);
            (
                entry["name"].as_str().unwrap().to_owned(),
                shape,
                data.collect(),
            )
        })
        .collect()
}

const PLAIN: OpenAi = OpenAi {
    num_heads: Some(4),
    num_head_channels: None,
    new_attention_order: true,
    image_size: None,
};

#[test]
fn configurations_are_read_off_names_and_shapes() {
    let adm = OpenAi {
        num_head_channels: Some(16),
        image_size: Some(16),
        ..OpenAi::default()
    };
    let (config, _) = network(tensors("guided_adm"), adm).unwrap();
    let expected = UNet2DConfig {
        sample_size: Some(SampleSize::Square(16)),
        out_channels: 6,
        block_out_channels: vec![32, 64],
        down_block_types: vec![
            DownBlockKind::ResnetDownsampleBlock2D,
            DownBlockKind::AttnDownBlock2D,
        ],
        up_block_types: vec![
            UpBlockKind::AttnUpBlock2D,
            UpBlockKind::ResnetUpsampleBlock2D,
        ],
        layers_per_block: 1,
        downsample_type: ResampleStyle::Resnet,
        upsample_type: ResampleStyle::Resnet,
        attention_head_dim: Some(16),
        attn_norm_num_groups: Some(32),
        resnet_time_scale_shift: TimeScaleShift::ScaleShift,
        num_class_embeds: Some(7),
        ..UNet2DConfig::default()
    };
    assert_eq!(config, expected);

    let (config, _) = network(tensors("guided_plain"), PLAIN).unwrap();
    let expected = UNet2DConfig {
        block_out_channels: vec![32, 64],
        down_block_types: vec![DownBlockKind::AttnDownBlock2D; 2],
        up_block_types: vec![UpBlockKind::AttnUpBlock2D; 2],
        layers_per_block: 2,
        attention_head_dim: None,
        num_attention_heads: Some(4),
        attn_norm_num_groups: Some(32),
        ..UNet2DConfig::default()
    };
    assert_eq!(config, expected);
    // One head says diffusers too.
    let one = OpenAi {
        num_heads: Some(1),
        ..PLAIN
    };
    let (config, _) = network(tensors("guided_plain"), one).unwrap();
    assert_eq!(
        (config.attention_head_dim, config.num_attention_heads),
        (None, None)
    );
}

#[test]
fn parameters_are_those_of_the_configuration() {
    for (set, options) in [
        ("guided_plain", PLAIN),
        (
            "guided_adm",
            OpenAi {
                num_head_channels: Some(16),
                ..OpenAi::default()
            },
        ),
    ] {
        let (config, parameters) = network(tensors(set), options).unwrap();
        let mut init = Init::new(0, InitKind::Zero, &Device::flex());
        let net = UNet2D::new(&config, false, &mut init).unwrap();
        let expected: BTreeMap<_, _> = params::shapes(&net).into_iter().collect();
        let got: BTreeMap<_, _> = parameters
            .iter()
            .map(|(name, shape, _)| (name.clone(), shape.clone()))
            .collect();
        assert_eq!(got, expected, "{set}");
    }
}

#[test]
fn rows_go_to_queries_keys_and_values_by_either_order() {
    let rows = |new_attention_order: bool| {
        let options = OpenAi {
            new_attention_order,
            ..PLAIN
        };
        let (_, parameters) = network(tensors("guided_plain"), options).unwrap();
        ["q", "k", "v"].map(|part| {
            let name = format!("mid_block.attentions.0.to_{part}.bias");
            let (_, _, data) = parameters
                .iter()
                .find(|(n, ..)| *n == name)
                .unwrap()
                .clone();
            data
        })
    };
    let numbers = |ranges: &[std::ops::Range<usize>]| -> Vec<f32> {
        ranges.iter().cloned().flatten().map(|i| i as f32).collect()
    };
    assert_eq!(
        rows(true),
        [0..64, 64..128, 128..192].map(|range| numbers(&[range]))
    );
    // Four heads of 16, each with its own three.
    let legacy = [0, 16, 32].map(|part| {
        let heads = [0, 48, 96, 144].map(|head| head + part..head + part + 16);
        numbers(&heads)
    });
    assert_eq!(rows(false), legacy);
}

#[test]
fn a_wider_embedding_of_time_is_told() {
    // As guided-diffusion's network for 512×512, whose first level has half of `model_channels`.
    let wide = tensors("guided_adm")
        .into_iter()
        .map(|(name, shape, data)| match name.as_str() {
            "time_embed.0.weight" => (name, vec![128, 64], vec![0.0; 128 * 64]),
            _ => (name, shape, data),
        });
    let options = OpenAi {
        num_head_channels: Some(16),
        ..OpenAi::default()
    };
    let (config, _) = network(wide, options).unwrap();
    assert_eq!(config.time_features, Some(64));
    assert_eq!(config.temb_channels(), 128);
}

#[test]
fn what_does_not_fit_is_named() {
    let without = |name: &str| -> Vec<Named> {
        let all = tensors("guided_plain").into_iter();
        all.filter(|(n, ..)| !n.starts_with(name)).collect()
    };
    let with = |tensor: Named| -> Vec<Named> {
        let all = tensors("guided_plain").into_iter();
        all.filter(|(n, ..)| *n != tensor.0)
            .chain([tensor.clone()])
            .collect()
    };
    let shaped = |name: &str, shape: &[usize]| -> Named {
        (
            name.into(),
            shape.to_vec(),
            vec![0.0; shape.iter().product()],
        )
    };
    for (tensors, words) in [
        (
            without("output_blocks"),
            "`output_blocks.0.0.in_layers.0.weight` is missing",
        ),
        (
            without("input_blocks.5.1.qkv.weight"),
            "`input_blocks.5.1.qkv.weight` is missing",
        ),
        (
            without("output_blocks.3"),
            "`output_blocks.2` is the last of 3",
        ),
        (
            without("middle_block.1.proj_out.bias"),
            "`middle_block.1.proj_out.bias` is missing",
        ),
        (
            without("input_blocks.3.0.op.bias"),
            "`input_blocks.3.0.op.bias` is missing",
        ),
        (with(shaped("ema", &[1])), "`ema` is no tensor of"),
        (
            with(shaped("middle_block.1.qkv.weight", &[192, 64, 3])),
            "`middle_block.1.qkv.weight` has the shape",
        ),
        (
            with(shaped("input_blocks.0.0.weight", &[16, 3, 3, 3])),
            "`input_blocks.0.0.weight` has 16 channels",
        ),
        (
            with(shaped("time_embed.0.weight", &[128])),
            "`time_embed.0.weight` has the shape [128]",
        ),
        (
            with(("out.0.bias".into(), vec![2], vec![0.0])),
            "`out.0.bias` has 1 values",
        ),
    ] {
        let error = network(tensors, PLAIN).unwrap_err();
        assert!(matches!(error, UnetError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for (options, words) in [
        (OpenAi::default(), "give num_heads or num_head_channels"),
        (
            OpenAi {
                num_heads: Some(5),
                ..PLAIN
            },
            "`num_heads` = 5",
        ),
        (
            OpenAi {
                num_head_channels: Some(0),
                ..PLAIN
            },
            "`num_head_channels` = 0",
        ),
    ] {
        let error = network(tensors("guided_plain"), options)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}
