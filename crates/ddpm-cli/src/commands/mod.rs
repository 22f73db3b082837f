//! One file a command: validated arguments in, a result for people and for programs out.

mod checkpoint;
mod devices;
mod doctor;
mod edit;
mod ema;
mod eval;
mod export;
mod import;
mod in_ranks;
mod init;
mod inspect;
mod measure;
mod predict;
mod sample;
mod samplers;
mod schedule;
mod train;

use std::path::Path;

use serde_json::Value;

use crate::exit::Exit;

pub use checkpoint::checkpoint;
pub use devices::devices;
pub use doctor::doctor;
pub use edit::edit;
pub use ema::ema;
pub use eval::eval;
pub use export::export;
pub use import::import;
pub use init::init;
pub use inspect::inspect;
pub use predict::predict;
pub use sample::sample;
pub use samplers::samplers;
pub use schedule::schedule;
pub use train::train;

/// Where runs are kept unless `--run` says otherwise.
pub const RUNS: &str = "runs";

/// A path in JSON, which has no other form for one that is not Unicode.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What a command has to say at its end.
#[derive(Debug)]
pub struct Report {
    /// For people, on stdout; may be empty.
    pub text: String,
    /// For programs, on stdout with `--json`.
    pub json: Value,
    /// The exit code.
    pub exit: Exit,
}

impl Report {
    /// Of a process that leaves the talking to another.
    pub fn silent(exit: Exit) -> Self {
        Self {
            text: String::new(),
            json: Value::Null,
            exit,
        }
    }

    fn done(text: String, json: Value) -> Self {
        Self {
            text,
            json,
            exit: Exit::Done,
        }
    }
}
