//! `ddpm eval compare`: evaluations in one table, if they are comparable.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_eval::Evaluation;
use serde_json::json;

use super::super::{Report, shown};
use super::judge::FILE;
use super::table;
use crate::args::CompareArgs;
use crate::exit::UsageError;

/// One table.
///
/// # Errors   [`UsageError`] for what is no evaluation's place, [`ddpm_eval::EvalError`] naming what differs
pub fn compare(args: &CompareArgs) -> Result<Report> {
    let mut read: Vec<(PathBuf, Evaluation)> = Vec::new();
    for path in &args.evaluations {
        let file = file_of(path)?;
        let evaluation = Evaluation::read(&file)?;
        if let Some((_, first)) = read.first() {
            first.compare(&evaluation, &file, &args.across)?;
        }
        read.push((file, evaluation));
    }
    let json = read
        .iter()
        .map(|(file, one)| json!({ "file": shown(file), "evaluation": one }));
    let json = json!(json.collect::<Vec<_>>());
    let first = &read[0].1;
    let mut text = format!(
        "{} images each, by {}, beside {}\n\n",
        first.images.n, first.extractor.name, first.reference.name
    );
    let named = read.into_iter().map(|(_, one)| (one.subject.clone(), one));
    text += &table::several(&named.collect::<Vec<_>>());
    Ok(Report::done(text, json))
}

/// Where an evaluation lies: the file itself, or in a run or folder.
fn file_of(path: &Path) -> Result<PathBuf, UsageError> {
    let places = [
        path.to_owned(),
        path.join(FILE),
        path.join("eval").join(FILE),
    ];
    places
        .into_iter()
        .find(|place| place.is_file())
        .ok_or_else(|| {
            UsageError(format!(
                "{}: there is no {FILE} here or below eval/; write one with `ddpm eval {}`",
                path.display(),
                path.display()
            ))
        })
}
