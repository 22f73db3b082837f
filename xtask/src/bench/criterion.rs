//! The benchmarks in the crates' `benches/`, built optimised.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::step::{Step, say};
use crate::tidy::members;

/// A file in some crate's `benches/`.
#[derive(Debug, PartialEq, Eq)]
struct Bench {
    package: String,
    name: String,
}

/// How thoroughly the benchmarks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As each benchmark says.
    Full,
    /// Less than a second each.
    Quick,
    /// Once each, unmeasured.
    Test,
}

impl Effort {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::Quick => &[
                "--warm-up-time",
                "0.05",
                "--measurement-time",
                "0.2",
                "--sample-size",
                "10",
                "--nresamples",
                "1000",
            ],
            Self::Test => &["--test"],
        }
    }
}

/// Runs every benchmark, in one call of cargo so that they are built together.
///
/// # Errors
/// If the workspace cannot be read or a benchmark fails.
pub fn run(
    root: &Path,
    filter: Option<&str>,
    effort: Effort,
    threads: usize,
) -> anyhow::Result<()> {
    let benches = find(root)?;
    if benches.is_empty() {
        say("no crate has a file in benches/, so there is nothing to measure");
        return Ok(());
    }
    for Bench { package, name } in &benches {
        say(&format!("{package}: benches/{name}.rs"));
    }
    command(&benches, filter, effort, threads).run(root)?;
    Ok(())
}

/// `cargo bench` for these and nothing else: without `--bench`, cargo would build every library's
/// tests optimised as well. With `--workspace`, and not with single packages, they share the build
/// of burn with the programs.
fn command(benches: &[Bench], filter: Option<&str>, effort: Effort, threads: usize) -> Step {
    let mut names: Vec<&str> = benches.iter().map(|bench| bench.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut command = vec!["cargo", "bench", "--locked", "--workspace"];
    command.extend(names.into_iter().flat_map(|name| ["--bench", name]));
    command.push("--");
    command.extend(effort.arguments());
    command.extend(filter);
    Step {
        name: "benchmarks",
        command: command.into_iter().map(str::to_owned).collect(),
        environment: vec![("RAYON_NUM_THREADS", threads.to_string())],
    }
}

/// Every benchmark of the workspace, crate by crate, in the order of their names.
fn find(root: &Path) -> anyhow::Result<Vec<Bench>> {
    let mut benches = Vec::new();
    for member in members(root)? {
        let folder = root.join(&member.folder).join("benches");
        if !folder.is_dir() {
            continue;
        }
        let listing = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut names = Vec::new();
        for entry in listing {
            let path = entry.with_context(|| folder.display().to_string())?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(
                    path.file_stem()
                        .map(|stem| stem.to_string_lossy().into_owned()),
                );
            }
        }
        names.sort();
        benches.extend(names.into_iter().map(|name| Bench {
            package: member.name.clone(),
            name,
        }));
    }
    Ok(benches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_benchmarks_are_built() {
        let bench = |package: &str, name: &str| Bench {
            package: package.into(),
            name: name.into(),
        };
        let benches = [
            bench("a", "x"),
            bench("a", "y"),
            bench("b", "x"),
            bench("b", "z"),
        ];
        let start = "RAYON_NUM_THREADS=\"2\" cargo bench --locked --workspace --bench x --bench y --bench z --";
        for (effort, end) in [
            (Effort::Full, " fill"),
            (Effort::Test, " --test fill"),
            (
                Effort::Quick,
                " --warm-up-time 0.05 --measurement-time 0.2 --sample-size 10 --nresamples 1000 fill",
            ),
        ] {
            assert_eq!(
                command(&benches, Some("fill"), effort, 2).typed(),
                format!("{start}{end}")
            );
        }
    }

    #[test]
    fn benches_are_found_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("crates/a/benches");
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            root.path().join("Cargo.toml"),
            "[workspace]\nmembers = ['crates/*']",
        )
        .unwrap();
        fs::write(
            root.path().join("crates/a/Cargo.toml"),
            "[package]\nname = 'a'",
        )
        .unwrap();
        for file in ["y.rs", "x.rs", "notes.md"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let found = find(root.path()).unwrap();
        let names: Vec<_> = found.iter().map(|bench| bench.name.as_str()).collect();
        assert_eq!(names, ["x", "y"]);
    }
}
