use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// How like another a name must be to be meant, from 0 to 1.
const ALIKE: f64 = 0.75;

/// The error for a path at which nothing lies: which part of it is missing, and what may have been meant.
pub(super) fn error(path: &Path) -> DataError {
    let mut present = path.ancestors().skip(1).map(|folder| match folder {
        empty if empty.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    });
    let folder = present.find(|folder| folder.exists());
    let missing = path
        .ancestors()
        .take_while(|part| !part.exists())
        .filter(|part| !part.as_os_str().is_empty())
        .last()
        .unwrap_or(path);
    let mut text = if path.is_symlink() {
        "it is a link to something that is not there".to_owned()
    } else if missing == path {
        "there is nothing at this path".to_owned()
    } else {
        format!("there is no {}", missing.display())
    };
    if let Some(meant) = folder.and_then(|folder| similar(folder, missing)) {
        let rest = path.strip_prefix(missing).unwrap_or(Path::new(""));
        let meant = match rest.as_os_str().is_empty() {
            true => meant,
            false => meant.join(rest),
        };
        text += &format!(", did you mean {}", meant.display());
    }
    DataError::io(path, io::Error::new(io::ErrorKind::NotFound, text))
}

/// What in `folder` has a name most like that of `missing`.
fn similar(folder: &Path, missing: &Path) -> Option<PathBuf> {
    const MAX_NAMES: usize = 10_000;
    let wanted = missing.file_name()?.to_str()?.to_lowercase();
    let names = fs::read_dir(folder)
        .ok()?
        .take(MAX_NAMES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let scored = names.map(|name| {
        let lower = name.to_lowercase();
        // a forgotten or a superfluous ending: mnist for mnist.npz
        let stem = |name: &str| name.split('.').next().map(str::to_owned);
        let score = match stem(&lower) == stem(&wanted) {
            true => 1.0,
            false => strsim::jaro_winkler(&lower, &wanted),
        };
        (score, name)
    });
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)))?;
    (score >= ALIKE).then(|| missing.with_file_name(name))
}
