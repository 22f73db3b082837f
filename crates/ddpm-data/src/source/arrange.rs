//! Which of the images of a folder or an archive belong to a split, and what their classes are.

use std::collections::BTreeSet;
use std::path::Path;

use super::metadata::{Label, Metadata};
use crate::classes::Classes;
use crate::columns::Columns;
use crate::config::Split;
use crate::error::{DataError, excerpt};

/// The images of a set, by their numbers in the list of all.
#[derive(Debug)]
pub(super) struct Arranged {
    pub(super) chosen: Vec<usize>,
    pub(super) classes: Classes,
    pub(super) columns: Columns,
    /// What a person should know of how it was read.
    pub(super) notes: Vec<String>,
}

/// What a folder's name says of the images below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Train,
    Validation,
    Test,
}

impl Role {
    fn of(folder: &str) -> Option<Self> {
        match folder.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" => Some(Self::Validation),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

/// Chooses the images of the split and finds their classes. `names` are those of all images, relative to `root`, with
/// slashes between folders, in order.
///
/// One folder that holds everything does not count. Where the folders of the next level are `train` and `test` (or
/// `val`, `valid`, `validation`), they are splits; the level below that is the class.
///
/// # Errors   [`DataError::Config`] if there is no such split; [`DataError::Metadata`] if an image lacks a label
pub(super) fn arrange(
    root: &Path,
    names: &[String],
    metadata: &Metadata,
    split: Option<Split>,
) -> Result<Arranged, DataError> {
    let mut notes = metadata.notes.clone();
    let common = common_folders(names);
    let roles_at = |level: usize| -> Vec<Option<Role>> {
        names
            .iter()
            .map(|name| folder_at(name, level).and_then(Role::of))
            .collect()
    };
    let roles = roles_at(common);
    let kinds: BTreeSet<Role> = roles.iter().flatten().copied().collect();
    let are_splits = kinds.len() > 1 && roles.iter().all(Option::is_some);
    let (roles, level) = match split {
        _ if are_splits => (roles, common),
        None => {
            if kinds.len() > 1 {
                notes.push(format!(
                    "{} has folders for training and testing beside others: they are taken for classes; set data.split if they are splits",
                    root.display()
                ));
            }
            let chosen = (0..names.len()).collect();
            return finish(names, chosen, common.min(1), None, metadata, notes);
        }
        Some(_) if !kinds.is_empty() => (roles, common),
        Some(_) => {
            let outer = (0..common).rev().find_map(|level| {
                let roles = roles_at(level);
                roles.iter().all(Option::is_some).then_some((roles, level))
            });
            outer.ok_or_else(|| {
                DataError::config(
                    "split",
                    format!(
                        "needs folders train and test (or val) at the top of {}, which has none; remove it",
                        root.display()
                    ),
                )
            })?
        }
    };
    let kinds: BTreeSet<Role> = roles.iter().flatten().copied().collect();
    let wanted: &[Role] = match split.unwrap_or_default() {
        Split::Train => &[Role::Train],
        // the usual names for what is kept back; the former where both are there
        Split::Test if kinds.contains(&Role::Test) => &[Role::Test],
        Split::Test => &[Role::Validation],
        Split::All => &[Role::Train, Role::Validation, Role::Test],
    };
    let mut chosen = Vec::new();
    for &role in wanted {
        chosen.extend((0..names.len()).filter(|&index| roles.get(index) == Some(&Some(role))));
    }
    if chosen.is_empty() {
        let (asked, other) = match split.unwrap_or_default() {
            Split::Test => ("test or val", "train"),
            Split::Train | Split::All => ("train", "test"),
        };
        return Err(DataError::config(
            "split",
            format!(
                "needs a folder {asked} at the top of {}, which has none; set data.split = \"{other}\" or \"all\"",
                root.display()
            ),
        ));
    }
    // one folder below the splits that holds everything does not count either
    let within: Vec<&String> = names
        .iter()
        .zip(&roles)
        .filter_map(|(name, role)| role.map(|_| name))
        .collect();
    let below = level + 1;
    let first = within.first().and_then(|name| folder_at(name, below));
    let alike = first.is_some() && within.iter().all(|name| folder_at(name, below) == first);
    let class_level = if alike { below + 1 } else { below };
    finish(names, chosen, class_level, Some(&roles), metadata, notes)
}

/// The classes of the images chosen: by metadata if there are any, else by the folders of a level.
fn finish(
    names: &[String],
    chosen: Vec<usize>,
    class_level: usize,
    roles: Option<&[Option<Role>]>,
    metadata: &Metadata,
    mut notes: Vec<String>,
) -> Result<Arranged, DataError> {
    let chosen_names: Vec<&str> = chosen
        .iter()
        .filter_map(|&index| names.get(index).map(String::as_str))
        .collect();
    // a class has the same number in all splits: those of the training part come first
    let training: Vec<&str> = names
        .iter()
        .zip(roles.unwrap_or_default())
        .filter(|(_, role)| **role == Some(Role::Train))
        .map(|(name, _)| name.as_str())
        .collect();
    let applies = chosen_names.iter().any(|name| metadata.of(name).is_some());
    let classes = if applies {
        by_metadata(&chosen_names, &training, metadata)?
    } else {
        let folders: Vec<Option<&str>> = chosen_names
            .iter()
            .map(|name| folder_at(name, class_level))
            .collect();
        let first = training.iter().map(|name| folder_at(name, class_level));
        if folders.iter().any(Option::is_some) && !folders.iter().all(Option::is_some) {
            notes.push(
                "some images lie in folders and some do not: the folders are not taken for classes"
                    .into(),
            );
        }
        Classes::named(&folders, first)
    };
    Ok(Arranged {
        columns: metadata.columns(&chosen_names),
        chosen,
        classes,
        notes,
    })
}

fn by_metadata(
    names: &[&str],
    training: &[&str],
    metadata: &Metadata,
) -> Result<Classes, DataError> {
    let classed = |name: &str| metadata.of(name).filter(|table| table.has_classes());
    if !names.iter().all(|name| classed(name).is_some()) {
        return Ok(Classes::default());
    }
    let mut labels = Vec::with_capacity(names.len());
    let mut count = 0;
    for &name in names {
        let Some(table) = classed(name) else {
            continue;
        };
        let label = table.label(name).ok_or_else(|| DataError::Metadata {
            path: table.path.clone(),
            reason: format!("gives no class to the image {}", excerpt(name)),
        })?;
        labels.push(label);
    }
    let numbers: Option<Vec<usize>> = labels
        .iter()
        .map(|label| match label {
            Label::Number(number) => Some(*number),
            Label::Name(_) => None,
        })
        .collect();
    if let Some(numbers) = numbers {
        let mut last = None;
        for table in names.iter().filter_map(|name| classed(name)) {
            // many images have one table: it is counted once
            if last.is_none_or(|last| !std::ptr::eq(last, table)) {
                count = count.max(table.count());
                last = Some(table);
            }
        }
        return Ok(Classes {
            labels: Some(numbers),
            count: Some(count),
            names: None,
        });
    }
    let name_of = |label: &Label| match label {
        Label::Name(name) => name.clone(),
        Label::Number(number) => number.to_string(),
    };
    let texts: Vec<String> = labels.iter().map(|label| name_of(label)).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let first: Vec<String> = training
        .iter()
        .filter_map(|name| Some(name_of(classed(name)?.label(name)?)))
        .collect();
    Ok(Classes::named(
        &texts,
        first.iter().map(|name| Some(name.as_str())),
    ))
}

/// How many folders, from the root on, hold all images.
fn common_folders(names: &[String]) -> usize {
    let Some(first) = names.first() else {
        return 0;
    };
    let mut common = first.matches('/').count();
    for name in names {
        let alike = (0..common)
            .take_while(|&level| folder_at(name, level) == folder_at(first, level))
            .count();
        common = common.min(alike);
    }
    common
}

/// The folder of a level that an image lies in, if it lies that deep.
fn folder_at(name: &str, level: usize) -> Option<&str> {
    let mut rest = name.split('/').skip(level);
    let folder = rest.next()?;
    // the last part is the file itself
    rest.next().map(|_| folder)
}

#[cfg(test)]
mod tests;
