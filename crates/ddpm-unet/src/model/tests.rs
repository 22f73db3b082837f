use burn::tensor::Device;

use super::*;
use crate::params;

fn shape(channels: usize, height: usize, width: usize) -> ModelShape {
    ModelShape {
        channels,
        height,
        width,
        learned_variance: false,
        self_condition: false,
        steps: 1000,
        condition: Default::default(),
    }
}

/// Parameters of the network, without making their values.
fn count(section: &UnetSection, shape: ModelShape) -> usize {
    let config = section.resolve(shape).unwrap();
    let net = UNet2D::new(
        &config,
        section.pad,
        &mut Init::new(0, section.init, &Device::flex()),
    );
    params::shapes(&net.unwrap())
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

#[test]
fn networks_of_ho_et_al_have_the_published_sizes() {
    let cifar = UnetSection::default();
    assert_eq!(count(&cifar, shape(3, 32, 32)), 35_746_307);
    let large = UnetSection {
        multipliers: vec![1, 1, 2, 2, 4, 4],
        ..cifar
    };
    assert_eq!(count(&large, shape(3, 256, 256)), 113_673_219);
}

#[test]
fn attention_goes_where_the_longer_side_says() {
    use DownBlockKind::{AttnDownBlock2D as Attn, DownBlock2D as Plain};
    let section = |attention_at: Option<&[usize]>, pad| UnetSection {
        attention_at: attention_at.map(<[usize]>::to_vec),
        pad,
        ..UnetSection::default()
    };
    for (attention_at, [height, width], pad, expected) in [
        (
            Some(&[16][..]),
            [32, 32],
            false,
            [Plain, Attn, Plain, Plain],
        ),
        (Some(&[32, 4]), [32, 32], false, [Attn, Plain, Plain, Attn]),
        (Some(&[]), [32, 32], false, [Plain; 4]),
        (Some(&[8]), [16, 32], false, [Plain, Plain, Attn, Plain]),
        (Some(&[16]), [28, 28], true, [Plain, Attn, Plain, Plain]),
        // Without a word the images' size decides.
        (None, [32, 32], false, [Plain, Attn, Plain, Plain]),
        (None, [28, 28], true, [Plain, Attn, Plain, Plain]),
        (None, [24, 24], false, [Plain, Attn, Plain, Plain]),
        (None, [8, 8], false, [Attn, Plain, Plain, Plain]),
        (None, [64, 128], false, [Plain, Plain, Plain, Attn]),
        (None, [256, 256], false, [Plain; 4]),
    ] {
        let config = section(attention_at, pad)
            .resolve(shape(1, height, width))
            .unwrap();
        assert_eq!(config.down_block_types, expected);
        let mirrored: Vec<bool> = config
            .up_block_types
            .iter()
            .rev()
            .map(|kind| *kind == UpBlockKind::AttnUpBlock2D)
            .collect();
        assert_eq!(mirrored, expected.map(|kind| kind == Attn));
    }
}

#[test]
fn sections_that_fit_no_network_are_refused() {
    let default = UnetSection::default;
    for (section, [height, width], expected) in [
        (
            UnetSection {
                attention_at: Some(vec![7]),
                ..default()
            },
            [32, 32],
            "`model.attention_at` = 7: the levels of this network have sides [32, 16, 8, 4]",
        ),
        (default(), [28, 28], "28x28 images do not fit 4 levels"),
        (
            UnetSection {
                multipliers: vec![],
                ..default()
            },
            [32, 32],
            "`model.multipliers` = []",
        ),
        (
            UnetSection {
                multipliers: vec![1; 13],
                ..default()
            },
            [32, 32],
            "`model.multipliers`",
        ),
        (
            UnetSection {
                channels: 0,
                ..default()
            },
            [32, 32],
            "`block_out_channels` = 0",
        ),
        (
            UnetSection {
                channels: usize::MAX,
                ..default()
            },
            [32, 32],
            "`model.channels` = 18446744073709551615: times the largest",
        ),
        (
            UnetSection {
                blocks: 0,
                ..default()
            },
            [32, 32],
            "`layers_per_block` = 0",
        ),
        (
            UnetSection {
                dropout: 1.0,
                ..default()
            },
            [32, 32],
            "`dropout` = 1",
        ),
    ] {
        let error = section
            .resolve(shape(3, height, width))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn groups_and_heads_must_fit_the_channels() {
    let default = UnetSection::default;
    for section in [
        UnetSection {
            groups: 3,
            ..default()
        },
        UnetSection {
            head_dim: Some(1000),
            ..default()
        },
    ] {
        let built = ModelConfig::Unet(section).build(shape(3, 32, 32), 0, &Device::flex());
        assert!(matches!(built, Err(UnetError::Config { .. })));
    }
}
