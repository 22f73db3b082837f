//! One command with its name and its time.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

/// A command of the checks or benchmarks. It runs in the workspace's folder.
#[derive(Debug)]
pub struct Step {
    /// What it is called in the output.
    pub name: &'static str,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables that it needs.
    pub environment: Vec<(&'static str, String)>,
}

impl Step {
    /// The step that runs cargo with arguments separated by spaces.
    pub fn cargo(name: &'static str, arguments: &str) -> Self {
        let command = std::iter::once("cargo").chain(arguments.split_whitespace());
        Self {
            name,
            command: command.map(str::to_owned).collect(),
            environment: Vec::new(),
        }
    }

    /// The same with environment variables.
    pub fn with(self, environment: &[(&'static str, &str)]) -> Self {
        let owned = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        Self {
            environment: environment.iter().map(owned).collect(),
            ..self
        }
    }

    /// The step as one would type it.
    pub fn typed(&self) -> String {
        let variables = self.environment.iter();
        let mut words: Vec<String> = variables
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        words.extend(self.command.iter().cloned());
        words.join(" ")
    }

    /// Runs it with its output shown, and says how many seconds it took.
    ///
    /// # Errors
    /// If the command cannot be started or fails.
    pub fn run(&self, root: &Path) -> anyhow::Result<f64> {
        say(&format!("== {}: {}", self.name, self.typed()));
        let (program, arguments) = self.command.split_first().context("an empty step")?;
        let start = Instant::now();
        let status = Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(root)
            .status()
            .with_context(|| format!("{}: `{program}` does not start", self.name))?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(
            status.success(),
            "{}: failed after {seconds:.0} s ({status}); repeat it with {}",
            self.name,
            self.typed()
        );
        say(&format!("== {}: {seconds:.1} s", self.name));
        Ok(seconds)
    }
}

/// What a build of the whole workspace adds where there is an MPI library.
pub const MPI: &str = " --features ddpm-tests/mpi";

/// The features of a build of the whole workspace here: with runs of several processes if they can be built.
pub fn workspace_features() -> &'static str {
    let compiler = Command::new("mpicc").arg("--version").output();
    match compiler.is_ok_and(|output| output.status.success()) {
        true => MPI,
        false => {
            say("skipped: runs of several processes, since there is no MPI library (no mpicc)");
            ""
        }
    }
}

/// Writes a line to stderr, between the lines of the commands.
pub fn say(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes to stdout; that its reader has gone is no failure.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_typed() {
        let step = Step::cargo("docs", "doc --no-deps").with(&[("RUSTDOCFLAGS", "-D warnings")]);
        assert_eq!(
            step.typed(),
            "RUSTDOCFLAGS=\"-D warnings\" cargo doc --no-deps"
        );
    }

    #[test]
    fn a_step_that_fails_is_an_error() {
        let root = Path::new(".");
        assert!(Step::cargo("version", "--version").run(root).is_ok());
        let error = Step::cargo("nothing", "--no-such-flag")
            .run(root)
            .unwrap_err();
        assert!(error.to_string().starts_with("nothing: failed"), "{error}");
    }
}
