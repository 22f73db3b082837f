use burn::module::Module;
use burn::tensor::Device;
use ddpm_schedule::noise::{Stream, below};
use serde_json::json;

use super::*;
use crate::config::{
    ClassEmbedKind, DownBlockKind, MidBlockKind, ResampleStyle, TimeEmbeddingKind, TimeScaleShift,
    UpBlockKind,
};
use crate::edm::{EdmArchitecture, EdmConfig, EdmDecoder, EdmEmbedding, EdmEncoder, EdmUNet};
use crate::edm2::{Edm2Config, Edm2UNet};
use crate::init::{Init, InitKind};
use crate::lucidrains::{LucidrainsConfig, LucidrainsUNet};
use crate::model::{Model, PlainSection, UnetSection};
use crate::plain::PlainUNet;
use crate::unet::UNet2D;

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

/// Reproducible choices.
struct Choices {
    case: u64,
    next: u64,
}

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.next += 1;
        below(11, Stream::Synthetic, self.case, self.next, n as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A configuration of any kind of network, most of them possible.
fn any_unet(choices: &mut Choices) -> UNet2DConfig {
    let levels = 1 + choices.below(4);
    let width = choices.of(&[4, 8, 12]);
    let config = UNet2DConfig {
        in_channels: 1 + choices.below(4),
        out_channels: 1 + choices.below(4),
        time_embedding_type: choices.of(&[
            TimeEmbeddingKind::Positional,
            TimeEmbeddingKind::Fourier,
            TimeEmbeddingKind::Learned,
        ]),
        num_train_timesteps: Some(1 + choices.below(20)),
        time_embedding_dim: choices.of(&[None, Some(6)]),
        down_block_types: (0..levels)
            .map(|_| {
                choices.of(&[
                    DownBlockKind::DownBlock2D,
                    DownBlockKind::AttnDownBlock2D,
                    DownBlockKind::ResnetDownsampleBlock2D,
                ])
            })
            .collect(),
        up_block_types: (0..levels)
            .map(|_| {
                choices.of(&[
                    UpBlockKind::UpBlock2D,
                    UpBlockKind::AttnUpBlock2D,
                    UpBlockKind::ResnetUpsampleBlock2D,
                ])
            })
            .collect(),
        mid_block_type: choices.of(&[None, Some(MidBlockKind::UNetMidBlock2D)]),
        block_out_channels: (0..levels)
            .map(|_| width * (1 + choices.below(3)))
            .collect(),
        layers_per_block: 1 + choices.below(4),
        downsample_padding: choices.below(2),
        downsample_type: choices.of(&[ResampleStyle::Conv, ResampleStyle::Resnet]),
        upsample_type: choices.of(&[ResampleStyle::Conv, ResampleStyle::Resnet]),
        dropout: choices.of(&[0.0, 0.1]),
        attention_head_dim: choices.of(&[None, Some(3), Some(4), Some(30)]),
        norm_num_groups: choices.of(&[None, Some(2), Some(4), Some(5)]),
        attn_norm_num_groups: choices.of(&[None, Some(2)]),
        resnet_time_scale_shift: choices.of(&[TimeScaleShift::Default, TimeScaleShift::ScaleShift]),
        add_attention: choices.of(&[true, false]),
        class_embed_type: choices.of(&[
            None,
            None,
            Some(ClassEmbedKind::Timestep),
            Some(ClassEmbedKind::Identity),
        ]),
        num_class_embeds: choices.of(&[None, Some(7)]),
        time_features: choices.of(&[None, Some(10)]),
        ..UNet2DConfig::default()
    };
    match choices.below(3) {
        // Their attention has 32 groups.
        0 => UNet2DConfig {
            in_channels: 3,
            out_channels: 3,
            down_block_types: (0..levels)
                .map(|_| {
                    choices.of(&[
                        DownBlockKind::SkipDownBlock2D,
                        DownBlockKind::AttnSkipDownBlock2D,
                    ])
                })
                .collect(),
            up_block_types: (0..levels)
                .map(|_| choices.of(&[UpBlockKind::SkipUpBlock2D, UpBlockKind::AttnSkipUpBlock2D]))
                .collect(),
            block_out_channels: (0..levels).map(|_| 32 * (1 + choices.below(2))).collect(),
            ..config
        },
        1 => UNet2DConfig {
            attention_head_dim: None,
            num_attention_heads: choices.of(&[Some(1), Some(2), Some(5)]),
            ..config
        },
        _ => config,
    }
}

#[test]
fn parameters_are_those_of_the_built_network() {
    let device = Device::flex();
    let mut built = 0;
    for case in 0..400 {
        let config = any_unet(&mut Choices { case, next: 0 });
        let mut init = Init::new(0, InitKind::Zero, &device);
        let figures = Cost::of_unet(&config, [16, 8]);
        match UNet2D::new(&config, false, &mut init) {
            Ok(network) => {
                built += 1;
                let parameters = figures.unwrap().parameters;
                assert_eq!(parameters, network.num_params() as u128, "{config:?}");
                let json = Model::Unet(network).to_json();
                assert_eq!(parameters_of_json(&json).unwrap(), parameters);
            }
            // A configuration may be wrong in two places, which are found in another order.
            Err(error) => assert_eq!(key(&figures.unwrap_err()), key(&error), "{config:?}"),
        }
    }
    assert!((100..=350).contains(&built), "{built}");
}

fn key(error: &UnetError) -> bool {
    match error {
        UnetError::Config { .. } => true,
        other => panic!("{other}"),
    }
}

#[test]
fn parameters_of_the_plain_network() {
    let device = Device::flex();
    for case in 0..100 {
        let choices = &mut Choices { case, next: 0 };
        let channels = 1 + choices.below(4);
        let features: Vec<usize> = (0..1 + choices.below(4))
            .map(|_| 1 + choices.below(9))
            .collect();
        let mut init = Init::new(0, InitKind::Default, &device);
        let network = PlainUNet::new(channels, &features, 9, &mut init).unwrap();
        let figures = Cost::of_plain(channels, &features, [16, 19]).unwrap();
        assert_eq!(figures.parameters, network.num_params() as u128);
        assert_eq!(figures.levels.len(), features.len() + 1);
        let json = Model::Plain(network).to_json();
        assert_eq!(parameters_of_json(&json).unwrap(), figures.parameters);
    }
}

/// 35.7 M parameters and 6.1 G multiplications; 113.7 M and 248.7 G (Fang et al. 2023, tables 1 and 2). Programs
/// that count differ in what of attention they count, hence 3 %.
#[test]
fn networks_of_ho_et_al_have_the_published_figures() {
    let cifar = UnetSection::default();
    let large = UnetSection {
        multipliers: vec![1, 1, 2, 2, 4, 4],
        ..cifar.clone()
    };
    for (section, side, parameters, giga) in [
        (cifar, 32, 35_746_307, 6.1),
        (large, 256, 113_673_219, 248.7),
    ] {
        let figures = Cost::of(&ModelConfig::Unet(section), shape(3, side, side)).unwrap();
        assert_eq!(figures.parameters, parameters);
        let got = figures.multiplications as f64 * 1e-9;
        assert!((got - giga).abs() < 0.03 * giga, "{got}");
    }
}

#[test]
fn a_small_network_by_hand() {
    let figures = Cost::of_plain(1, &[2], [4, 4]).unwrap();
    let encoder = 16 * (2 * 2 * 9 + 2 * 2 * 9);
    let bottleneck = 4 * (2 * 4 * 9 + 4 * 4 * 9);
    let up = 4 * (4 * 2 * 4);
    let decoder = 16 * (4 * 2 * 9 + 2 * 2 * 9);
    let out = 16 * 2;
    assert_eq!(
        figures.multiplications,
        encoder + bottleneck + up + decoder + out
    );
    // Inputs of the first convolutions, both results of ReLU, and the places of the maxima.
    let kept = 16 * (2 + 2 + 2) + 4 * 2 + 4 * (2 + 4 + 4) + 16 * (4 + 2 + 2);
    assert_eq!(figures.kept, kept);
    assert_eq!(figures.widest, 16 * 2);
}

#[test]
fn attention_is_counted_by_level() {
    let section = UnetSection {
        channels: 16,
        multipliers: vec![1, 2],
        blocks: 1,
        attention_at: Some(vec![8]),
        head_dim: Some(8),
        groups: 4,
        ..UnetSection::default()
    };
    let figures = Cost::of(&ModelConfig::Unet(section), shape(1, 16, 16)).unwrap();
    let [first, second] = &figures.levels[..] else {
        panic!("{figures:?}");
    };
    assert_eq!(first.attention, None);
    assert_eq!((second.height, second.width, second.channels), (8, 8, 32));
    let attention = second.attention.as_ref().unwrap();
    // One on the way down, one in the middle, two on the way up.
    assert_eq!(
        (attention.blocks, attention.tokens, attention.heads),
        (4, 64, 4)
    );
    assert_eq!(
        attention.multiplications,
        4 * (64 * 4 * 32 * 32 + 2 * 64 * 64 * 32)
    );
    let share = figures.share(attention);
    assert!(share > 0.0 && share < 0.5, "{share}");
}

#[test]
fn absurd_sizes_do_not_overflow() {
    let most = 1 << 20;
    let levels = 12;
    let config = UNet2DConfig {
        in_channels: most,
        out_channels: most,
        block_out_channels: vec![most; levels],
        down_block_types: vec![DownBlockKind::AttnDownBlock2D; levels],
        up_block_types: vec![UpBlockKind::AttnUpBlock2D; levels],
        layers_per_block: 64,
        time_embedding_dim: Some(most),
        num_class_embeds: Some(most),
        ..UNet2DConfig::default()
    };
    let figures = Cost::of_unet(&config, [usize::MAX, usize::MAX]).unwrap();
    // 12 levels of 64 blocks and more, with some 30 products of 2^40 each.
    assert!(figures.parameters > (12 * 64 * 30) << 40, "{figures:?}");
    assert!(figures.parameters < u128::MAX);
    assert_eq!(figures.multiplications, u128::MAX);

    let wide = Cost::of_plain(4, &[1 << 16; 12], [usize::MAX, 1 << 12]).unwrap();
    assert!(wide.parameters > 1 << 36 && wide.parameters < u128::MAX);
    assert!(wide.multiplications > wide.parameters);
}

#[test]
fn sections_that_no_network_has_are_refused() {
    for (model, [height, width], words) in [
        (
            ModelConfig::Unet(UnetSection {
                channels: 10_000_000,
                ..UnetSection::default()
            }),
            [32, 32],
            "model.channels",
        ),
        (
            ModelConfig::Unet(UnetSection {
                groups: 5,
                ..UnetSection::default()
            }),
            [32, 32],
            "groups",
        ),
        (ModelConfig::Unet(UnetSection::default()), [28, 28], "28x28"),
        (
            ModelConfig::Plain(PlainSection::default()),
            [8, 8],
            "sides of at least 16",
        ),
        (
            ModelConfig::Plain(PlainSection { features: vec![] }),
            [8, 8],
            "features",
        ),
    ] {
        let counted = Cost::of(&model, shape(3, height, width)).unwrap_err();
        assert!(counted.to_string().contains(words), "{counted}");
        let built = model.build(shape(3, height, width), 0, &Device::flex());
        assert_eq!(built.unwrap_err(), counted);
    }
    let other = json!({"_class_name": "Transformer2DModel"});
    assert!(parameters_of_json(other.as_object().unwrap()).is_err());
}

/// What blocks that are computed again read and leave, and the inside of the widest: the last of the up path.
#[test]
fn a_recomputed_network_by_hand() {
    let section = UnetSection {
        channels: 8,
        multipliers: vec![1, 2],
        blocks: 1,
        attention_at: Some(vec![]),
        groups: 4,
        dropout: 0.0,
        ..UnetSection::default()
    };
    let of = |dropout| {
        let model = ModelConfig::Unet(UnetSection {
            dropout,
            ..section.clone()
        });
        Cost::of(&model, shape(3, 16, 16)).unwrap()
    };
    let (large, small) = (16 * 16, 8 * 8);
    let skips = large * (8 + 8) + small * (8 + 16);
    let left = small * 16 + large * (16 + 8);
    // Two blocks: 16 + 8 and 8 + 8 channels come in, 8 are between the convolutions.
    let inside = large * (24 + 8 + 16 + 8);
    assert_eq!(of(0.0).recomputed, skips + left + inside);
    let dropped = large * 2 * (8 + 8);
    assert_eq!(of(0.1).recomputed, skips + left + inside + dropped);
    assert!(of(0.0).kept > of(0.0).recomputed);
}

#[test]
fn parameters_of_networks_of_edm() {
    let device = Device::flex();
    let mut built = 0;
    for case in 0..200 {
        let choices = &mut Choices { case, next: 0 };
        let levels = 1 + choices.below(3);
        let base = EdmConfig {
            img_resolution: 16,
            in_channels: 1 + choices.below(3),
            out_channels: 1 + choices.below(3),
            label_dim: choices.of(&[0, 5]),
            augment_dim: choices.of(&[0, 3]),
            model_channels: choices.of(&[4, 6, 32, 68]),
            channel_mult: (0..levels).map(|_| 1 + choices.below(3)).collect(),
            channel_mult_emb: 1 + choices.below(4),
            num_blocks: 1 + choices.below(3),
            attn_resolutions: vec![choices.of(&[16, 8, 5])],
            ..EdmConfig::of(EdmArchitecture::SongUNet)
        };
        let config = match choices.below(3) {
            0 => EdmConfig {
                model_type: EdmArchitecture::DhariwalUNet,
                ..base
            },
            _ => EdmConfig {
                embedding_type: choices.of(&[EdmEmbedding::Positional, EdmEmbedding::Fourier]),
                channel_mult_noise: 1 + choices.below(2),
                encoder_type: choices.of(&[
                    EdmEncoder::Standard,
                    EdmEncoder::Skip,
                    EdmEncoder::Residual,
                ]),
                decoder_type: choices.of(&[EdmDecoder::Standard, EdmDecoder::Skip]),
                resample_filter: choices
                    .of(&[&[1.0, 1.0][..], &[1.0, 3.0, 3.0, 1.0]])
                    .to_vec(),
                ..base
            },
        };
        let mut init = Init::new(0, InitKind::Default, &device);
        let figures = Cost::of_edm(&config, [16, 16]);
        match EdmUNet::new(&config, &mut init) {
            Ok(network) => {
                built += 1;
                let figures = figures.unwrap();
                assert_eq!(
                    figures.parameters,
                    network.num_params() as u128,
                    "{config:?}"
                );
                assert!(figures.multiplications > figures.parameters);
                let json = Model::Edm(network).to_json();
                assert_eq!(parameters_of_json(&json).unwrap(), figures.parameters);
            }
            Err(error) => assert_eq!(key(&figures.unwrap_err()), key(&error), "{config:?}"),
        }
    }
    assert!((100..200).contains(&built), "{built}");
}

#[test]
fn parameters_of_networks_of_edm2() {
    let device = Device::flex();
    for case in 0..100 {
        let choices = &mut Choices { case, next: 0 };
        let levels = 1 + choices.below(3);
        let config = Edm2Config {
            img_resolution: 16,
            in_channels: 1 + choices.below(3),
            out_channels: 1 + choices.below(3),
            label_dim: choices.of(&[0, 5]),
            model_channels: choices.of(&[6, 8, 12]),
            channel_mult: (0..levels).map(|_| 1 + choices.below(3)).collect(),
            channel_mult_noise: choices.of(&[None, Some(2)]),
            channel_mult_emb: choices.of(&[None, Some(3)]),
            num_blocks: 1 + choices.below(3),
            attn_resolutions: vec![choices.of(&[16, 8, 5])],
            channels_per_head: choices.of(&[6, 8, 64]),
            ..Edm2Config::default()
        };
        let mut init = Init::new(0, InitKind::Default, &device);
        match Edm2UNet::new(&config, &mut init) {
            Ok(network) => {
                let figures = Cost::of_edm2(&config, [16, 16]).unwrap();
                assert_eq!(
                    figures.parameters,
                    network.num_params() as u128,
                    "{config:?}"
                );
                let json = Model::Edm2(network).to_json();
                assert_eq!(parameters_of_json(&json).unwrap(), figures.parameters);
            }
            Err(error) => assert_eq!(Cost::of_edm2(&config, [16, 16]).unwrap_err(), error),
        }
    }
}

#[test]
fn parameters_of_networks_of_lucidrains() {
    let device = Device::flex();
    for case in 0..100 {
        let choices = &mut Choices { case, next: 0 };
        let levels = 1 + choices.below(3);
        let config = LucidrainsConfig {
            in_channels: 1 + choices.below(3),
            out_channels: 1 + choices.below(3),
            dim: choices.of(&[4, 5, 8]),
            init_dim: choices.of(&[4, 7]),
            dim_mults: (0..levels).map(|_| 1 + choices.below(3)).collect(),
            full_attn: (0..levels).map(|_| choices.below(2) == 1).collect(),
            attn_heads: (0..levels).map(|_| 1 + choices.below(3)).collect(),
            attn_dim_head: (0..levels).map(|_| choices.below(4)).collect(),
            learned_sinusoidal_dim: choices.of(&[0, 6]),
            ..LucidrainsConfig::default()
        };
        let mut init = Init::new(0, InitKind::Default, &device);
        match LucidrainsUNet::new(&config, &mut init) {
            Ok(network) => {
                let figures = Cost::of_lucidrains(&config, [16, 16]).unwrap();
                let built = network.num_params() as u128;
                assert_eq!(figures.parameters, built, "{config:?}");
                let json = Model::Lucidrains(network).to_json();
                assert_eq!(parameters_of_json(&json).unwrap(), figures.parameters);
            }
            Err(error) => {
                assert_eq!(Cost::of_lucidrains(&config, [16, 16]).unwrap_err(), error);
            }
        }
    }
}

/// 55.7 M for DDPM++ on CIFAR-10 and 295.9 M for ADM on ImageNet-64 (Karras et al. 2022, table 2 and its networks), 280.2 M
/// for EDM2-S without its uncertainty (Karras et al. 2024, table 2).
#[test]
fn networks_of_karras_et_al_have_the_published_figures() {
    let ddpmpp = EdmConfig {
        augment_dim: 9,
        channel_mult: vec![2, 2, 2],
        ..EdmConfig::of(EdmArchitecture::SongUNet)
    };
    let adm = EdmConfig {
        img_resolution: 64,
        label_dim: 1000,
        ..EdmConfig::of(EdmArchitecture::DhariwalUNet)
    };
    let edm2 = Edm2Config {
        in_channels: 4,
        out_channels: 4,
        label_dim: 1000,
        ..Edm2Config::default()
    };
    let parameters = [
        Cost::of_edm(&ddpmpp, [32, 32]).unwrap().parameters,
        Cost::of_edm(&adm, [64, 64]).unwrap().parameters,
        Cost::of_edm2(&edm2, [64, 64]).unwrap().parameters,
    ];
    for (got, millions) in parameters.iter().zip([55.7, 295.9, 280.2]) {
        let got = *got as f64 * 1e-6;
        assert!((got - millions).abs() < 0.1, "{parameters:?}");
    }
}
