//! Tries the faults: builds `ddpm` with and without faults in it, then runs `tests/src/bin/faults.rs`.

use std::path::Path;

use clap::Args;

use crate::step::Step;

/// What to try.
#[derive(Debug, Args)]
pub struct Options {
    /// Try each a few times only, as the tests do
    #[arg(long)]
    quick: bool,
    /// Only this row of the table; may be repeated
    #[arg(long)]
    row: Vec<u8>,
}

/// Builds what the tests build, and runs the harness, which prints its table last.
///
/// # Errors
/// If something does not build, or a row does not hold.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    // The whole workspace with its features, so that nothing is built that the tests have not built.
    Step::cargo("build", "build --workspace --locked").run(root)?;
    let mut arguments = String::from("run --quiet --locked --package ddpm-tests --bin faults --");
    if options.quick {
        arguments += " --quick";
    }
    for row in &options.row {
        arguments += &format!(" --row {row}");
    }
    Step::cargo("faults", &arguments).run(root)?;
    Ok(())
}
