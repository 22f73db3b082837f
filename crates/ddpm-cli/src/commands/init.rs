//! `ddpm init`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Report, shown};
use crate::args::{Common, InitArgs};
use crate::choose::choose;
use crate::exit::UsageError;
use crate::recipe;
use crate::size::parse_size;

/// Writes the recipe that `ddpm train --data` would train by.
///
/// # Errors   data errors; [`UsageError`] if the file is there already
pub fn init(args: &InitArgs, common: Common) -> Result<Report> {
    let size = args.size.as_deref().map(parse_size).transpose()?;
    let device = ddpm_device::resolve(args.device)?;
    let chosen = choose(&args.path, size, &[], &device)?;
    let to = match &args.to {
        Some(to) => to.clone(),
        None => {
            let path = std::path::absolute(&args.path)?;
            let stem = path.file_stem().unwrap_or("images".as_ref());
            PathBuf::from(stem).with_added_extension("toml")
        }
    };
    let config = recipe::configuration(&to.display().to_string(), &chosen.text, &[])?;
    let file = OpenOptions::new().write(true).create_new(true).open(&to);
    let mut file = match file {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(UsageError(format!(
                "{}: is there already; remove it, or name another file with --to",
                to.display()
            ))
            .into());
        }
        file => file.with_context(|| format!("{}: cannot be written", to.display()))?,
    };
    file.write_all(chosen.text.as_bytes())
        .with_context(|| format!("{}: cannot be written", to.display()))?;
    let mut text = if common.quiet > 0 {
        String::new()
    } else {
        chosen.why
    };
    text += &format!(
        "wrote {0}; train by it with\n  ddpm train {0}\n",
        to.display()
    );
    Ok(Report::done(
        text,
        json!({ "recipe": shown(&to), "config": config }),
    ))
}
