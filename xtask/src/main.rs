//! Developer commands of the workspace: `cargo xtask ci|tidy|bench|golden|gallery|quality|recipes|gpu-bundle|faults|cuda-offline`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

mod bench;
mod bundle;
mod ci;
#[cfg(unix)]
mod cuda_offline;
mod faults;
mod gallery;
mod golden;
mod pixels;
mod programs;
mod quality;
mod recipes;
mod scaling;
mod step;
mod tidy;

/// Developer commands of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check everything that a change must pass: format, lints, tests, documentation.
    Ci,
    /// Check the rules that the compiler does not know: who uses whom, where printing happens, …
    Tidy,
    /// Build optimised and measure: the crates' benchmarks, then training and sampling end to end.
    Bench(bench::Options),
    /// Pack programs, recipes and a script that checks, trains and measures on a rented machine with a GPU.
    GpuBundle(bundle::Options),
    /// Compare with the reference figures of other programs, and print how near ours come
    Golden(golden::Options),
    /// Draw with every sampler from a network of each process, and write docs/samplers.md
    Gallery(gallery::Options),
    /// Print what many GPUs would reach, on paper: the tables of docs/scaling.md
    Scaling,
    /// Judge the recipes' images beside a peer's after the same time, and what single choices bring.
    Quality(quality::Options),
    /// Train a recipe and hold it to what it promises
    Recipes(recipes::Options),
    /// Try every fault and hostile input that must do no harm, and print the table of them.
    Faults(faults::Options),
    /// Build programs for NVIDIA GPUs on a machine that cannot download LLVM.
    #[cfg(unix)]
    CudaOffline(cuda_offline::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let root = root()?;
    match task {
        Task::Ci => ci::run(&root),
        Task::Tidy => tidy::run(&root),
        Task::Bench(options) => bench::run(&root, &options),
        Task::GpuBundle(options) => bundle::run(&root, &options),
        Task::Golden(options) => golden::run(&root, &options),
        Task::Gallery(options) => gallery::run(&root, &options),
        Task::Scaling => scaling::run(),
        Task::Quality(options) => quality::run(&root, &options),
        Task::Recipes(options) => recipes::run(&root, &options),
        Task::Faults(options) => faults::run(&root, &options),
        #[cfg(unix)]
        Task::CudaOffline(options) => cuda_offline::run(&root, &options),
    }
}

/// The folder of the workspace, in which every command runs.
fn root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .context("xtask lies in no workspace; build it where it is used")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands of this crate in a Markdown text, in blocks and in inline code.
    fn shown(text: &str) -> impl Iterator<Item = &str> {
        text.lines().flat_map(|line| {
            let pieces: Vec<&str> = match line.starts_with("cargo xtask ") {
                true => vec![line.split(" #").next().unwrap_or(line)],
                false => line.split('`').skip(1).step_by(2).collect(),
            };
            pieces
                .into_iter()
                .filter_map(|piece| piece.strip_prefix("cargo xtask "))
        })
    }

    #[test]
    fn commands_that_documents_show_are_understood() {
        let mut count = 0;
        for document in [
            "README.md",
            "ARCHITECTURE.md",
            "docs/gpu.md",
            "docs/guidance.md",
            "docs/quality.md",
        ] {
            let text = std::fs::read_to_string(root().unwrap().join(document)).unwrap();
            for command in shown(&text) {
                let words = command
                    .split_whitespace()
                    .map(|word| word.trim_matches('\''));
                let parsed = Arguments::try_parse_from(std::iter::once("xtask").chain(words));
                assert!(parsed.is_ok(), "{document}: cargo xtask {command}");
                count += 1;
            }
        }
        assert!(count > 5, "{count}");
    }
}
