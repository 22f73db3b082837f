//! What a change must pass.

use std::path::Path;

use crate::step::{Step, say};

/// The steps, cheapest first. None adds features, so that the dependencies are built twice only:
/// once to check (lints and documentation read the same metadata) and once to run.
fn steps() -> Vec<Step> {
    vec![
        Step::cargo("format", "fmt --all --check"),
        Step::cargo("tidy", "run --quiet --package xtask -- tidy"),
        Step::cargo(
            "lints",
            "clippy --workspace --all-targets --locked -- -D warnings",
        ),
        // What people build: without the faults that the tests switch on in it.
        Step::cargo(
            "lints of the program alone",
            "clippy --package ddpm-cli --locked -- -D warnings",
        ),
        Step::cargo("documentation", "doc --workspace --no-deps --locked")
            .with(&[("RUSTDOCFLAGS", "-D warnings")]),
        Step::cargo("examples in the documentation", "test --doc --workspace"),
        Step::cargo("tests", "nextest run --workspace"),
    ]
}

/// Runs every step, stops at the first that fails, and lists the seconds of each.
///
/// # Errors
/// That of the step that failed.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut seconds = Vec::new();
    for step in steps() {
        seconds.push((step.name, step.run(root)?));
    }
    for (name, seconds) in &seconds {
        say(&format!("{seconds:8.1} s  {name}"));
    }
    let total: f64 = seconds.iter().map(|(_, seconds)| seconds).sum();
    say(&format!("{total:8.1} s  in all"));
    Ok(())
}
