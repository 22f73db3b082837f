//! Measurements: the crates' own benchmarks, and whole pieces of work beside PyTorch's.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::step::say;

mod criterion;
mod end_to_end;
mod kernels;
mod machine;
mod ours;
mod peer;
mod places;
mod process;
mod report;
mod row;
mod stats;
mod table;
mod work;

/// What is measured, and how.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench                                  everything, our side only
  cargo xtask bench --peer python3                   everything, beside PyTorch
  cargo xtask bench --quick --end-to-end-only        one minute, to see that it works
  cargo xtask bench normal_fill --kernels-only       one benchmark
  cargo xtask bench 'small-32, batch 8' --end-to-end-only --peer python3 --json out.json

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
    /// without it, all (two in a quick measurement)
    #[arg(long, value_delimiter = ',', requires = "peer")]
    modes: Option<Vec<peer::Mode>>,
    /// Seconds that a mode of PyTorch has to show that it is the best, compilation included
    #[arg(long, default_value_t = 300)]
    mode_limit_s: u64,
    /// Threads of both sides; without it, one for each core
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Only the crates' benchmarks
    #[arg(long, conflicts_with_all = ["end_to_end_only", "peer", "json"])]
    kernels_only: bool,
    /// Only training and sampling end to end
    #[arg(long)]
    end_to_end_only: bool,
    /// Compile the crates' benchmarks and run each once, unmeasured; nothing end to end
    #[arg(long, conflicts_with_all = ["end_to_end_only", "peer", "json", "quick"])]
    test: bool,
}

/// Measures what the options ask for.
///
/// # Errors
/// If something does not build or fails, or if the peer cannot be used.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let filter = options.filter.as_deref();
    let threads = options.threads.map_or_else(machine::cores, Into::into);
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
    let peer = end_to_end.start_peer(root)?;
    if !options.end_to_end_only {
        let effort = match (options.test, options.quick) {
            (true, _) => criterion::Effort::Test,
            (false, true) => criterion::Effort::Quick,
            (false, false) => criterion::Effort::Full,
        };
        let start = SystemTime::now();
        criterion::run(root, filter, effort, threads)?;
        if !options.test {
            end_to_end::print(&kernels::table(&root.join("target"), start))?;
        }
    }
    if options.kernels_only || options.test {
        return Ok(());
    }
    if end_to_end.works.is_empty() {
        say("no end-to-end row has a name that contains the filter");
        return Ok(());
    }
    end_to_end.run(root, peer)
}
