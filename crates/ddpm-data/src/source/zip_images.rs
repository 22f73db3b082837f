use std::path::PathBuf;

use super::{Listing, Source};
use crate::classes::Classes;
use crate::config::DataConfig;
use crate::decode::{SNIFF_BYTES, decode, has_image_extension, looks_like_image};
use crate::error::{DataError, Fault, excerpt};
use crate::kinds::{self, PassedOver, is_hidden};
use crate::raster::Raster;
use crate::zipfile::{self, Archive, Entry};

/// Images in a zip archive, in the order of their names.
#[derive(Debug)]
pub(crate) struct ZipImages {
    archive: Archive,
    entries: Vec<Entry>,
    config: DataConfig,
    path: PathBuf,
    passed_over: PassedOver,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let path = config.required_path()?;
    let archive = zipfile::open(path, config)?;
    let mut passed_over = PassedOver::default();
    let mut entries = Vec::new();
    for entry in zipfile::entries(&archive) {
        if let Some(hidden) = parts(&entry.name).find(|part| is_hidden(part)) {
            passed_over.add_hidden(hidden);
        } else if has_image_extension(&entry.name) {
            entries.push(entry);
        } else {
            let head = zipfile::head(&archive, &entry, SNIFF_BYTES);
            if looks_like_image(&head) {
                entries.push(entry);
            } else if let Some(kind) =
                kinds::of_name(&entry.name).or_else(|| kinds::of_content(&head))
            {
                passed_over.add(kind);
            }
        }
    }
    if entries.is_empty() {
        return Err(DataError::Empty {
            path: path.to_path_buf(),
            passed_over,
        });
    }
    // the order of a folder with the same files
    entries.sort_by(|a, b| parts(&a.name).cmp(parts(&b.name)));
    let classes = Classes::from_folders(&class_folders(&entries));
    Ok(Listing {
        source: Source::Zip(Box::new(ZipImages {
            archive,
            entries,
            config: config.clone(),
            path: path.to_path_buf(),
            passed_over,
        })),
        classes,
    })
}

/// The parts of a name; some programs write backslashes, and `./` or `/` in front.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split(['/', '\\'])
        .filter(|part| !part.is_empty() && *part != ".")
}

/// The first folder of each entry, after one top folder that holds them all.
fn class_folders(entries: &[Entry]) -> Vec<Option<String>> {
    let folder_at = |entry: &Entry, level: usize| {
        let mut rest = parts(&entry.name).skip(level);
        let folder = rest.next()?;
        // the last part is the file itself
        rest.next().map(|_| folder.to_owned())
    };
    let tops: Vec<Option<String>> = entries.iter().map(|entry| folder_at(entry, 0)).collect();
    let common = match tops.first() {
        Some(Some(first)) => tops.iter().all(|top| top.as_ref() == Some(first)),
        _ => false,
    };
    if common {
        entries.iter().map(|entry| folder_at(entry, 1)).collect()
    } else {
        tops
    }
}

impl ZipImages {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    pub(super) fn path_of(&self, index: usize) -> PathBuf {
        // joined as text: a name that starts with a slash must not replace the archive's path
        let mut path = self.path.clone().into_os_string();
        path.push("/");
        path.push(excerpt(&self.entries[index].name));
        PathBuf::from(path)
    }

    /// The first bytes of an image, unpacked.
    pub(super) fn head(&self, index: usize, count: usize) -> Vec<u8> {
        zipfile::head(&self.archive, &self.entries[index], count)
    }

    /// All of an image, unpacked.
    pub(super) fn bytes(&self, index: usize) -> Result<Vec<u8>, Fault> {
        zipfile::read(&self.archive, &self.entries[index], &self.config)
    }

    pub(super) fn decode(&self, index: usize) -> Result<Raster, Fault> {
        decode(&self.bytes(index)?, self.config.max_image_pixels)
    }
}

#[cfg(test)]
mod tests;
