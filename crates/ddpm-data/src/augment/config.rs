use serde::{Deserialize, Serialize};

use super::edm;
use crate::error::DataError;

/// The `[augment]` table: how training images are changed at random; `data.flip` stands in `[data]`.
///
/// A network that is not told of a change draws changed images too. `edm` is told, so that it does not leak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Whether each image is mirrored top to bottom with probability one half.
    pub vertical_flip: bool,
    /// Whether each image is turned by 0, 90, 180 or 270 degrees, each as often; for square images.
    pub rotate90: bool,
    /// The least share of an image's area that is cut out and brought to its size again; above 0, at most 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<f64>,
    /// How far colours are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<JitterConfig>,
    /// The probability of each transformation of EDM's augmentation, which the network is told of; above 0, at most 1
    /// (Karras et al. 2022, appendix F.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edm: Option<f64>,
}

/// How far colours are changed, as torchvision's `ColorJitter` has it: 0 leaves them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JitterConfig {
    /// Colours are multiplied by a number of [1 - this, 1 + this], of [0, 1 + this] where this is above 1.
    pub brightness: f64,
    /// Likewise their distance to the mean grey of the image.
    pub contrast: f64,
    /// Likewise their distance to the grey of the pixel.
    pub saturation: f64,
    /// Hues go around by a number of [-this, this] turns, at most 0.5.
    pub hue: f64,
}

impl AugmentConfig {
    /// Refuses what no image can be changed by.
    ///
    /// # Errors   [`DataError::Config`] naming the key
    pub fn validate(&self) -> Result<(), DataError> {
        let share = |share: f64| share > 0.0 && share <= 1.0;
        if let Some(crop) = self.crop.filter(|&crop| !share(crop)) {
            let reason = format!("is {crop}; set a share of the area above 0, at most 1");
            return Err(DataError::config("augment.crop", reason));
        }
        if let Some(edm) = self.edm.filter(|&edm| !share(edm)) {
            let reason = format!("is {edm}; set a probability above 0, at most 1, or remove it");
            return Err(DataError::config("augment.edm", reason));
        }
        let Some(jitter) = self.jitter else {
            return Ok(());
        };
        for (key, value) in [
            ("augment.jitter.brightness", jitter.brightness),
            ("augment.jitter.contrast", jitter.contrast),
            ("augment.jitter.saturation", jitter.saturation),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                let reason = format!("is {value}; set 0 or a positive number");
                return Err(DataError::config(key, reason));
            }
        }
        if !(0.0..=0.5).contains(&jitter.hue) {
            let reason = format!("is {}; set a part of a turn from 0 to 0.5", jitter.hue);
            return Err(DataError::config("augment.jitter.hue", reason));
        }
        Ok(())
    }

    /// Refuses what images of this shape, `[channels, height, width]`, cannot be changed by.
    ///
    /// # Errors   [`DataError::Config`] naming the key
    pub fn check_shape(&self, [channels, height, width]: [usize; 3]) -> Result<(), DataError> {
        if self.rotate90 && height != width {
            let reason = format!(
                "turns square images, and these are {height}x{width}; remove it, or set data.size to one number"
            );
            return Err(DataError::config("augment.rotate90", reason));
        }
        let jitter = self.jitter.unwrap_or_default();
        for (key, value) in [
            ("augment.jitter.saturation", jitter.saturation),
            ("augment.jitter.hue", jitter.hue),
        ] {
            if value > 0.0 && channels < 3 {
                let reason = "is for images in colours, and these are grey; remove it";
                return Err(DataError::config(key, reason));
            }
        }
        Ok(())
    }

    /// Whether no image is changed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// How many numbers the network is told of each image's augmentation.
    #[must_use]
    pub fn numbers(&self) -> usize {
        match self.edm {
            Some(_) => edm::NUMBERS,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AugmentConfig, String> {
        let config: AugmentConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn bad_values_and_unknown_keys_are_refused_by_name() {
        for (text, start) in [
            ("crop = 0.0", "augment.crop: is 0;"),
            ("crop = 1.5", "augment.crop: is 1.5;"),
            ("crop = nan", "augment.crop: is NaN;"),
            ("edm = 0.0", "augment.edm: is 0;"),
            ("edm = 2", "augment.edm: is 2;"),
            (
                "jitter = { contrast = -0.1 }",
                "augment.jitter.contrast: is -0.1;",
            ),
            (
                "jitter = { brightness = inf }",
                "augment.jitter.brightness: is inf;",
            ),
            ("jitter = { hue = 0.6 }", "augment.jitter.hue: is 0.6;"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(start), "{text}: {message}");
        }
        for text in ["flip = true", "jitter = { gamma = 0.1 }"] {
            assert!(parse(text).unwrap_err().contains("unknown field"), "{text}");
        }
    }

    #[test]
    fn what_the_shape_does_not_allow_is_refused_by_name() {
        let refused = |text: &str, shape| {
            let checked = parse(text).unwrap().check_shape(shape);
            checked.map_err(|error| error.to_string())
        };
        let message = refused("rotate90 = true", [3, 4, 6]).unwrap_err();
        assert!(
            message.starts_with("augment.rotate90:") && message.contains("4x6"),
            "{message}"
        );
        for key in ["saturation", "hue"] {
            let text = format!("jitter = {{ {key} = 0.1 }}");
            for channels in [1, 2] {
                let message = refused(&text, [channels, 4, 4]).unwrap_err();
                let start = format!("augment.jitter.{key}:");
                assert!(message.starts_with(&start), "{message}");
            }
            refused(&text, [3, 4, 6]).unwrap();
        }
        let grey = "rotate90 = true\njitter = { brightness = 1, contrast = 2 }";
        refused(grey, [1, 4, 4]).unwrap();
    }

    #[test]
    fn nothing_is_asked_for_by_default() {
        let off = parse("").unwrap();
        assert!(off.is_off() && off.numbers() == 0);
        let edm = parse("edm = 0.12").unwrap();
        assert!(!edm.is_off() && edm.numbers() == 9);
    }
}
