//! Where results go.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_store::images::PictureFormat;

use super::super::sample::outputs::{Outputs, beside, free};
use crate::args::EditOptions;
use crate::exit::UsageError;

/// What the options name; without any, a picture in `samples/`. `given` are the files that the edit reads.
///
/// # Errors   [`UsageError`] as [`Outputs::of`]; for two pictures, and for a place whose files it reads
pub fn places(edit: &str, given: &[PathBuf], options: &EditOptions, name: &str) -> Result<Outputs> {
    let is_picture = |path: &Path| PictureFormat::of(path).is_some() && !path.is_dir();
    let named = options.grid.clone().map(|grid| ("--grid", grid));
    let outputs = match (&options.out, named) {
        (None, None) => {
            let path = Path::new("samples").join(format!("{name}-{edit}.png"));
            free(&path, "the picture would go here", "--out")?;
            Outputs::of(None, Some(("--out", path)))
        }
        (Some(out), None) if is_picture(out) => Outputs::of(None, Some(("--out", out.clone()))),
        (Some(out), Some(_)) if is_picture(out) => {
            return Err(UsageError(format!(
                "--out {}: is a picture, and so is --grid; name a folder for the results, or leave --grid out",
                out.display()
            ))
            .into());
        }
        (Some(out), None) => {
            let grid = beside(out)?.map(|grid| ("--grid", grid));
            Outputs::of(Some(out.clone()), grid)
        }
        (out, named) => Outputs::of(out.clone(), named),
    }?;
    check_given(&outputs, given)?;
    Ok(outputs)
}

/// Results are written as an earlier call's are removed: neither may touch what is read.
///
/// # Errors   [`UsageError`]
fn check_given(outputs: &Outputs, given: &[PathBuf]) -> Result<(), UsageError> {
    let real = |path: &Path| path.canonicalize().ok();
    let folder = outputs.folder.as_deref().and_then(real);
    let grid = outputs
        .grid
        .as_ref()
        .and_then(|file| Some((file.option, real(&file.path)?)));
    for path in given {
        let Some(own) = real(path) else {
            continue;
        };
        let option = match &grid {
            Some((option, grid)) if *grid == own => option,
            _ if folder.is_some() && own.parent() == folder.as_deref() => "--out",
            _ => continue,
        };
        return Err(UsageError(format!(
            "{option}: results would replace {}, which is read; choose another place",
            path.display()
        )));
    }
    Ok(())
}
