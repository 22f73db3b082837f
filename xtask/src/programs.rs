//! The program of this workspace, built optimised, and what it prints.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::bench::places;
use crate::step::{Step, say};

/// `ddpm`, built optimised.
#[derive(Debug)]
pub struct Ddpm {
    root: PathBuf,
    program: PathBuf,
    /// The build folder.
    pub target: PathBuf,
}

impl Ddpm {
    /// Builds it.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn build(root: &Path) -> anyhow::Result<Self> {
        Step::cargo("program", "build --release -p ddpm-cli --locked").run(root)?;
        let target = places::target(root)?;
        let file = format!("ddpm{}", std::env::consts::EXE_SUFFIX);
        Ok(Self {
            root: root.to_owned(),
            program: target.join("release").join(file),
            target,
        })
    }

    /// Runs it with `--json`, and returns what it says at the end.
    ///
    /// # Errors
    /// The sentence that it ends with if it fails.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["--json", "-q"])
            .current_dir(&self.root)
            .output()
            .context("ddpm does not start")?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let last = told.lines().last().unwrap_or("ddpm failed");
            bail!("{}", last.trim_start_matches("error: "));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("ddpm said {last:?}"))
    }

    /// Trains a recipe, perhaps with some keys set, or goes on with it where it was begun before; returns what it says.
    ///
    /// # Errors
    /// If training fails.
    pub fn train(&self, recipe: &str, sets: &[&str], run: &Path) -> anyhow::Result<Value> {
        let place = run.display().to_string();
        let mut arguments = match run.join("config.toml").is_file() {
            true => vec!["train", "--resume", "--run", &place],
            false => vec!["train", recipe, "--run", &place],
        };
        if !run.join("config.toml").is_file() {
            arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        }
        arguments.extend(["--device", "cpu"]);
        say(&format!("== ddpm {}", arguments.join(" ")));
        self.run(&arguments)
    }
}
