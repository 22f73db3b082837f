//! What a person writes under `[condition]`.

use serde::{Deserialize, Serialize};

use crate::DiffusionError;

/// What a network is told of an image besides its noise level; classes are `model.classes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionConfig {
    /// The share of images whose class and numbers the network is not told in training, so that guidance has something
    /// to lead away from (Ho & Salimans 2022, algorithm 1).
    pub dropout: f64,
    /// The columns of the images' table of labels whose numbers the network is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The picture that images are made from; left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PictureKind>,
    /// How many times smaller a picture of low resolution is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<usize>,
    /// How much noise pictures get in training, at most, from 0 to 1: √(1-a²)·picture + a·ε with a below this, which the
    /// network is told (Ho et al. 2021, section 4.2). For cascades, whose pictures are drawn by another network.
    #[serde(skip_serializing_if = "is_zero")]
    pub noise: f64,
}

/// What a picture is of the image that is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureKind {
    /// The image `factor` times smaller, brought to its size (Saharia et al. 2021).
    LowResolution,
    /// The image without its colours (Saharia et al. 2022, "Palette").
    Gray,
}

/// How a column's numbers are told: (number - mean) / deviation, which networks learn from at once whatever the unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnScale {
    /// The column's heading.
    pub name: String,
    /// The mean over the images of training.
    pub mean: f64,
    /// The standard deviation over them.
    pub deviation: f64,
}

impl ColumnScale {
    /// The number as a network is told it.
    #[must_use]
    pub fn told(&self, number: f64) -> f32 {
        ((number - self.mean) / self.deviation) as f32
    }
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

impl Default for ConditionConfig {
    fn default() -> Self {
        Self {
            dropout: 0.1,
            columns: Vec::new(),
            kind: None,
            factor: None,
            noise: 0.0,
        }
    }
}

impl ConditionConfig {
    /// # Errors   [`DiffusionError::Config`] naming the key
    pub fn check(&self) -> Result<(), DiffusionError> {
        let refuse =
            |key, got: String, expected| Err(DiffusionError::Config { key, got, expected });
        if !(0.0..1.0).contains(&self.dropout) {
            let got = self.dropout.to_string();
            return refuse("condition.dropout", got, "0 to below 1");
        }
        match (self.kind, self.factor) {
            (Some(PictureKind::LowResolution), None) => {
                return refuse("condition.factor", "unset".into(), "2 or more");
            }
            (Some(PictureKind::LowResolution), Some(factor)) if !(2..=64).contains(&factor) => {
                return refuse("condition.factor", factor.to_string(), "2 to 64");
            }
            (None | Some(PictureKind::Gray), Some(factor)) => {
                let expected = "nothing: only kind = \"low_resolution\" has a factor";
                return refuse("condition.factor", factor.to_string(), expected);
            }
            _ => {}
        }
        if !(0.0..=1.0).contains(&self.noise) {
            return refuse("condition.noise", self.noise.to_string(), "from 0 to 1");
        }
        if self.noise > 0.0 && self.kind.is_none() {
            let expected = "0: there is no picture, which `condition.kind` asks for";
            return refuse("condition.noise", self.noise.to_string(), expected);
        }
        Ok(())
    }

    /// Channels of the picture of images of so many channels.
    ///
    /// # Errors   [`DiffusionError::Config`] for images that have no such picture
    pub fn picture_channels(&self, channels: usize) -> Result<usize, DiffusionError> {
        match (self.kind, channels) {
            (None, _) => Ok(0),
            (Some(PictureKind::LowResolution), channels) => Ok(channels),
            (Some(PictureKind::Gray), 3 | 4) => Ok(channels - 2),
            (Some(PictureKind::Gray), _) => Err(DiffusionError::Config {
                key: "condition.kind",
                got: "gray".into(),
                expected: "images in colours (data.channels = 3)",
            }),
        }
    }

    /// How many numbers the network is told of each image: those of the columns with one more that says whether they
    /// are told, and the noise of the picture.
    #[must_use]
    pub fn numbers(&self) -> usize {
        let columns = match self.columns.len() {
            0 => 0,
            columns => columns + 1,
        };
        columns + usize::from(self.noise > 0.0)
    }

    /// The numbers that the network is told of one image: those of its columns and a 1, or zeros and a 0 where they are
    /// not told, then how much noise its picture got. As many as [`ConditionConfig::numbers`].
    #[must_use]
    pub fn vector(&self, columns: Option<&[f32]>, noise: f32) -> Vec<f32> {
        let mut vector = Vec::with_capacity(self.numbers());
        if !self.columns.is_empty() {
            let told = columns.unwrap_or_default().iter().copied();
            vector.extend(told.chain(std::iter::repeat(0.0)).take(self.columns.len()));
            vector.push(f32::from(columns.is_some()));
        }
        if self.noise > 0.0 {
            vector.push(noise);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> Result<ConditionConfig, String> {
        let config: ConditionConfig =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused_by_name() {
        for (json, word) in [
            (serde_json::json!({"dropout": 1.0}), "dropout"),
            (serde_json::json!({"kind": "low_resolution"}), "factor"),
            (
                serde_json::json!({"kind": "low_resolution", "factor": 1}),
                "factor",
            ),
            (serde_json::json!({"kind": "gray", "factor": 2}), "factor"),
            (serde_json::json!({"factor": 2}), "factor"),
            (serde_json::json!({"noise": 0.5}), "noise"),
            (serde_json::json!({"kind": "gray", "noise": 1.5}), "noise"),
            (serde_json::json!({"kind": "grey"}), "grey"),
            (serde_json::json!({"drop": 0.5}), "drop"),
        ] {
            let refused = read(json).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn numbers_and_channels_are_counted() {
        let config = read(serde_json::json!({
            "columns": ["age", "smile"], "kind": "low_resolution", "factor": 4, "noise": 0.5
        }));
        let config = config.unwrap();
        assert_eq!(
            (config.numbers(), config.picture_channels(3).unwrap()),
            (4, 3)
        );
        let gray = read(serde_json::json!({"kind": "gray"})).unwrap();
        assert_eq!((gray.numbers(), gray.picture_channels(4).unwrap()), (0, 2));
        assert!(gray.picture_channels(1).is_err());
    }
}
