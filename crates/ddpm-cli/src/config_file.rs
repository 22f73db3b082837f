//! A configuration as the user wrote it: a TOML file and `--set` overrides, checked against the
//! known keys and read once.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::exit::{UsageError, one_line};
use wording::{kind_of, nearest, plain_type, told};

mod wording;

/// A recipe is a few dozen lines; whatever is larger is another file given by mistake.
const MAX_BYTES: u64 = 1 << 20;
/// Of a dotted key; a table within a table for each, so many of them overflow the stack.
const MAX_PARTS: usize = 8;

/// Keys whose value is a kind with options, or the name of the kind alone.
pub const CHOICES: &[&str] = &[
    "process",
    "process.times",
    "objective.weighting",
    "objective.error",
    "objective.bound",
    "ema.law",
    "sample.sampler",
    "sample.spacing",
    "sample.grid.within",
];

/// The keys that a configuration may have.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The defaults as a table. A key that is here must have the type that it has here.
    pub defaults: &'a Table,
    /// Dotted keys that the defaults do not show (`data.path`), or whose type varies.
    pub optional: &'a [&'a str],
}

/// A configuration that has not been checked yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigFile {
    /// What it is called in messages.
    name: Option<String>,
    table: Table,
    set: Vec<Override>,
}

/// One `--set key=value`, kept for the error messages.
#[derive(Clone, Debug, PartialEq)]
struct Override {
    key: Vec<String>,
    text: String,
}

