//! A seed of 64 bits in a configuration: a number, or a text where TOML's numbers, which have 63, do not hold it.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged, expecting = "a whole number from 0 to 18446744073709551615")]
enum Raw {
    Number(u64),
    Text(String),
}

/// # Errors   those of the format
pub fn serialize<S: Serializer>(seed: &u64, out: S) -> Result<S::Ok, S::Error> {
    match i64::try_from(*seed) {
        Ok(_) => out.serialize_u64(*seed),
        Err(_) => out.serialize_str(&seed.to_string()),
    }
}

/// # Errors   for what is no such number
pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    match Raw::deserialize(input)? {
        Raw::Number(seed) => Ok(seed),
        Raw::Text(text) => text.parse().map_err(|_| {
            D::Error::custom(format!(
                "invalid value: string {text:?}, expected a whole number from 0 to {}",
                u64::MAX
            ))
        }),
    }
}
