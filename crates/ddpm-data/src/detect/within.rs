use std::path::{Path, PathBuf};

use super::{What, file, head_of, unread};
use crate::config::{DEFAULT_MAX_FILES, DataConfig, DataKind};
use crate::error::{DataError, excerpt};
use crate::kinds::{self, PassedOver, is_hidden};
use crate::source;
use crate::words::some;

/// Files that are opened, at most, to say what a folder without images holds.
pub(super) const MAX_LOOKED_AT: usize = 1000;

/// What set a folder holds.
pub(super) fn folder(path: &Path) -> Result<DataConfig, DataError> {
    if let Some(config) = by_files(path)? {
        return Ok(config);
    }
    match source::has_images(path, DEFAULT_MAX_FILES)? {
        None => Ok(DataConfig {
            kind: DataKind::Folder,
            path: Some(path.to_path_buf()),
            ..DataConfig::default()
        }),
        Some(passed_over) => Err(without_images(path, passed_over)),
    }
}

/// A set that is known by the files of its folder; none if it is no such set.
pub(super) fn by_files(path: &Path) -> Result<Option<DataConfig>, DataError> {
    match source::cifar_in(path)? {
        None => source::idx_in(path),
        found => Ok(found),
    }
}

/// Says what a folder without images holds instead.
fn without_images(path: &Path, passed_over: PassedOver) -> DataError {
    let mut files = Vec::new();
    list(path, Path::new(""), 0, &mut files);
    files.sort_unstable();
    if files.is_empty() && passed_over.hidden() == 0 {
        return unread(
            path,
            "is an empty folder".into(),
            "put images into it, or give another path".into(),
        );
    }
    if passed_over.unread() > 0 {
        return DataError::Empty {
            path: path.to_path_buf(),
            passed_over,
        };
    }
    for name in &files {
        let shown = excerpt(&name.display().to_string());
        let full = path.join(name);
        let (what, remedy) = match kinds::of_content(&head_of(&full))
            .or_else(|| kinds::of_name(&name.to_string_lossy()))
        {
            Some(kind) => (kind.what(), kind.remedy().to_owned()),
            None => match file(&full) {
                Ok(What::Set(config)) => (
                    format!("is read as kind = \"{}\"", config.kind.name()),
                    format!("give that file itself ({})", full.display()),
                ),
                Ok(What::Known { what, remedy } | What::Odd { what, remedy }) => (what, remedy),
                _ => continue,
            },
        };
        let others = match files.len() - 1 {
            0 => String::new(),
            others => format!(", beside {}", some(others, "other file")),
        };
        return unread(
            path,
            format!("holds no images; {shown}{others}, {what}"),
            remedy,
        );
    }
    DataError::Empty {
        path: path.to_path_buf(),
        passed_over,
    }
}

/// Some files below a folder, relative to it.
fn list(root: &Path, below: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    const MAX_DEPTH: usize = 4;
    let entries = std::fs::read_dir(root.join(below));
    for entry in entries.into_iter().flatten().flatten() {
        if files.len() >= MAX_LOOKED_AT {
            return;
        }
        let name = entry.file_name();
        if is_hidden(&name.to_string_lossy()) {
            continue;
        }
        let relative = below.join(name);
        let full = root.join(&relative);
        if full.is_file() {
            files.push(relative);
        } else if full.is_dir() && depth < MAX_DEPTH {
            list(root, &relative, depth + 1, files);
        }
    }
}
