//! A network's own description, saved beside its weights.

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use crate::config::UNet2DConfig;
use crate::edm::{EdmConfig, EdmUNet};
use crate::edm2::{Edm2Config, Edm2UNet};
use crate::error::{UnetError, excerpt};
use crate::init::{Init, InitKind};
use crate::lucidrains::{LucidrainsConfig, LucidrainsUNet};
use crate::model::Model;
use crate::plain::PlainUNet;
use crate::unet::UNet2D;

const CLASS: &str = "_class_name";
const PLAIN: &str = "PlainUNet";
const EDM: &str = "EdmUNet";
const EDM2: &str = "Edm2UNet";
const LUCIDRAINS: &str = "LucidrainsUNet";
/// Private to this program: Python's diffusers passes over keys with an underscore.
const PAD: &str = "_pad";

impl Model {
    /// The object of the `config.json` that belongs to the network's weights.
    pub fn to_json(&self) -> Map<String, Value> {
        match self {
            Self::Unet(unet) => {
                let mut json = unet.config().to_json();
                if unet.pads() {
                    json.insert(PAD.into(), true.into());
                }
                json
            }
            Self::Plain(plain) => Map::from_iter([
                (CLASS.to_owned(), json!(PLAIN)),
                ("channels".to_owned(), json!(plain.channels())),
                ("features".to_owned(), json!(plain.features())),
                ("steps".to_owned(), json!(plain.steps())),
            ]),
            Self::Edm(edm) => {
                let mut json = edm.config().to_json();
                json.insert(CLASS.into(), EDM.into());
                json
            }
            Self::Edm2(edm2) => {
                let mut json = edm2.config().to_json();
                json.insert(CLASS.into(), EDM2.into());
                json
            }
            Self::Lucidrains(network) => {
                let mut json = network.config().to_json();
                json.insert(CLASS.into(), LUCIDRAINS.into());
                json
            }
        }
    }

    /// The network that a `config.json` describes, with initial weights that are to be replaced,
    /// and the keys of the file that were not known.
    ///
    /// # Errors   [`UnetError::Unsupported`] or [`UnetError::Config`] naming the key
    pub fn from_json(
        json: &Map<String, Value>,
        device: &Device,
    ) -> Result<(Self, Vec<String>), UnetError> {
        let init = &mut Init::new(0, InitKind::Default, device);
        match Described::read(json)? {
            Described::Plain {
                channels,
                features,
                steps,
            } => {
                let plain = PlainUNet::new(channels, &features, steps, init)?;
                Ok((Self::Plain(plain), Vec::new()))
            }
            Described::Unet {
                config,
                pad,
                unknown,
            } => Ok((Self::Unet(UNet2D::new(&config, pad, init)?), unknown)),
            Described::Edm { config, unknown } => {
                Ok((Self::Edm(EdmUNet::new(&config, init)?), unknown))
            }
            Described::Edm2 { config, unknown } => {
                Ok((Self::Edm2(Edm2UNet::new(&config, init)?), unknown))
            }
            Described::Lucidrains { config, unknown } => {
                let network = LucidrainsUNet::new(&config, init)?;
                Ok((Self::Lucidrains(network), unknown))
            }
        }
    }
}

/// What a `config.json` says.
pub(crate) enum Described {
    /// [`UNet2D`].
    Unet {
        config: Box<UNet2DConfig>,
        pad: bool,
        /// Keys that have no effect.
        unknown: Vec<String>,
    },
    /// [`PlainUNet`].
    Plain {
        channels: usize,
        features: Vec<usize>,
        steps: usize,
    },
    /// [`EdmUNet`].
    Edm {
        config: Box<EdmConfig>,
        /// Keys that have no effect.
        unknown: Vec<String>,
    },
    /// [`Edm2UNet`].
    Edm2 {
        config: Box<Edm2Config>,
        /// Keys that have no effect.
        unknown: Vec<String>,
    },
    /// [`LucidrainsUNet`].
    Lucidrains {
        config: Box<LucidrainsConfig>,
        /// Keys that have no effect.
        unknown: Vec<String>,
    },
}

