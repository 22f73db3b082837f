//! A weighting in a file: a name alone, or a table with `kind` and parameters.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{DEFAULT_MIN_SNR_GAMMA, DEFAULT_P2_GAMMA, DEFAULT_P2_K, Weighting};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Simple,
    MinSnr,
    P2,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gamma: Option<f64>,
}

impl Table {
    fn named(kind: Kind) -> Self {
        Self {
            kind,
            k: None,
            gamma: None,
        }
    }

    fn resolve<E: Error>(self) -> Result<Weighting, E> {
        let weighting = match self {
            Self {
                kind: Kind::Simple,
                k: None,
                gamma: None,
            } => Weighting::Simple,
            Self {
                kind: Kind::MinSnr,
                k: None,
                gamma,
            } => Weighting::MinSnr {
                gamma: gamma.unwrap_or(DEFAULT_MIN_SNR_GAMMA),
            },
            Self {
                kind: Kind::P2,
                k,
                gamma,
            } => Weighting::P2 {
                k: k.unwrap_or(DEFAULT_P2_K),
                gamma: gamma.unwrap_or(DEFAULT_P2_GAMMA),
            },
            Self {
                kind: Kind::Simple, ..
            } => {
                return Err(E::custom(
                    "the weighting simple has no parameters; remove k and gamma",
                ));
            }
            Self {
                kind: Kind::MinSnr, ..
            } => {
                return Err(E::custom(
                    "the weighting min_snr has no parameter k; remove it",
                ));
            }
        };
        weighting.check().map_err(E::custom)?;
        Ok(weighting)
    }
}

impl Serialize for Weighting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            // The plain name: a table with one key would say no more.
            Self::Simple => Kind::Simple.serialize(serializer),
            Self::MinSnr { gamma } => Table {
                gamma: Some(gamma),
                ..Table::named(Kind::MinSnr)
            }
            .serialize(serializer),
            Self::P2 { k, gamma } => Table {
                kind: Kind::P2,
                k: Some(k),
                gamma: Some(gamma),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Weighting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrTable)
    }
}

/// Looks at what is there instead of trying both, so that an error speaks of what was written.
struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = Weighting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"simple\", \"min_snr\", \"p2\", or a table with `kind` and its parameters")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Weighting, E> {
        let kind = Kind::deserialize(IntoDeserializer::<E>::into_deserializer(name))?;
        Table::named(kind).resolve()
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Weighting, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map))?.resolve()
    }
}
