//! `[model]` of a network that is there already, such as one that training starts from.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{DownBlockKind, SampleSize, TimeScaleShift, UNet2DConfig};
use crate::edm::EdmSection;
use crate::edm2::Edm2Section;
use crate::error::{UnetError, excerpt};
use crate::init::{Init, InitKind};
use crate::lucidrains::LucidrainsSection;
use crate::model::{Classes, Model, ModelConfig, ModelShape, PlainSection, UnetSection};
use crate::model_json::Described;
use crate::padding;
use crate::unet::UNet2D;

/// `[model]` with `kind = "given"`: a U-Net that the keys of `kind = "unet"` do not describe, by its `config.json`.
///
/// What hangs on the images (their size and channels, a learned variance, classes) is that of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GivenSection {
    /// The text of the `config.json`, since TOML has no null.
    pub config: String,
    /// As in `kind = "unet"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
}

/// The key of [`GivenSection::config`] in messages.
const KEY: &str = "model.config";

impl GivenSection {
    /// The network's full configuration for images of `shape`, and whether it pads them.
    ///
    /// # Errors   [`UnetError::Config`] if the text describes no U-Net, [`UnetError::Size`] if its levels do not divide
    /// the image
    pub fn resolve(&self, shape: ModelShape) -> Result<(UNet2DConfig, bool), UnetError> {
        let bad = |expected: String| UnetError::Config {
            key: KEY.into(),
            got: excerpt(&self.config),
            expected,
        };
        let json: Map<String, Value> = serde_json::from_str(&self.config)
            .map_err(|error| bad(format!("must be the text of a config.json: {error}")))?;
        let Described::Unet { config, pad, .. } = Described::read(&json)? else {
            return Err(bad("must describe a UNet2DModel".into()));
        };
        let config = shape.fit(*config);
        config.validate()?;
        padding::fit(
            shape.height,
            shape.width,
            config.block_out_channels.len(),
            pad,
        )?;
        Ok((config, pad))
    }

    pub(crate) fn build(&self, shape: ModelShape, init: &mut Init) -> Result<Model, UnetError> {
        let (config, pad) = self.resolve(shape)?;
        Ok(Model::Unet(UNet2D::new(&config, pad, init)?))
    }
}

impl ModelShape {
    /// `config` with what hangs on the images.
    pub(crate) fn fit(self, config: UNet2DConfig) -> UNet2DConfig {
        let condition = self.condition;
        UNet2DConfig {
            sample_size: Some(if self.height == self.width {
                SampleSize::Square(self.height)
            } else {
                SampleSize::HeightWidth([self.height, self.width])
            }),
            in_channels: self.input_channels(),
            out_channels: self.output_channels(),
            class_embed_type: None,
            num_class_embeds: condition
                .classes
                .map(|classes| classes + usize::from(condition.null_class)),
            null_class: condition.null_class,
            vector_dim: condition.vector,
            ..config
        }
    }
}

impl ModelConfig {
    /// The section that makes a network like `model` for images of `shape`: the same weights, but for those that hang
    /// on the images.
    #[must_use]
    pub fn like(model: &Model, shape: ModelShape) -> Self {
        let unet = match model {
            Model::Plain(plain) => {
                return Self::Plain(PlainSection {
                    features: plain.features().to_vec(),
                });
            }
            Model::Edm(network) => return Self::Edm(EdmSection::like(network.config(), shape)),
            Model::Edm2(network) => {
                return Self::Edm2(Edm2Section::like(network.config(), shape));
            }
            Model::Lucidrains(network) => {
                return Self::Lucidrains(LucidrainsSection::like(network.config(), shape));
            }
            Model::Unet(unet) => unet,
        };
        match UnetSection::of(unet.config(), unet.pads(), shape) {
            Some(section) => Self::Unet(section),
            None => Self::Given(GivenSection {
                config: Value::Object(model.to_json()).to_string(),
                classes: None,
            }),
        }
    }
}

