//! What a change must pass.

use std::path::Path;

use crate::step::{Step, say};

/// What compiles in the kernels of graphics cards, and the tests of them on the processor posing as one.
const CARDS: &str = "ddpm-kernels/wgpu,ddpm-unet/wgpu,ddpm-train/wgpu,ddpm-tests/wgpu";

/// The steps, cheapest first. All but one have the same features, so that the dependencies are built twice only:
/// once to check (lints and documentation read the same metadata) and once to run.
fn steps() -> Vec<Step> {
    let cards =
        |name, arguments: &str| Step::cargo(name, &format!("{arguments} --features {CARDS}"));
    vec![
        Step::cargo("format", "fmt --all --check"),
        Step::cargo("tidy", "run --quiet --package xtask -- tidy"),
        Step::cargo(
            "lints",
            &format!("clippy --workspace --all-targets --locked --features {CARDS} -- -D warnings"),
        ),
        // What people build: without the faults that the tests switch on in it, and without cards.
        Step::cargo(
            "lints of the program alone",
            "clippy --package ddpm-cli --locked -- -D warnings",
        ),
        cards("documentation", "doc --workspace --no-deps --locked")
            .with(&[("RUSTDOCFLAGS", "-D warnings")]),
        cards("examples in the documentation", "test --doc --workspace"),
        cards("tests", "nextest run --workspace"),
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
