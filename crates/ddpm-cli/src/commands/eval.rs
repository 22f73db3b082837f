//! `ddpm eval`: figures of how good a model is.

mod bpd;
mod compare;
mod drawn;
pub(super) mod extractors;
mod judge;
mod named;
mod nearest;
mod promise;
pub(super) mod real;
mod stream;
mod table;
mod train_extractor;

use std::path::Path;

use anyhow::Result;

use super::Report;
use crate::args::{Common, EvalArgs, EvalCommand};

/// The folder that a file is to be written into.
fn folder_of(file: &Path) -> &Path {
    let above = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    above.unwrap_or(Path::new("."))
}

/// One figure of a model on images, or all of them.
///
/// # Errors   usage, format, data, device and memory errors with their exit codes
pub fn eval(args: &EvalArgs, common: Common) -> Result<Report> {
    match &args.command {
        Some(EvalCommand::Bpd(args)) => bpd::bpd(args, common),
        Some(EvalCommand::Compare(args)) => compare::compare(args),
        None if args.judge.train_extractor => train_extractor::train(&args.judge, common),
        None => judge::judge(&args.judge, common),
    }
}