impl UnetSection {
    /// The section that resolves to `config`, if there is one: attention stays on its levels.
    fn of(config: &UNet2DConfig, pad: bool, shape: ModelShape) -> Option<Self> {
        let channels = *config.block_out_channels.first()?;
        let whole = |&each: &usize| each.is_multiple_of(channels).then(|| each / channels);
        let multipliers: Vec<usize> = config
            .block_out_channels
            .iter()
            .map(whole)
            .collect::<Option<_>>()?;
        let multiple = 1usize << (multipliers.len() - 1);
        let longer = shape.height.max(shape.width).next_multiple_of(multiple);
        let levels = config.down_block_types.iter().enumerate();
        let attention = levels.filter(|(_, kind)| **kind == DownBlockKind::AttnDownBlock2D);
        let section = Self {
            channels,
            multipliers,
            blocks: config.layers_per_block,
            attention_at: Some(attention.map(|(level, _)| longer >> level).collect()),
            mid_attention: config.add_attention,
            head_dim: config.attention_head_dim,
            groups: config.norm_num_groups?,
            norm_eps: config.norm_eps,
            dropout: config.dropout,
            scale_shift: config.resnet_time_scale_shift == TimeScaleShift::ScaleShift,
            resample: config.downsample_type,
            activation: config.act_fn,
            pad,
            init: InitKind::default(),
            classes: None,
        };
        let resolved = section.resolve(shape).ok()?;
        (resolved == shape.fit(config.clone())).then_some(section)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::UpBlockKind;
    use crate::model::ConditionShape;
    use crate::params;

    fn shape(side: usize) -> ModelShape {
        ModelShape {
            channels: 3,
            height: side,
            width: side,
            learned_variance: false,
            self_condition: false,
            steps: 1000,
            condition: ConditionShape::default(),
        }
    }

    fn section(attention: usize) -> UnetSection {
        UnetSection {
            channels: 4,
            multipliers: vec![1, 2],
            blocks: 1,
            groups: 2,
            attention_at: Some(vec![attention]),
            ..UnetSection::default()
        }
    }

    #[test]
    fn a_network_of_our_own_keeps_its_keys_and_its_levels_at_another_size() {
        let device = Device::flex();
        let own = ModelConfig::Unet(section(4));
        let model = own.build(shape(8), 0, &device).unwrap();
        assert_eq!(ModelConfig::like(&model, shape(8)), own);
        let larger = ModelConfig::like(&model, shape(16));
        assert_eq!(larger, ModelConfig::Unet(section(8)));
        let larger = larger.build(shape(16), 0, &device).unwrap();
        assert_eq!(params::shapes(&larger), params::shapes(&model));
        let plain = ModelConfig::Plain(PlainSection {
            features: vec![2, 3],
        });
        let model = plain.build(shape(8), 0, &device).unwrap();
        assert_eq!(ModelConfig::like(&model, shape(16)), plain);
    }

    #[test]
    fn any_other_is_given_by_its_config_and_fits_the_images() {
        let device = Device::flex();
        let config = UNet2DConfig {
            block_out_channels: vec![4, 6],
            down_block_types: vec![DownBlockKind::DownBlock2D, DownBlockKind::AttnDownBlock2D],
            up_block_types: vec![UpBlockKind::AttnUpBlock2D, UpBlockKind::UpBlock2D],
            layers_per_block: 1,
            attention_head_dim: None,
            norm_num_groups: Some(2),
            num_class_embeds: Some(5),
            ..UNet2DConfig::default()
        };
        let mut init = Init::new(0, InitKind::Default, &device);
        let model = Model::Unet(UNet2D::new(&config, false, &mut init).unwrap());
        let like = ModelConfig::like(&model, shape(12));
        let written = serde_json::to_value(&like).unwrap();
        assert_eq!(written["kind"], "given");
        let read: ModelConfig = serde_json::from_value(written).unwrap();
        assert_eq!(read, like);
        let ModelConfig::Given(given) = &like else {
            panic!("{like:?}")
        };
        let (resolved, pad) = given.resolve(shape(12)).unwrap();
        let expected = UNet2DConfig {
            sample_size: Some(SampleSize::Square(12)),
            num_class_embeds: None,
            ..config
        };
        assert_eq!((resolved, pad), (expected, false));
        let refused = given.resolve(shape(7)).unwrap_err();
        assert!(matches!(refused, UnetError::Size { .. }), "{refused}");
        for text in [
            "",
            "[]",
            r#"{"_class_name": "PlainUNet", "channels": 1, "features": [2], "steps": 3}"#,
        ] {
            let given = GivenSection {
                classes: None,
                config: text.into(),
            };
            let refused = given.resolve(shape(8)).unwrap_err().to_string();
            assert!(refused.contains("model.config"), "{text}: {refused}");
        }
    }
}
