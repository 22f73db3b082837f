use std::path::PathBuf;

use super::folder::is_ignored;
use super::{Listing, Source};
use crate::classes::Classes;
use crate::config::DataConfig;
use crate::decode::{SNIFF_BYTES, decode, has_image_extension, looks_like_image};
use crate::error::{DataError, Fault, excerpt};
use crate::raster::Raster;
use crate::zipfile::{self, Archive, Entry};

/// Images in a zip archive, in the order of their names.
#[derive(Debug)]
pub(crate) struct ZipImages {
    archive: Archive,
    entries: Vec<Entry>,
    config: DataConfig,
    path: PathBuf,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let path = config.required_path()?;
    let archive = zipfile::open(path, config)?;
    let mut entries: Vec<Entry> = zipfile::entries(&archive)
        .filter(|entry| !parts(&entry.name).any(is_ignored))
        .filter(|entry| {
            has_image_extension(&entry.name)
                || looks_like_image(&zipfile::head(&archive, entry, SNIFF_BYTES))
        })
        .collect();
    if entries.is_empty() {
        return Err(DataError::Empty {
            path: path.to_path_buf(),
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

    pub(super) fn path_of(&self, index: usize) -> PathBuf {
        // joined as text: a name that starts with a slash must not replace the archive's path
        let mut path = self.path.clone().into_os_string();
        path.push("/");
        path.push(excerpt(&self.entries[index].name));
        PathBuf::from(path)
    }

    pub(super) fn decode(&self, index: usize) -> Result<Raster, Fault> {
        let bytes = zipfile::read(&self.archive, &self.entries[index], &self.config)?;
        decode(&bytes, self.config.max_image_pixels)
    }
}

#[cfg(test)]
mod tests;
