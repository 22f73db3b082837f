//! What a change must pass.

use std::path::Path;

use crate::step::{Step, say};

/// The steps, cheapest first. The package of end-to-end tests switches the kernels of GPUs on in the whole workspace, so
/// that the dependencies are built twice only: once to check (lints and documentation read the same metadata) and once to
/// run.
fn steps() -> Vec<Step> {
    vec![
        Step::cargo("format", "fmt --all --check"),
        Step::cargo("tidy", "run --quiet --package xtask -- tidy"),
        Step::cargo(
            "lints",
            "clippy --workspace --all-targets --locked -- -D warnings",
        ),
        // What people build: without the faults that the tests switch on in it, and without GPUs.
        Step::cargo(
            "lints of the program alone",
            "clippy --package ddpm-cli --locked -- -D warnings",
        ),
        Step::cargo("documentation", "doc --workspace --no-deps --locked")
            .with(&[("RUSTDOCFLAGS", "-D warnings")]),
        Step::cargo("tests", "test --workspace -- --include-ignored"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_command_that_readme_shows_is_a_step() {
        let readme = include_str!("../../README.md");
        let (_, section) = readme.split_once("\n## Test\n").unwrap();
        let shown = section
            .lines()
            .filter_map(|line| line.split('#').next())
            .find(|line| line.contains("--include-ignored"))
            .unwrap();
        let typed: Vec<String> = steps().iter().map(Step::typed).collect();
        assert!(
            typed.contains(&shown.trim().to_owned()),
            "{shown}: {typed:?}"
        );
    }
}
