//! Tries the faults: builds `ddpm` with and without faults in it, then runs `tests/src/bin/faults.rs`.

use std::path::Path;

use anyhow::Context;
use clap::Args;

use crate::step::{Step, workspace_features};

/// What to try.
#[derive(Debug, Args)]
pub struct Options {
    /// Try each a few times only, as the tests do
    #[arg(long)]
    quick: bool,
    /// Try the rows whose runs are trained and gone on with once for each process and objective
    #[arg(long)]
    each_objective: bool,
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
    let build = format!("build --workspace{} --locked", workspace_features());
    Step::cargo("build", &build).run(root)?;
    // Beside this very program lies what was just built.
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let harness = own.with_file_name(format!("faults{}", std::env::consts::EXE_SUFFIX));
    let mut command = vec![harness.display().to_string()];
    if options.quick {
        command.push("--quick".to_owned());
    }
    if options.each_objective {
        command.push("--each-objective".to_owned());
    }
    for row in &options.row {
        command.extend(["--row".to_owned(), row.to_string()]);
    }
    let faults = Step {
        name: "faults",
        command,
        environment: Vec::new(),
    };
    faults.run(root)?;
    Ok(())
}
