//! Rules on Rust files.

use std::path::Path;

use super::Member;

/// A longer file holds more than one idea.
const MAX_LINES: usize = 600;

/// The crates that print, and that read the environment.
const FOR_PEOPLE: &[&str] = &[
    "ddpm-bench",
    "ddpm-cli",
    "ddpm-golden",
    "ddpm-tests",
    "xtask",
];

/// What only those crates may write, and the rule that says so.
const FOR_PEOPLE_ONLY: &[(&str, &str)] = &[
    ("println!", "a library prints nothing; use tracing"),
    ("print!", "a library prints nothing; use tracing"),
    (
        "std::env",
        "a library does not read the environment; take an argument",
    ),
    (
        "env::var",
        "a library does not read the environment; take an argument",
    ),
];

/// The one crate that knows burn's backends; xtask only has the name in this rule's tests.
const BACKENDS: &str = "ddpm-kernels";
const EXEMPT: &str = "xtask";

/// The broken rules of one file, whose path is relative to its crate's folder.
pub(super) fn check(member: &Member, path: &Path, text: &str) -> Vec<String> {
    let file = member.file(&path.to_string_lossy());
    let mut broken = Vec::new();
    let lines = text.lines().count();
    let in_src = path.starts_with("src");
    if in_src && member.folder.starts_with("crates") && lines > MAX_LINES {
        broken.push(format!(
            "{file}: {lines} lines are more than {MAX_LINES}; make two files of it"
        ));
    }
    if ![BACKENDS, EXEMPT].contains(&member.name.as_str()) && names_backend(text) {
        broken.push(format!(
            "{file}: only {BACKENDS} may name burn's module `backend`"
        ));
    }
    if in_src && !is_test(path) && !FOR_PEOPLE.contains(&member.name.as_str()) {
        for (number, line) in shipped(text) {
            // One line breaks one rule once: `eprintln!` contains `print!` and `println!`.
            if let Some((_, rule)) = FOR_PEOPLE_ONLY.iter().find(|(word, _)| line.contains(word)) {
                broken.push(format!("{file}:{number}: {rule}"));
            }
        }
    }
    broken
}

/// Whether a whole file belongs to the tests: `tests.rs`, or anything below a folder `tests`.
fn is_test(path: &Path) -> bool {
    path.with_extension("")
        .components()
        .any(|part| part.as_os_str() == "tests")
}

/// The lines that are compiled into the library, with their numbers: up to the module of tests,
/// which stands last, and without comments.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim_start().starts_with("#[cfg(test)]") && pair[1].trim_start().starts_with("mod ")
    });
    let end = tests.unwrap_or(lines.len());
    lines
        .into_iter()
        .take(end)
        .enumerate()
        .map(|(index, line)| (index + 1, code(line)))
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// Whether the code names burn's `backend`, as a path or inside a list `burn::{…}`.
fn names_backend(text: &str) -> bool {
    let words = text.lines().flat_map(|line| code(line).split_whitespace());
    let code = words
        .collect::<Vec<_>>()
        .join(" ")
        .replace("{ ", "{")
        .replace(", ", ",");
    code.match_indices("burn::").any(|(start, found)| {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            return false;
        }
        let rest = &code[start + found.len()..];
        let listed = match rest.strip_prefix('{') {
            Some(list) => &list[..list.find(';').unwrap_or(list.len())],
            None => return names(rest, "backend"),
        };
        listed.split(['{', ',']).any(|item| names(item, "backend"))
    })
}

/// Whether a path starts with a name.
fn names(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| {
        let next = rest.chars().next();
        !next.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}
