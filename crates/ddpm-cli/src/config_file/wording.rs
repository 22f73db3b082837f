//! Types and names of a configuration in plain words.

use toml::Value;

use crate::exit::one_line;

/// The name nearest to `name`, if one is near enough to be a slip of the fingers.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // The comparison takes time and memory by the product of the lengths, and no slip makes a name this long.
    const LONGEST: usize = 100;
    if name.len() > LONGEST {
        return None;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    // A third of the letters may differ, two in a short name.
    let far = (last.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The type of a value, as what a key must be.
pub(super) fn plain_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}

/// A value with its type, as what a key is.
pub(super) fn kind_of(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string {text:?}"),
        Value::Integer(_) | Value::Float(_) => format!("the number {value}"),
        Value::Boolean(value) => value.to_string(),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => plain_type(value).to_owned(),
    }
}

/// serde's message in one line, its Rust types in plain words, with the nearest of the names
/// that it lists.
pub(super) fn told(message: &str) -> String {
    let message = one_line(message);
    if let Some((wrong, listed)) = unknown(&message) {
        return match nearest(wrong, listed.split('`').skip(1).step_by(2)) {
            Some(near) => format!("{message}; did you mean `{near}`?"),
            None => message,
        };
    }
    match message.rsplit_once(", expected ") {
        Some((found, expected)) => format!("{found}, expected {}", plain_expectation(expected)),
        None => message,
    }
}

/// The parts of ``unknown variant `a`, expected one of `b`, `c` ``: the name and the list.
fn unknown(message: &str) -> Option<(&str, &str)> {
    let rest = ["unknown variant `", "unknown field `"]
        .into_iter()
        .find_map(|start| message.strip_prefix(start))?;
    rest.split_once("`, expected ")
}

fn plain_expectation(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "an array",
        "a map" => "a table",
        other => other,
    }
}