impl ConfigFile {
    /// Reads a TOML file; its keys are checked by [`ConfigFile::read`].
    ///
    /// # Errors
    /// [`UsageError`] with the path, and for a syntax error the line and column.
    pub fn load(path: &Path) -> Result<Self, UsageError> {
        let name = path.display();
        let unreadable = |error| {
            UsageError(format!(
                "{name}: the configuration cannot be read: {error}; give the path of a TOML file"
            ))
        };
        // Counted while reading: a device has no length, and a pipe may go on for ever.
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(UsageError(format!(
                "{name}: more than {MAX_BYTES} bytes are too many for a configuration; give the path of a TOML file"
            )));
        }
        Self::parse(&name.to_string(), &text)
    }

    /// Takes the text of a configuration, which messages call `name`.
    ///
    /// # Errors
    /// [`UsageError`] with the line and column of a syntax error.
    pub fn parse(name: &str, text: &str) -> Result<Self, UsageError> {
        let table = text.parse().map_err(|error: toml::de::Error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            UsageError(format!(
                "{name}:{line}:{column}: {}",
                one_line(error.message())
            ))
        })?;
        Ok(Self {
            name: Some(name.to_owned()),
            table,
            set: Vec::new(),
        })
    }

    /// The text of `section.key`, if it is one.
    pub fn text(&self, section: &str, key: &str) -> Option<&str> {
        self.table.get(section)?.get(key)?.as_str()
    }

    /// The kind that a choice names, alone or in its table.
    pub fn kind(&self, choice: &str) -> Option<&str> {
        match self.table.get(choice)? {
            Value::String(kind) => Some(kind),
            table => table.get("kind")?.as_str(),
        }
    }

    /// Gives `section.key` a value where it has none.
    pub fn default_to(&mut self, section: &str, key: &str, value: &str) {
        let table = self
            .table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        if let Some(table) = table.as_table_mut()
            && !table.contains_key(key)
        {
            table.insert(key.to_owned(), Value::String(value.to_owned()));
        }
    }

    /// Takes `key`, a dotted one, out of the table, if it is there.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut self.table;
        for name in section.split('.').filter(|name| !name.is_empty()) {
            table = table.get_mut(name)?.as_table_mut()?;
        }
        table.remove(name)
    }

    /// Whether a `--set` gave `key`, a dotted one, its value.
    pub fn is_set(&self, key: &str) -> bool {
        self.set.iter().any(|by_hand| by_hand.key.join(".") == key)
    }

    /// The keys below `section`, as the file and the overrides have them.
    pub fn keys_of(&self, section: &str) -> Vec<String> {
        let table = self.table.get(section).and_then(Value::as_table);
        table.map_or_else(Vec::new, |table| table.keys().cloned().collect())
    }

    /// Merges one `--set a.b=value`, making the tables on the way. Returns the dotted key.
    ///
    /// The value is read as TOML (`3`, `1e-4`, `true`, `[16, 8]`, `"a"`) and, where it is none, as a number (`.001`)
    /// or else is the text itself, so that a word needs no quotes. For a key of `texts`, all but a quoted text is
    /// the text itself: a folder may be called `2024`.
    ///
    /// # Errors
    /// [`UsageError`] if there is no `=`, a key is empty or has too many parts, or a table on the way is a value.
    pub fn set(&mut self, argument: &str, texts: &[&str]) -> Result<String, UsageError> {
        let refuse = |why: &str| UsageError(format!("--set {argument}: {why}"));
        let (key, text) = argument
            .split_once('=')
            .ok_or_else(|| refuse("no `=`; write --set section.key=value"))?;
        let key: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        let Some((last, tables)) = key.split_last().filter(|_| !key.contains(&String::new()))
        else {
            return Err(refuse("a key is empty; write --set section.key=value"));
        };
        if key.len() > MAX_PARTS {
            return Err(refuse(
                "the key has too many parts; write --set section.key=value",
            ));
        }
        let text = text.trim();
        let dotted = key.join(".");
        let value = match value_of(text) {
            value @ Value::String(_) => value,
            _ if texts.contains(&dotted.as_str()) => Value::String(text.to_owned()),
            value => value,
        };
        let mut table = &mut self.table;
        for (depth, name) in tables.iter().enumerate() {
            let holder = key[..=depth].join(".");
            let value = table
                .entry(name.as_str())
                .or_insert_with(|| Value::Table(Table::new()));
            // `sampler = "heun"` is short for a table.
            if let Value::String(kind) = value
                && CHOICES.contains(&holder.as_str())
            {
                *value = Value::Table(Table::from_iter([(
                    "kind".to_owned(),
                    Value::String(kind.clone()),
                )]));
            }
            table = value
                .as_table_mut()
                .ok_or_else(|| refuse(&format!("`{holder}` is a value, so nothing is below it")))?;
        }
        table.insert(last.clone(), value);
        self.set.push(Override {
            key,
            text: argument.to_owned(),
        });
        Ok(dotted)
    }

    /// Checks every key and its type, then reads the whole.
    ///
    /// # Errors
    /// [`UsageError`] naming where the key was written, the key, and what to write instead.
    pub fn read<T: DeserializeOwned>(&self, known: Known<'_>) -> Result<T, UsageError> {
        self.check(&self.table, known.defaults, known, &mut Vec::new())?;
        T::deserialize(self.table.clone()).map_err(|error| {
            let key = key_of(&error);
            let origin = self.origin(&key);
            let message = told(error.message());
            UsageError(if key.is_empty() {
                format!("{origin}: {message}")
            } else {
                format!("{origin}: `{}`: {message}", key.join("."))
            })
        })
    }

    /// Checks one table of the user's, whose own key is `at`, against that of the defaults.
    fn check(
        &self,
        table: &Table,
        defaults: &Table,
        known: Known<'_>,
        at: &mut Vec<String>,
    ) -> Result<(), UsageError> {
        for (name, value) in table {
            at.push(name.clone());
            let key = at.join(".");
            let optional = known.optional.iter().any(|optional| {
                key.strip_prefix(optional)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            match (defaults.get(name), value) {
                (_, Value::Table(table)) if is_nameless(&key, table) => {
                    let usual = defaults.get(name).and_then(Value::as_table);
                    let problem = misspelt(&key, table, usual).unwrap_or_else(|| {
                        format!("`{key}` has no `kind`; write {name} = {{ kind = \"…\", … }}")
                    });
                    return Err(UsageError(format!("{}: {problem}", self.origin(at))));
                }
                _ if optional => {}
                (Some(Value::Table(defaults)), Value::Table(table)) => {
                    self.check(table, defaults, known, at)?;
                }
                (Some(default), value) if fits(default, value) => {}
                (Some(default), value) => {
                    return Err(UsageError(format!(
                        "{}: `{key}` must be {}, not {}",
                        self.origin(at),
                        plain_type(default),
                        kind_of(value)
                    )));
                }
                (None, _) => {
                    let hint = hint(at, defaults, known);
                    return Err(UsageError(format!(
                        "{}: unknown key `{key}`; {hint}",
                        self.origin(at)
                    )));
                }
            }
            at.pop();
        }
        Ok(())
    }

    /// Where the user wrote a key: the last `--set` of it or of what is below it, or the file.
    fn origin(&self, key: &[String]) -> String {
        let by_hand = self.set.iter().rev().find(|by_hand| {
            !key.is_empty() && (by_hand.key.starts_with(key) || key.starts_with(&by_hand.key))
        });
        match (by_hand, &self.name) {
            (Some(by_hand), _) => format!("--set {}", by_hand.text),
            (None, Some(name)) => name.clone(),
            (None, None) => "the configuration".to_owned(),
        }
    }
}

/// Whether a table that says one of several kinds does not say which.
fn is_nameless(key: &str, table: &Table) -> bool {
    CHOICES.contains(&key) && !table.contains_key("kind")
}

/// What is wrong with a table without a `kind` that has a key near to it, or to a key of the usual kind.
fn misspelt(key: &str, table: &Table, usual: Option<&Table>) -> Option<String> {
    let kind = format!("{key}.kind");
    let options = usual.into_iter().flat_map(Table::keys);
    let mut real: Vec<String> = options.map(|name| format!("{key}.{name}")).collect();
    real.push(kind);
    let mut written = table.keys().map(|name| format!("{key}.{name}"));
    written.find_map(|name| {
        let near = nearest(&name, real.iter().map(String::as_str)).filter(|near| *near != name)?;
        Some(format!("unknown key `{name}`; did you mean `{near}`?"))
    })
}

/// A value as people write one on the command line: TOML, or a number without a digit before or after its point, or a
/// text.
fn value_of(text: &str) -> Value {
    let is_number = |text: &str| {
        let digits = text.trim_start_matches(['+', '-']);
        digits.starts_with(|first: char| first == '.' || first.is_ascii_digit())
    };
    if let Ok(value) = text.parse() {
        return value;
    }
    match text.parse::<f64>() {
        // A whole number here is one that TOML's 63 bits do not hold.
        Ok(number) if is_number(text) && text.contains(['.', 'e', 'E']) => Value::Float(number),
        _ => Value::String(text.to_owned()),
    }
}

/// Whether a value may stand where the default stands: a whole number is a number as well.
fn fits(default: &Value, value: &Value) -> bool {
    default.same_type(value) || matches!((default, value), (Value::Float(_), Value::Integer(_)))
}

/// What to write instead of the unknown key `at`: the nearest name beside it, or the same name in
/// another section, or all names beside it.
fn hint(at: &[String], defaults: &Table, known: Known<'_>) -> String {
    let (section, name) = match at.split_last() {
        Some((name, section)) => (section.join("."), name.as_str()),
        None => (String::new(), ""),
    };
    let within = |key: &str| match section.as_str() {
        "" => key.to_owned(),
        section => format!("{section}.{key}"),
    };
    let mut all: Vec<String> = known.optional.iter().map(ToString::to_string).collect();
    leaves(known.defaults, "", &mut all);

    let mut beside: Vec<String> = defaults.keys().map(|name| within(name)).collect();
    beside.extend(known.optional.iter().filter_map(|key| {
        let (holder, _) = key.rsplit_once('.').unwrap_or(("", key));
        (holder == section).then(|| (*key).to_owned())
    }));
    beside.sort_unstable();
    beside.dedup();

    let near = nearest(&within(name), beside.iter().map(String::as_str));
    let elsewhere = || {
        all.iter()
            .map(String::as_str)
            .find(|key| key.rsplit('.').next() == Some(name))
    };
    match near.or_else(elsewhere) {
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("known here: {}", beside.join(", ")),
    }
}

/// The dotted keys of all values in a table whose own key is `holder`.
pub fn leaves(table: &Table, holder: &str, into: &mut Vec<String>) {
    for (name, value) in table {
        let key = match holder {
            "" => name.clone(),
            holder => format!("{holder}.{name}"),
        };
        match value {
            Value::Table(table) => leaves(table, &key, into),
            _ => into.push(key),
        }
    }
}

/// The key at fault. `toml` gives it only as the last line of the displayed error.
fn key_of(error: &toml::de::Error) -> Vec<String> {
    let shown = error.to_string();
    let key = shown
        .trim_end()
        .rsplit_once("\nin `")
        .and_then(|(_, key)| key.strip_suffix('`'));
    key.map(|key| key.split('.').map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Line and column, from 1, of a byte of a text.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
