//! From a configuration file, or none, to a run's configuration.

use std::path::Path;

use anyhow::Result;
use ddpm_train::Config;
use ddpm_unet::{ModelConfig, PlainSection, UnetSection};
use toml::Table;

use crate::config_file::{ConfigFile, Known, leaves};
use crate::exit::UsageError;

/// What `ddpm train` does without a configuration.
pub const DIGITS: &str = include_str!("../../../configs/digits.toml");

/// Keys that the defaults do not show because they are unset, or whose type varies.
const OPTIONAL: &[&str] = &[
    "data.path",
    "data.labels",
    "data.size",
    "data.channels",
    "data.background",
    "data.count",
    "data.split",
    "model.kind",
    "schedule.betas",
    "objective.weighting",
    "train.steps",
    "train.epochs",
    "sample.steps",
    "sample.spacing",
    "sample.offset",
    "sample.ddim",
];

/// Reads a configuration: the file, or the built-in digits recipe, then the overrides.
///
/// # Errors   [`UsageError`] naming the file or the override, the key and what to write instead
pub fn read(path: Option<&Path>, set: &[String], seed: Option<u64>) -> Result<Config, UsageError> {
    let mut file = match path {
        Some(path) => ConfigFile::load(path)?,
        None => ConfigFile::parse("the built-in digits recipe", DIGITS)?,
    };
    for argument in set {
        file.set(argument)?;
    }
    if let Some(seed) = seed {
        file.set(&format!("seed={seed}"))?;
    }
    finish(file)
}

/// The configuration that `ddpm train` makes of a file's text and its `--set` arguments. Messages call the file
/// `name`.
///
/// # Errors   [`UsageError`] naming the key and what to write instead
pub fn configuration(name: &str, text: &str, set: &[String]) -> Result<Config, UsageError> {
    let mut file = ConfigFile::parse(name, text)?;
    for argument in set {
        file.set(argument)?;
    }
    finish(file)
}

/// Every dotted key that a configuration may have whose `[model]` is of this kind, in order.
///
/// # Errors   [`UsageError`] if the defaults have no TOML form
pub fn configuration_keys(plain: bool) -> Result<Vec<String>, UsageError> {
    let mut keys: Vec<String> = optional(plain).iter().map(ToString::to_string).collect();
    leaves(&defaults(plain)?, "", &mut keys);
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

fn defaults(plain: bool) -> Result<Table, UsageError> {
    let defaults = Config {
        model: if plain {
            ModelConfig::Plain(PlainSection::default())
        } else {
            ModelConfig::Unet(UnetSection::default())
        },
        ..Config::default()
    };
    Table::try_from(&defaults)
        .map_err(|error| UsageError(format!("the defaults have no TOML form: {error}")))
}

fn optional(plain: bool) -> Vec<&'static str> {
    let mut optional = OPTIONAL.to_vec();
    if !plain {
        optional.push("model.head_dim");
    }
    optional
}

fn finish(mut file: ConfigFile) -> Result<Config, UsageError> {
    // Which keys `[model]` has depends on its kind, which may be left out.
    file.default_to("model", "kind", "unet");
    let plain = file.text("model", "kind") == Some("plain");
    file.read(Known {
        defaults: &defaults(plain)?,
        optional: &optional(plain),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_recipe_and_empty_file_are_valid() {
        read(None, &[], None).unwrap().validate().unwrap();
        let empty = ConfigFile::parse("empty", "").unwrap();
        assert_eq!(finish(empty).unwrap(), Config::default());
    }

    #[test]
    fn resolved_configuration_reads_back_as_itself() {
        // The digits recipe's [model] keys are a U-Net's, so the plain network starts from nothing.
        for (text, set) in [
            ("", ["model.kind=plain", "train.epochs=3", "sample.steps=7"]),
            (
                DIGITS,
                ["model.head_dim=8", "objective.weighting=min_snr", "seed=9"],
            ),
        ] {
            let mut file = ConfigFile::parse("test", text).unwrap();
            for argument in set {
                file.set(argument).unwrap();
            }
            let config = finish(file).unwrap();
            let written = toml::to_string_pretty(&config).unwrap();
            let again = finish(ConfigFile::parse("again", &written).unwrap()).unwrap();
            assert_eq!(again, config, "{written}");
        }
    }

    #[test]
    fn typos_and_wrong_types_name_the_key() {
        let fail = |set: &str| read(None, &[set.to_owned()], None).unwrap_err().to_string();
        assert!(
            fail("train.stesp=3").contains("`train.steps`"),
            "{}",
            fail("train.stesp=3")
        );
        assert!(fail("model.chanels=3").contains("`model.channels`"));
        assert!(fail("train.batch=many").contains("train.batch"));
        assert!(fail("model.kind=transformer").contains("transformer"));
        assert!(fail("model.features=[3]").contains("model.features"));
        assert!(fail("data.kind=imagenet").contains("imagenet"));
        assert!(fail("train.steps=-3").contains("train.steps"));
    }
}
