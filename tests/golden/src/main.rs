//! `golden [DIR]`: compares the samplers with reference figures, and says how near they come.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = match (arguments.next(), arguments.next()) {
        (None, _) => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data"),
        (Some(dir), None) => PathBuf::from(dir),
        (Some(_), Some(_)) => bail!("one directory at most: golden [DIR]"),
    };
    let sets = ddpm_golden::run(&dir)?;
    std::io::stdout().write_all(ddpm_golden::report(&sets).as_bytes())?;
    Ok(match sets.iter().all(ddpm_golden::Set::held) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
