//! `mpirun … ddpm-bench sums`: how long the sum of a step's gradients takes.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ddpm_train::mpi::Session;
use ddpm_train::{Reduction, time_of_sum};
use serde_json::{Value, json};

/// `ddpm-bench sums`.
#[derive(Debug, Args)]
pub struct SumsArgs {
    /// Parameters of the network
    #[arg(long)]
    pub parameters: usize,
    /// In what order they are added
    #[arg(long, default_value = "tree")]
    pub order: Order,
    /// Sums that are timed, after one that is not
    #[arg(long, default_value_t = 5)]
    pub times: usize,
}

/// As `train.reduction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Along the fixed tree
    Tree,
    /// As MPI likes best
    Fast,
}

/// How long ranks wait for each other.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The median, on rank 0.
///
/// # Errors   if the processes do not find each other
pub fn run(args: &SumsArgs) -> anyhow::Result<Option<Value>> {
    let session = Session::start()?;
    let mut ranks = session.ranks(TIMEOUT);
    let order = match args.order {
        Order::Tree => Reduction::Tree,
        Order::Fast => Reduction::Fast,
    };
    let mut seconds = Vec::new();
    for _ in 0..args.times.max(1) {
        let time = time_of_sum(ranks.as_mut(), order, args.parameters)?;
        seconds.push(time.as_secs_f64());
    }
    seconds.sort_unstable_by(f64::total_cmp);
    let line = json!({
        "ranks": session.size(), "parameters": args.parameters, "sum_s": seconds[seconds.len() / 2],
    });
    let first = session.rank() == 0;
    drop(ranks);
    session.finish(TIMEOUT, || 1);
    Ok(first.then_some(line))
}