impl Described {
    /// # Errors   [`UnetError::Unsupported`] or [`UnetError::Config`] naming the key
    pub(crate) fn read(json: &Map<String, Value>) -> Result<Self, UnetError> {
        match json.get(CLASS).and_then(Value::as_str) {
            Some(PLAIN) => {
                let count = |key: &str| {
                    let value = json.get(key).unwrap_or(&Value::Null);
                    let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
                    number.ok_or_else(|| unsupported(key, value, "a positive integer"))
                };
                let value = json.get("features").unwrap_or(&Value::Null);
                let features = serde_json::from_value(value.clone())
                    .map_err(|_| unsupported("features", value, "a list of positive integers"))?;
                Ok(Self::Plain {
                    channels: count("channels")?,
                    features,
                    steps: count("steps")?,
                })
            }
            Some(EDM) => {
                let (config, unknown) = EdmConfig::from_json(json)?;
                Ok(Self::Edm {
                    config: Box::new(config),
                    unknown,
                })
            }
            Some(EDM2) => {
                let (config, unknown) = Edm2Config::from_json(json)?;
                Ok(Self::Edm2 {
                    config: Box::new(config),
                    unknown,
                })
            }
            Some(LUCIDRAINS) => {
                let (config, unknown) = LucidrainsConfig::from_json(json)?;
                Ok(Self::Lucidrains {
                    config: Box::new(config),
                    unknown,
                })
            }
            Some("UNet2DModel") | None => {
                let (config, unknown) = UNet2DConfig::from_json(json)?;
                let pad = json.get(PAD).and_then(Value::as_bool).unwrap_or(false);
                Ok(Self::Unet {
                    config: Box::new(config),
                    pad,
                    unknown,
                })
            }
            Some(other) => Err(unsupported(
                CLASS,
                &Value::from(other),
                "UNet2DModel, and this program's own PlainUNet, EdmUNet, Edm2UNet and LucidrainsUNet",
            )),
        }
    }
}

fn unsupported(key: &str, got: &Value, supported: &str) -> UnetError {
    UnetError::Unsupported {
        key: key.into(),
        got: excerpt(&got.to_string()),
        supported: supported.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edm::EdmSection;
    use crate::edm2::Edm2Section;
    use crate::lucidrains::LucidrainsSection;
    use crate::model::{ModelConfig, ModelShape, PlainSection, UnetSection};
    use crate::params;

    #[test]
    fn networks_of_all_kinds_round_trip() {
        let device = Device::flex();
        let shape = ModelShape {
            channels: 1,
            height: 28,
            width: 20,
            learned_variance: false,
            self_condition: false,
            steps: 50,
            condition: Default::default(),
        };
        let unet = |pad: bool, multipliers: &[usize]| {
            ModelConfig::Unet(UnetSection {
                channels: 4,
                multipliers: multipliers.to_vec(),
                attention_at: Some(vec![]),
                groups: 2,
                pad,
                ..UnetSection::default()
            })
        };
        let edm2 = ModelConfig::Edm2(Edm2Section {
            channels: 8,
            multipliers: vec![1, 2, 2, 2],
            blocks: 1,
            pad: true,
            ..Edm2Section::default()
        });
        let edm = ModelConfig::Edm(EdmSection {
            channels: 8,
            multipliers: vec![1, 2, 2, 2],
            blocks: 1,
            pad: true,
            ..EdmSection::default()
        });
        let lucidrains = ModelConfig::Lucidrains(LucidrainsSection {
            channels: 4,
            head_dim: vec![2],
            pad: true,
            ..LucidrainsSection::default()
        });
        let plain = ModelConfig::Plain(PlainSection {
            features: vec![2, 3],
        });
        for (config, pads) in [
            (unet(false, &[1, 2, 2]), false),
            (unet(true, &[1, 2, 2, 2]), true),
            (plain, false),
            (edm, true),
            (edm2, true),
            (lucidrains, true),
        ] {
            let model = config.build(shape, 1, &device).unwrap();
            let json = model.to_json();
            let (read, unknown) = Model::from_json(&json, &device).unwrap();
            assert_eq!(unknown, Vec::<String>::new());
            assert_eq!(read.to_json(), json);
            assert_eq!(params::shapes(&read), params::shapes(&model));
            let padded = match &read {
                Model::Edm2(edm2) => edm2.config().pad,
                Model::Unet(unet) => unet.pads(),
                Model::Edm(edm) => edm.config().pad,
                Model::Lucidrains(network) => network.config().pad,
                Model::Plain(_) => false,
            };
            assert_eq!(padded, pads);
        }
    }

    #[test]
    fn other_descriptions_name_the_key() {
        for (json, key) in [
            (
                json!({"_class_name": "UNet2DConditionModel"}),
                "_class_name",
            ),
            (json!({"_class_name": "PlainUNet"}), "features"),
            (
                json!({"_class_name": "PlainUNet", "features": [2], "channels": -1, "steps": 5}),
                "channels",
            ),
            (
                json!({"_class_name": "PlainUNet", "features": [2], "channels": 1}),
                "steps",
            ),
            (json!({"act_fn": 3}), "act_fn"),
        ] {
            let json = json.as_object().unwrap();
            match Model::from_json(json, &Device::flex()).unwrap_err() {
                UnetError::Unsupported { key: got, .. } => assert_eq!(got, key),
                other => panic!("{key}: {other}"),
            }
        }
    }
}
