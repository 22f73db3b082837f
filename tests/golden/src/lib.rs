//! Reference figures of other programs, and how far ours lie from them.
//!
//! - [`run`]: every set of figures in a directory → [`Set`]s of [`Case`]s
//! - [`sets`]: one file a kind of set; to add one, write its file and its line in [`sets::KINDS`]
//!
//! A case that holds a value without a meaning here fails by name; nothing is passed over.

mod compare;
mod keys;
mod models;
mod pictures;
mod report;
pub mod sets;
mod source;
mod trace;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail};

pub use report::report;

/// The figures of one file, or of one folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// Its path below the directory, without an extension.
    pub name: String,
    /// Whether there is a kind for it in [`sets::KINDS`].
    pub known: bool,
    /// What was compared.
    pub cases: Vec<Case>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name in the file.
    pub name: String,
    /// How far ours lies from theirs, or why that cannot be told.
    pub difference: Result<f64, String>,
    /// The largest difference that holds.
    pub limit: f64,
}

impl Set {
    /// Whether all cases hold.
    #[must_use]
    pub fn held(&self) -> bool {
        self.cases.iter().all(Case::held)
    }

    /// The case that is nearest to its limit or furthest beyond it.
    #[must_use]
    pub fn worst(&self) -> Option<&Case> {
        self.cases
            .iter()
            .max_by(|a, b| a.share().total_cmp(&b.share()))
    }
}

impl Case {
    /// A comparison that was made, or could not be.
    #[must_use]
    pub fn new(name: impl Into<String>, limit: f64, difference: anyhow::Result<f64>) -> Self {
        Self {
            name: name.into(),
            difference: difference.map_err(|error| format!("{error:#}")),
            limit,
        }
    }

    /// Whether ours is near enough to theirs.
    #[must_use]
    pub fn held(&self) -> bool {
        // Not `!(d > limit)`: NaN does not hold.
        matches!(self.difference, Ok(difference) if difference <= self.limit)
    }

    /// The difference in units of the limit.
    fn share(&self) -> f64 {
        match self.difference {
            Ok(0.0) => 0.0,
            Ok(difference) if !difference.is_nan() => difference / self.limit,
            _ => f64::INFINITY,
        }
    }
}

/// Compares everything in a directory.
///
/// # Errors   if the directory cannot be read, or holds no set of a known kind; a file that cannot be read is a case
/// that fails
pub fn run(dir: &Path) -> anyhow::Result<Vec<Set>> {
    let names = names(dir).with_context(|| dir.display().to_string())?;
    let mut found = Vec::new();
    for name in names {
        let kind = sets::KINDS.iter().find(|kind| kind.is(&name));
        let cases = kind.map(|kind| match (kind.cases)(&dir.join(&name)) {
            Ok(cases) if !cases.is_empty() => cases,
            Ok(_) => vec![Case::new(
                "(all)",
                0.0,
                Err(anyhow::anyhow!("there are no cases")),
            )],
            Err(error) => vec![Case::new("(all)", 0.0, Err(error))],
        });
        found.push(Set {
            name,
            known: cases.is_some(),
            cases: cases.unwrap_or_default(),
        });
    }
    match found.iter().any(|set| set.known) {
        true => Ok(found),
        false => bail!("{}: no set of figures of a known kind", dir.display()),
    }
}

/// The sets of a directory: its files and those of its folders by their stems, and the folders of its folders.
fn names(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            match (path.is_dir(), prefix.is_empty(), &*extension) {
                (true, true, _) => folders.push((path, format!("{stem}/"))),
                (true, false, _) | (false, _, "json" | "safetensors") => {
                    names.insert(format!("{prefix}{stem}"));
                }
                _ => {}
            }
        }
    }
    Ok(names)
}
