//! The `ddpm` command, as a library so that tests can run it with faults in it.
//!
//! Only this crate prints and reads the environment.

mod allocator;
mod args;
mod bug;
mod choose;
mod commands;
mod config_file;
mod display;
mod drawing;
mod exit;
mod logging;
mod machine;
mod models;
mod placed;
mod ranks;
mod recipe;
mod signals;
mod size;
mod terminal;
mod threads;
mod words;

use std::io::{self, Write};
use std::panic;

use clap::Parser;

pub use exit::UsageError;
pub use recipe::{configuration, configuration_keys};

use args::{Cli, Command};
use commands::Report;
use exit::Exit;

/// Runs the command line of this process to its end, and ends the process.
///
/// What libraries have registered for the end of a process does not run: a driver of Vulkan takes its state apart there
/// while its own threads still use it, and once in a thousand times, on a busy machine, dies of that.
pub fn main() -> ! {
    allocator::keep_freed_memory();
    display::say_nothing_of_it();
    let cli = Cli::parse();
    bug::keep_quiet();
    let exit = match panic::catch_unwind(|| run(&cli)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => exit::report(&error),
        Err(_) => exit::report(&bug::found()),
    };
    signal_hook::low_level::exit(exit.code().into())
}

/// The verbosity that says errors and nothing else.
const ERRORS_ALONE: i8 = -2;

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let launched = ranks::launched();
    // Of several processes, the first one does the talking.
    let verbosity = match launched {
        Some(launched) if launched.rank > 0 => cli.common.verbosity().min(ERRORS_ALONE),
        _ => cli.common.verbosity(),
    };
    logging::start(verbosity)?;
    if !matches!(cli.command, Command::Train(_) | Command::Doctor(_)) {
        ranks::refuse_several()?;
    }
    let report = threads::inside(launched, || match &cli.command {
        Command::Train(args) => commands::train(args, cli.common),
        Command::Init(args) => commands::init(args, cli.common),
        Command::Doctor(args) => commands::doctor(args, cli.common),
        Command::Sample(args) => commands::sample(args, cli.common),
        Command::Edit(args) => commands::edit(args, cli.common),
        Command::Ema(args) => commands::ema(args),
        Command::Import(args) => commands::import(args),
        Command::Inspect(args) => commands::inspect(args),
        Command::Export(args) => commands::export(args),
        Command::Predict(args) => commands::predict(args),
        Command::Eval(args) => commands::eval(args, cli.common),
        Command::Samplers => commands::samplers(),
        Command::Schedule(args) => commands::schedule(args),
        Command::Checkpoint(args) => commands::checkpoint(args),
        Command::Devices => Ok(commands::devices()),
    })?;
    print(&report, cli.common.json)?;
    Ok(report.exit)
}

/// The one place that writes to stdout.
pub(crate) fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if report.json.is_null() && report.text.is_empty() {
        // It was said elsewhere.
    } else if json {
        writeln!(out, "{}", report.json)?;
    } else {
        out.write_all(report.text.as_bytes())?;
    }
    out.flush()
}
