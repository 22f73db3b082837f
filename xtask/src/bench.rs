//! Measurements: the crates' own benchmarks, and whole pieces of work beside PyTorch's.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;

use crate::step::{print, say};

mod criterion;
mod device;
mod end_to_end;
mod kernels;
mod machine;
mod ours;
mod peer;
pub mod places;
mod process;
mod ranks;
mod report;
mod row;
mod stats;
mod table;
mod work;

use peer::Peer;
use places::Places;

/// What is measured, and how.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench                                  everything, our side only
  cargo xtask bench --peer python3                   everything, beside PyTorch
  cargo xtask bench --quick --end-to-end-only        one minute, to see that it works
  cargo xtask bench normal_fill --kernels-only       one benchmark
  cargo xtask bench 'small-32, batch 8' --end-to-end-only --peer python3 --json out.json
  cargo xtask bench --device cuda:0 --peer python3   the networks on a GPU
  cargo xtask bench --ranks                          runs of 1 and 2 processes with one thread each

With a peer, each piece of work is done by both sides in turn, round after round.")]
pub struct Options {
    /// Only benchmarks and rows whose name contains this
    filter: Option<String>,
    /// A Python that has torch and diffusers, to measure the same work there
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// File for every figure of every round
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Little work, one round and two of PyTorch's modes, to see that it works
    #[arg(long)]
    quick: bool,
    /// Modes of PyTorch to choose the best from beside eager-f32, as in channels_last-f32,compile-bf16;
    /// without it, all (two in a quick measurement). With --device, the modes that take part
    #[arg(long, value_delimiter = ',', requires = "peer")]
    modes: Option<Vec<peer::Mode>>,
    /// Seconds that a mode of PyTorch has to show that it is the best, compilation included; with --device, that
    /// each process has
    #[arg(long, default_value_t = 300)]
    mode_limit_s: u64,
    /// Measure the networks on this device, as `ddpm` names it, in each kind of numbers that it has: cuda:0,
    /// vulkan:0, cpu, … PyTorch works on the same device
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// With --device: seconds for everything; what would begin later is left out
    #[arg(long, value_name = "SECONDS", requires = "device")]
    limit_s: Option<u64>,
    /// A folder of ready-made `ddpm` and `ddpm-bench`, instead of building them; implies --end-to-end-only
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Threads of both sides; without it, one for each core
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Runs of several processes instead, by mpirun: steps a second, and the share of time spent summing; writes the
    /// tables of docs/scaling.md
    #[arg(long, conflicts_with_all = ["peer", "json", "device", "binaries", "threads"])]
    ranks: bool,
    /// Only the crates' benchmarks
    #[arg(long, conflicts_with_all = ["end_to_end_only", "peer", "json", "device", "binaries"])]
    kernels_only: bool,
    /// Only training and sampling end to end
    #[arg(long)]
    end_to_end_only: bool,
    /// Compile the crates' benchmarks and run each once, unmeasured; nothing end to end
    #[arg(long, conflicts_with_all = ["end_to_end_only", "peer", "json", "quick", "device", "binaries"])]
    test: bool,
}

/// Measures what the options ask for.
///
/// # Errors
/// If something does not build or fails, or if the peer cannot be used.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    if options.ranks {
        return ranks::run(root, options.quick);
    }
    let places = Places::new(root, options.binaries.as_deref())?;
    let threads = options.threads.map_or_else(machine::cores, Into::into);
    if let Some(device) = &options.device {
        return on_device(root, &places, threads, device, options);
    }
    let filter = options.filter.as_deref();
    let end_to_end = end_to_end::Plan {
        works: work::select(work::all(options.quick), filter),
        quick: options.quick,
        threads,
        modes: options.modes.clone(),
        mode_limit: Duration::from_secs(options.mode_limit_s),
        peer: options.peer.clone(),
        json: options.json.clone(),
    };
    // Before anything is built: a peer that cannot be used should not cost minutes.
    let peer = end_to_end.start_peer(&places)?;
    if !options.end_to_end_only && options.binaries.is_none() {
        let effort = match (options.test, options.quick) {
            (true, _) => criterion::Effort::Test,
            (false, true) => criterion::Effort::Quick,
            (false, false) => criterion::Effort::Full,
        };
        let start = SystemTime::now();
        criterion::run(root, filter, effort, threads)?;
        if !options.test {
            print(&kernels::table(&root.join("target"), start))?;
        }
    }
    if options.kernels_only || options.test {
        return Ok(());
    }
    if end_to_end.works.is_empty() {
        say("no end-to-end row has a name that contains the filter");
        return Ok(());
    }
    build(root, &places, options)?;
    end_to_end.run(&places, peer)
}

/// Measures the networks on a device.
fn on_device(
    root: &Path,
    places: &Places,
    threads: usize,
    device: &str,
    options: &Options,
) -> anyhow::Result<()> {
    let plan = device::Plan {
        device: device.to_owned(),
        filter: options.filter.clone(),
        quick: options.quick,
        threads,
        modes: options.modes.clone(),
        job_limit: Duration::from_secs(options.mode_limit_s),
        limit: options.limit_s.map(Duration::from_secs),
        json: options.json.clone(),
    };
    let start = |python: &PathBuf| {
        let theirs = device::peer_device(device).with_context(|| {
            format!("--device {device}: PyTorch has no such device; leave --peer out")
        })?;
        let index = device
            .split_once(':')
            .and_then(|(_, index)| index.parse().ok());
        Peer::start_on(places, python, threads, theirs, index)
    };
    let peer = options.peer.as_ref().map(start).transpose()?;
    build(root, places, options)?;
    plan.run(places, peer.as_ref())
}

/// Builds the programs, unless they are there. Those for a device have its cargo feature.
fn build(root: &Path, places: &Places, options: &Options) -> anyhow::Result<()> {
    if options.binaries.is_some() {
        return Ok(());
    }
    let kind = options.device.as_deref().unwrap_or("cpu");
    let kind = kind.split_once(':').map_or(kind, |(kind, _)| kind);
    places.build(root, (kind != "cpu").then_some(kind))
}
