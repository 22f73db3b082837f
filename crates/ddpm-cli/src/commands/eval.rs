//! `ddpm eval`: figures of how good a model is.

mod bpd;

use anyhow::Result;

use super::Report;
use crate::args::{Common, EvalArgs, Figure};

/// One figure of a model on images.
///
/// # Errors   usage, format, data, device and memory errors with their exit codes
pub fn eval(args: &EvalArgs, common: Common) -> Result<Report> {
    match &args.figure {
        Figure::Bpd(args) => bpd::bpd(args, common),
    }
}
