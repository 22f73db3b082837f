//! Compares with the reference figures of other programs: builds and runs `tests/golden`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::step::{Step, workspace_features};

/// Which figures.
#[derive(Debug, Args)]
pub struct Options {
    /// A directory laid out like `tests/golden/data`; without it, that one
    dir: Option<PathBuf>,
}

/// Builds what the tests build, and runs the harness, which prints its table.
///
/// # Errors
/// If something does not build, or a figure does not hold.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    // The whole workspace with its features, so that nothing is built that the tests have not built.
    let build = format!("build --workspace{} --locked", workspace_features());
    Step::cargo("build", &build).run(root)?;
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let harness = own.with_file_name(format!("golden{}", std::env::consts::EXE_SUFFIX));
    let mut command = vec![harness.display().to_string()];
    if let Some(dir) = &options.dir {
        let dir = std::path::absolute(dir).with_context(|| dir.display().to_string())?;
        command.push(dir.display().to_string());
    }
    let golden = Step {
        name: "golden",
        command,
        environment: Vec::new(),
    };
    golden.run(root)?;
    Ok(())
}
