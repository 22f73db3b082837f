//! The networks of EDM (Karras et al. 2022): the arguments of `EDMPrecond`, and its `state_dict`.
//!
//! Parameters have the same names below `model.`; the filters that are stored beside them have to be those of the
//! configuration. What preconditions the network, `sigma_data` among it, is the caller's.

use serde_json::{Map, Value, json};

use super::{Named, Tensors, wrong};
use crate::edm::{EdmArchitecture, EdmConfig};
use crate::error::{UnetError, excerpt};

/// Arguments of the preconditioning, not of the network.
const OF_PRECONDITIONING: [&str; 4] = ["use_fp16", "sigma_min", "sigma_max", "sigma_data"];
const PREFIX: &str = "model.";
const FILTER: &str = ".resample_filter";

/// The configuration of the network inside `EDMPrecond` of these arguments.
///
/// A `label_dropout` over 0 means that the network knows the null class.
///
/// # Errors   [`UnetError::Unsupported`] or [`UnetError::Config`] naming the argument
pub fn config(arguments: &Map<String, Value>) -> Result<EdmConfig, UnetError> {
    let mut json = Map::new();
    json.insert("model_type".into(), json!("SongUNet"));
    for (key, value) in arguments {
        match key.as_str() {
            "img_channels" => {
                for channels in ["in_channels", "out_channels"] {
                    json.insert(channels.into(), value.clone());
                }
            }
            "label_dropout" => {
                let Some(share) = value.as_f64() else {
                    return Err(unsupported(key, value, "a number in [0, 1]"));
                };
                json.insert("_null_class".into(), json!(share > 0.0));
            }
            key if OF_PRECONDITIONING.contains(&key) => {}
            key => {
                json.insert(key.into(), value.clone());
            }
        }
    }
    let (config, unknown) = EdmConfig::from_json(&json)?;
    match unknown.first() {
        None => Ok(config),
        Some(key) => {
            let value = arguments.get(key).unwrap_or(&Value::Null);
            Err(unsupported(key, value, "the arguments of EDM's networks"))
        }
    }
}

fn unsupported(key: &str, value: &Value, supported: &str) -> UnetError {
    UnetError::Unsupported {
        key: excerpt(key),
        got: excerpt(&value.to_string()),
        supported: supported.into(),
    }
}

/// The parameters of the network whose `state_dict` this is.
///
/// # Errors   [`UnetError::Foreign`] naming the tensor that is no part of such a network; whether all are there is
/// checked when they are loaded
pub fn parameters(
    config: &EdmConfig,
    tensors: impl IntoIterator<Item = Named>,
) -> Result<Vec<Named>, UnetError> {
    let mut found = Vec::new();
    for (name, (shape, data)) in Tensors::new(tensors)?.0 {
        let Some(below) = name.strip_prefix(PREFIX) else {
            let problem = "is no tensor of EDM's networks: their names begin with `model.`";
            return Err(wrong(&name, problem.into()));
        };
        if below.ends_with(FILTER) {
            check_filter(config, &name, &data)?;
            continue;
        }
        found.push((below.to_owned(), shape, data));
    }
    Ok(found)
}

/// # Errors   [`UnetError::Foreign`] if a stored filter is another than that of the configuration
fn check_filter(config: &EdmConfig, name: &str, stored: &[f32]) -> Result<(), UnetError> {
    let taps: &[f64] = match config.model_type {
        EdmArchitecture::SongUNet => &config.resample_filter,
        EdmArchitecture::DhariwalUNet => &[1.0, 1.0],
    };
    let sum: f64 = taps.iter().sum();
    let expected = taps
        .iter()
        .flat_map(|a| taps.iter().map(move |b| a * b / (sum * sum)));
    let same = stored.len() == taps.len() * taps.len()
        && stored
            .iter()
            .zip(expected)
            .all(|(stored, expected)| (f64::from(*stored) - expected).abs() <= 1e-6);
    match same {
        true => Ok(()),
        false => Err(wrong(
            name,
            format!("is another filter than the outer product of `resample_filter` = {taps:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(json: Value) -> Map<String, Value> {
        json.as_object().unwrap().clone()
    }

    #[test]
    fn arguments_become_a_configuration_or_are_named() {
        let found = config(&arguments(json!({
            "model_type": "SongUNet", "img_resolution": 16, "img_channels": 1, "label_dim": 3, "use_fp16": true,
            "sigma_data": 0.5, "label_dropout": 0.1, "channel_mult": [1, 2], "resample_filter": [1, 3, 3, 1],
        })))
        .unwrap();
        let expected = EdmConfig {
            img_resolution: 16,
            in_channels: 1,
            out_channels: 1,
            label_dim: 3,
            null_class: true,
            channel_mult: vec![1, 2],
            resample_filter: vec![1.0, 3.0, 3.0, 1.0],
            ..EdmConfig::of(EdmArchitecture::SongUNet)
        };
        assert_eq!(found, expected);
        for (json, key) in [
            (json!({"colour": 1}), "colour"),
            (json!({"model_type": "UNet"}), "model_type"),
            (json!({"label_dropout": "a"}), "label_dropout"),
            (
                json!({"model_type": "DhariwalUNet", "encoder_type": "skip"}),
                "encoder_type",
            ),
        ] {
            let error = config(&arguments(json)).unwrap_err();
            assert!(
                matches!(&error, UnetError::Unsupported { key: got, .. } if got == key),
                "{error}"
            );
        }
    }

    #[test]
    fn tensors_lose_their_prefix_and_filters_must_be_the_configurations() {
        let config = EdmConfig::of(EdmArchitecture::SongUNet);
        let weight = ("model.map_layer0.bias".to_owned(), vec![2], vec![1.0, 2.0]);
        let filter = |value: f32| {
            let name = "model.enc.16x16_down.conv0.resample_filter".to_owned();
            (name, vec![1, 1, 2, 2], vec![value; 4])
        };
        let found = parameters(&config, [weight.clone(), filter(0.25)]).unwrap();
        assert_eq!(found, [("map_layer0.bias".into(), vec![2], vec![1.0, 2.0])]);
        for (tensor, words) in [
            (filter(0.5), "resample_filter` is another filter"),
            (("u".into(), vec![1], vec![0.0]), "tensor `u` is no tensor"),
            (
                ("model.a".into(), vec![2], vec![0.0]),
                "model.a` has 1 values",
            ),
        ] {
            let error = parameters(&config, [weight.clone(), tensor]).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
