//! What a change must pass.

use std::path::Path;

use crate::step::{Step, say, workspace_features};

/// The steps, cheapest first. The package of end-to-end tests switches the kernels of GPUs on in the whole workspace, so
/// that the dependencies are built twice only: once to check (lints and documentation read the same metadata) and once to
/// run.
fn steps(features: &str) -> Vec<Step> {
    let with = |name, command: &str| Step::cargo(name, &command.replace(" FEATURES", features));
    vec![
        Step::cargo("format", "fmt --all --check"),
        Step::cargo("tidy", "run --quiet --package xtask -- tidy"),
        with(
            "lints",
            "clippy --workspace FEATURES --all-targets --locked -- -D warnings",
        ),
        // What people build: without the faults that the tests switch on in it, and without GPUs.
        Step::cargo(
            "lints of the program alone",
            "clippy --package ddpm-cli --locked -- -D warnings",
        ),
        with(
            "documentation",
            "doc --workspace FEATURES --no-deps --locked",
        )
        .with(&[("RUSTDOCFLAGS", "-D warnings")]),
        with("tests", "test --workspace FEATURES -- --include-ignored"),
    ]
}

/// Runs every step, stops at the first that fails, and lists the seconds of each.
///
/// # Errors
/// That of the step that failed.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut seconds = Vec::new();
    for step in steps(workspace_features()) {
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
    use crate::step::MPI;

    #[test]
    fn the_test_commands_that_readme_shows_are_steps() {
        let readme = include_str!("../../README.md");
        let (_, section) = readme.split_once("\n## Test\n").unwrap();
        let lines = section.lines().filter_map(|line| line.split('#').next());
        let shown: Vec<&str> = lines
            .filter(|line| line.contains("--include-ignored"))
            .map(str::trim)
            .collect();
        for (shown, features) in shown.iter().zip(["", MPI]) {
            let typed: Vec<String> = steps(features).iter().map(Step::typed).collect();
            assert!(typed.contains(&(*shown).to_owned()), "{shown}: {typed:?}");
        }
        assert_eq!(shown.len(), 2);
    }
}
