//! What a network is trained on, from the data set and the configuration.

use ddpm_data::Dataset;
use ddpm_unet::{Classes, ConditionShape, ModelShape};

use crate::config::Config;
use crate::error::TrainError;

/// What the network reads, is told and writes.
///
/// # Errors   [`TrainError::Config`] for classes that the images have not, [`TrainError::Diffusion`] for a picture that they
/// have not, [`TrainError::Data`] for a column that they have not or an augmentation that they cannot have
pub fn model_shape(config: &Config, dataset: &Dataset) -> Result<ModelShape, TrainError> {
    let channels = dataset.channels();
    let classes = classes(config, dataset)?;
    config.augment.check_shape(dataset.shape())?;
    for name in &config.condition.columns {
        dataset.column(name)?;
    }
    Ok(ModelShape {
        channels,
        height: dataset.height(),
        width: dataset.width(),
        learned_variance: config.objective.variance.is_learned(),
        self_condition: config.objective.self_condition > 0.0,
        steps: config.network_steps(),
        condition: condition_shape(config, channels, classes)?,
    })
}

/// What the network is told of images of so many channels and classes.
///
/// # Errors   [`TrainError::Diffusion`] for a picture that such images have not
pub fn condition_shape(
    config: &Config,
    channels: usize,
    classes: Option<usize>,
) -> Result<ConditionShape, TrainError> {
    // What is told of the augmentation comes last.
    let numbers = config.condition.numbers() + config.augment.numbers();
    Ok(ConditionShape {
        classes,
        null_class: classes.is_some() && config.condition.dropout > 0.0,
        vector: (numbers > 0).then_some(numbers),
        picture_channels: config.condition.picture_channels(channels)?,
    })
}

/// How many classes the network is told of.
fn classes(config: &Config, dataset: &Dataset) -> Result<Option<usize>, TrainError> {
    let Some(asked) = config.model.classes() else {
        return Ok(None);
    };
    let refuse = |got: String, expected: String| {
        Err(TrainError::Config {
            key: "model.classes",
            got,
            expected,
        })
    };
    match (asked, dataset.num_classes()) {
        (Classes::Auto(_), Some(classes)) => Ok(Some(classes)),
        (Classes::Count(asked), Some(classes)) if asked >= classes => Ok(Some(asked)),
        (Classes::Count(asked), Some(classes)) => refuse(
            asked.to_string(),
            format!("at least {classes}, as many as the images have"),
        ),
        (asked, None) => refuse(
            match asked {
                Classes::Auto(_) => "auto".to_owned(),
                Classes::Count(count) => count.to_string(),
            },
            "these images have no classes; put them into one folder a class, give `data.labels`, or leave the key out"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ddpm_data::{DataConfig, DataKind};

    fn shape(config: serde_json::Value, kind: DataKind) -> Result<ModelShape, String> {
        let config: Config = serde_json::from_value(config).unwrap();
        let data = DataConfig {
            kind,
            count: (kind == DataKind::Synthetic).then_some(2),
            ..DataConfig::default()
        };
        let dataset = Dataset::load(&data, 0, &mut |_, _| {}).unwrap();
        model_shape(&config, &dataset).map_err(|error| error.to_string())
    }

    #[test]
    fn an_augmentation_that_is_told_has_a_place_where_the_network_has_one() {
        let of = |json| shape(json, DataKind::Digits).unwrap().condition.vector;
        assert_eq!(of(serde_json::json!({"augment": {"edm": 0.12}})), Some(9));
        assert_eq!(of(serde_json::json!({"augment": {"crop": 0.9}})), None);
        for (kind, told) in [
            ("unet", true),
            ("edm", true),
            ("edm2", false),
            ("plain", false),
        ] {
            let json = serde_json::json!({"model": {"kind": kind}, "augment": {"edm": 0.12}});
            let config: Config = serde_json::from_value(json).unwrap();
            match config.validate() {
                Ok(_) => assert!(told, "{kind}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!told && error.contains("augment.edm"), "{kind}: {error}");
                }
            }
        }
        let grey = serde_json::json!({"augment": {"jitter": {"hue": 0.1}}});
        let refused = shape(grey, DataKind::Digits).unwrap_err();
        assert!(refused.starts_with("augment.jitter.hue: "), "{refused}");
    }

    #[test]
    fn classes_are_those_of_the_images_with_a_null_class_where_some_are_dropped() {
        let of = |classes: serde_json::Value, dropout: f64, kind| {
            let config = serde_json::json!({
                "model": {"kind": "unet", "classes": classes}, "condition": {"dropout": dropout}
            });
            shape(config, kind)
        };
        let found = of("auto".into(), 0.1, DataKind::Digits).unwrap().condition;
        assert_eq!((found.classes, found.null_class), (Some(10), true));
        let found = of(12.into(), 0.0, DataKind::Digits).unwrap().condition;
        assert_eq!((found.classes, found.null_class), (Some(12), false));
        let refused = of(9.into(), 0.1, DataKind::Digits).unwrap_err();
        assert!(
            refused.contains("model.classes") && refused.contains("10"),
            "{refused}"
        );
        let refused = of("auto".into(), 0.1, DataKind::Synthetic).unwrap_err();
        assert!(refused.contains("no classes"), "{refused}");
    }
}
