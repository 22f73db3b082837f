//! Times the network and its training step without data or files, and compares devices.
//!
//! `cargo xtask bench` runs this beside the same work in PyTorch. Each command prints one line of
//! JSON on stdout, with the keys that `xtask/peer/bench_peer.py` prints too.

mod allocator;
mod check;
mod clock;
mod inputs;
mod make_model;
mod memory;
#[cfg(feature = "cuda")]
mod nccl;
mod network;
mod place;
#[cfg(feature = "mpi")]
mod sums;

use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::{Parser, Subcommand};
use ddpm_device::{Choice, resolve};
use ddpm_unet::Model;
use serde_json::{Map, Value};
use tracing_subscriber::EnvFilter;

/// Times the network and its training step without data or files.
#[derive(Debug, Parser)]
#[command(name = "ddpm-bench", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Threads of the kernels; without it, one for each core
    #[arg(long, global = true)]
    threads: Option<NonZeroUsize>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Time training steps and forward passes of a network
    Network(network::NetworkArgs),
    /// Compare what a device computes with what the CPU does
    Check(check::CheckArgs),
    /// Write a network with initial weights as a diffusers directory
    MakeModel(make_model::MakeModelArgs),
    /// Send values from a GPU to itself by NCCL
    #[cfg(feature = "cuda")]
    Nccl(nccl::NcclArgs),
    /// Time the sum of gradients over the processes that mpirun started
    #[cfg(feature = "mpi")]
    Sums(sums::SumsArgs),
}

/// Stack of a thread in bytes, as in `ddpm`: commands run on one of the kernels' threads.
const STACK: usize = 8 << 20;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    match log().and_then(|()| run(&Arguments::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With stderr gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Warnings on stderr, or what `RUST_LOG` names.
fn log() -> anyhow::Result<()> {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = match directives.trim() {
        "" => EnvFilter::new("warn"),
        directives => EnvFilter::try_new(directives).context("RUST_LOG")?,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Before any tensor: rayon's pool is made at its first use and stays as it is.
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads.map_or(0, NonZeroUsize::get))
        .stack_size(STACK)
        .build_global()
        .context("--threads: the threads do not start")?;
    let line = match &arguments.task {
        Task::Network(args) => rayon::scope(|_| network::run(args))?,
        Task::Check(args) => rayon::scope(|_| check::run(args))?,
        Task::MakeModel(args) => make_model::run(args)?,
        #[cfg(feature = "cuda")]
        Task::Nccl(args) => nccl::run(args)?,
        #[cfg(feature = "mpi")]
        Task::Sums(args) => match sums::run(args)? {
            Some(line) => line,
            // Rank 0 says it.
            None => return Ok(()),
        },
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// The CPU, without autodiff.
fn cpu() -> anyhow::Result<Device> {
    Ok(resolve(Choice::Cpu)?.device)
}

/// The configuration of a `UNet2DModel`, as in a `config.json`.
fn read_config(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{}: not a JSON object of UNet2DModel's keys",
            path.display()
        )
    })
}

/// The network that a file describes, with initial weights.
fn build(path: &Path, device: &Device) -> anyhow::Result<Model> {
    build_json(&read_config(path)?, device).with_context(|| path.display().to_string())
}

/// The network that a configuration describes, with initial weights.
///
/// A key that is not known has no effect here but may have one elsewhere, so that two programs
/// would time different networks: it is an error.
fn build_json(config: &Map<String, Value>, device: &Device) -> anyhow::Result<Model> {
    let (model, unknown) = Model::from_json(config, device)?;
    if !unknown.is_empty() {
        bail!("these keys are not known: {}", unknown.join(", "));
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use ddpm_unet::{ModelConfig, ModelShape, UNet2DConfig, UnetSection};

    use super::*;

    pub(crate) fn config(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../xtask/peer/configs")
            .join(name)
    }

    /// Both programs read one file, which has to stay what the recipe trains, less its classes.
    #[test]
    fn digits_json_is_the_network_of_digits_classes() {
        let recipe =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/digits-classes.toml");
        let recipe: toml::Table = fs::read_to_string(recipe).unwrap().parse().unwrap();
        let section: ModelConfig = recipe["model"].clone().try_into().unwrap();
        let ModelConfig::Unet(section) = section else {
            panic!("{section:?}");
        };
        let section = UnetSection {
            classes: None,
            ..section
        };
        let shape = ModelShape {
            channels: 1,
            height: 8,
            width: 8,
            learned_variance: false,
            self_condition: false,
            steps: 1000,
            condition: Default::default(),
        };
        let (read, unknown) =
            UNet2DConfig::from_json(&read_config(&config("digits.json")).unwrap()).unwrap();
        assert_eq!(read, section.resolve(shape).unwrap());
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unet.json");
        let device = cpu().unwrap();
        for (text, words) in [
            ("[]", "not a JSON object"),
            ("{\"colour\": 3}", "these keys are not known: colour"),
            ("{\"in_channels\": 0}", "in_channels"),
        ] {
            fs::write(&path, text).unwrap();
            let message = format!("{:#}", build(&path, &device).unwrap_err());
            assert!(message.contains("unet.json"), "{message}");
            assert!(message.contains(words), "{message}");
        }
    }
}
