//! What makes a run the run it is, and how two configurations differ.

use serde_json::{Map, Value};

use crate::config::Config;

/// One key that two configurations disagree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The dotted key.
    pub key: String,
    /// Its value then, as JSON; `unset` where it had none.
    pub was: String,
    /// Its value now.
    pub now: String,
    /// Whether a run that changed it would be another run.
    pub identity: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "`{}` was {} and is {}", self.key, self.was, self.now)
    }
}

/// Sections, and keys without one, that a run cannot change: architecture, data, seed, objective.
const IDENTITY: &[&str] = &[
    "seed",
    "data",
    "augment",
    "model",
    "condition",
    "init",
    "process",
    "schedule",
    "objective",
];

/// Keys of those sections that say only where something lies and how much is trusted. Whether they are the same images is
/// seen from the images, and a run that began with a model has its weights by then.
const PLACE: &[&str] = &[
    "init.model",
    "data.path",
    "data.labels",
    "data.on_bad",
    "data.max_image_pixels",
    "data.max_file_bytes",
    "data.max_expansion",
    "data.cache_bytes",
];

/// Every key on which `was` and `now` disagree, in the order of their names.
#[must_use]
pub fn differences(was: &Config, now: &Config) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", &section(was), &section(now), &mut found);
    found
}

fn section(config: &Config) -> Value {
    // A configuration that was read is one that can be written.
    serde_json::to_value(config).unwrap_or(Value::Null)
}

fn compare(key: &str, was: &Value, now: &Value, found: &mut Vec<Change>) {
    let none = Map::new();
    match (was, now) {
        (Value::Object(was), Value::Object(now)) => compare_tables(key, was, now, found),
        // A table against a word (`weighting = "simple"`) is one change, not one for each of its keys.
        _ if was == now => {}
        (Value::Object(was), Value::Null) => compare_tables(key, was, &none, found),
        (Value::Null, Value::Object(now)) => compare_tables(key, &none, now, found),
        _ => {
            let text = |value: &Value| match value {
                Value::Null => "unset".to_owned(),
                value => value.to_string(),
            };
            found.push(Change {
                key: key.to_owned(),
                was: text(was),
                now: text(now),
                identity: is_identity(key),
            });
        }
    }
}

fn compare_tables(
    key: &str,
    was: &Map<String, Value>,
    now: &Map<String, Value>,
    found: &mut Vec<Change>,
) {
    let mut names: Vec<&String> = was.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let below = match key {
            "" => name.clone(),
            key => format!("{key}.{name}"),
        };
        let value = |table: &Map<String, Value>| table.get(name).cloned().unwrap_or(Value::Null);
        compare(&below, &value(was), &value(now), found);
    }
}

fn is_identity(key: &str) -> bool {
    let top = key.split('.').next().unwrap_or(key);
    IDENTITY.contains(&top) && !PLACE.contains(&key)
}

/// Digest of the identity sections of a configuration in the form in which a checkpoint holds it.
#[must_use]
pub fn identity_hash(config: &Value) -> String {
    let identity: Map<String, Value> = IDENTITY
        .iter()
        .filter_map(|&name| Some((name.to_owned(), config.get(name)?.clone())))
        .collect();
    blake3::hash(Value::Object(identity).to_string().as_bytes())
        .to_hex()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::{InitConfig, InitWeights};
    use crate::optim::OptimKind;
    use ddpm_schedule::ScheduleKind;

    fn keys(now: &Config) -> Vec<(String, bool)> {
        differences(&Config::default(), now)
            .into_iter()
            .map(|change| (change.key, change.identity))
            .collect()
    }

    #[test]
    fn equal_ones_have_no_difference() {
        assert_eq!(keys(&Config::default()), []);
    }

    #[test]
    fn each_section_is_identity_or_not() {
        let mut now = Config {
            seed: 5,
            ..Config::default()
        };
        now.schedule.kind = ScheduleKind::Cosine;
        now.data.flip = true;
        now.augment.crop = Some(0.5);
        now.data.path = Some("elsewhere".into());
        now.init = Some(InitConfig {
            model: "runs/a".into(),
            weights: Some(InitWeights::Raw),
        });
        now.optim.kind = OptimKind::Adamw;
        now.train.steps = Some(9);
        let expected = [
            ("augment.crop", true),
            ("data.flip", true),
            ("data.path", false),
            ("init.model", false),
            ("init.weights", true),
            ("optim.kind", false),
            ("schedule.kind", true),
            ("seed", true),
            ("train.steps", false),
        ];
        assert_eq!(
            keys(&now),
            expected.map(|(key, identity)| (key.to_owned(), identity))
        );
        let changes = differences(&Config::default(), &now);
        assert_eq!(
            changes[2].to_string(),
            "`data.path` was unset and is \"elsewhere\""
        );
        assert_eq!(
            changes[6].to_string(),
            "`schedule.kind` was \"linear\" and is \"cosine\""
        );
    }

    #[test]
    fn the_digest_follows_identity_only() {
        let hash = |config: &Config| identity_hash(&section(config));
        let base = hash(&Config::default());
        let mut longer = Config::default();
        longer.train.steps = Some(1);
        longer.optim.lr = 1.0;
        assert_eq!(hash(&longer), base);
        let other = Config {
            seed: 1,
            ..Config::default()
        };
        assert_ne!(hash(&other), base);
    }
}
