use serde::{Deserialize, Serialize};

/// What the numbers of an array of floats or `uint16` span: `"auto"`, `"signed"`, `"unit"`, `"bytes"`, or
/// `[low, high]`, the values of black and white. `uint8` arrays always span 0..255, `bool` ones 0..1.
///
/// Where it is not `auto`, values outside it are clamped, with a warning if that is more than rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRange", into = "RawRange")]
pub enum FloatRange {
    /// Decided by the smallest and the largest value of the whole array, within rounding.
    ///
    /// Floats: `unit` if all is within [0, 1] and something at or above 1/16; `signed` if all is within [-1, 1] and
    /// something at or below -0.75; `bytes` if all is within [0, 255] and something above 127.5. `uint16`: [0, 65535]
    /// if something is above 32767. Anything else, and an array of one value, is an error with the ranges that it may
    /// be of.
    #[default]
    Auto,
    /// [-1, 1].
    Signed,
    /// [0, 1].
    Unit,
    /// [0, 255].
    Bytes,
    /// The values of black and white: finite, the first below the second.
    Between([f32; 2]),
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a range: \"auto\", \"signed\", \"unit\", \"bytes\" or [low, high]"
)]
enum RawRange {
    Name(String),
    Between([f32; 2]),
}

impl TryFrom<RawRange> for FloatRange {
    type Error = String;

    fn try_from(raw: RawRange) -> Result<Self, String> {
        match raw {
            RawRange::Between([low, high]) if low < high && (high - low).is_finite() => {
                Ok(Self::Between([low, high]))
            }
            RawRange::Between([low, high]) => Err(format!(
                "`[{low}, {high}]` is not a range; write [low, high] with the value of black, then a larger one of white"
            )),
            RawRange::Name(name) => match name.as_str() {
                "auto" => Ok(Self::Auto),
                "signed" => Ok(Self::Signed),
                "unit" => Ok(Self::Unit),
                "bytes" => Ok(Self::Bytes),
                _ => Err(format!(
                    "`{name}` is not a range; write \"auto\", \"signed\", \"unit\", \"bytes\" or [low, high]"
                )),
            },
        }
    }
}

impl From<FloatRange> for RawRange {
    fn from(range: FloatRange) -> Self {
        let name = match range {
            FloatRange::Auto => "auto",
            FloatRange::Signed => "signed",
            FloatRange::Unit => "unit",
            FloatRange::Bytes => "bytes",
            FloatRange::Between(ends) => return Self::Between(ends),
        };
        Self::Name(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::DataConfig;

    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_written() {
        for (text, want) in [
            ("range = \"auto\"", FloatRange::Auto),
            ("range = \"signed\"", FloatRange::Signed),
            ("range = \"unit\"", FloatRange::Unit),
            ("range = \"bytes\"", FloatRange::Bytes),
            ("range = [0, 4095]", FloatRange::Between([0.0, 4095.0])),
            ("range = [-2.5, 2.5]", FloatRange::Between([-2.5, 2.5])),
        ] {
            let config: DataConfig = toml::from_str(text).unwrap();
            assert_eq!(config.range, want);
            let written = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
        }
        for (text, hint) in [
            ("range = \"byte\"", "`byte` is not a range"),
            ("range = [1, 0]", "`[1, 0]` is not a range"),
            ("range = [1, 1]", "is not a range"),
            ("range = [0, inf]", "is not a range"),
            ("range = [nan, 1]", "is not a range"),
            ("range = [0, 1, 2]", "or [low, high]"),
            ("range = 3", "or [low, high]"),
        ] {
            let message = toml::from_str::<DataConfig>(text).unwrap_err().to_string();
            assert!(message.contains(hint), "{text}: {message}");
        }
    }
}
