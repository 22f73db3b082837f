use std::path::{Path, PathBuf};

use super::arrange::{Arranged, arrange};
use super::metadata::{Found, Metadata, is_metadata};
use super::walk::is_image;
use super::{Beside, Listing, Source};
use crate::config::DataConfig;
use crate::decode::{SNIFF_BYTES, decode, has_image_extension};
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
    beside: Beside,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let path = config.required_path()?;
    let archive = zipfile::open(path, config)?;
    let mut passed_over = PassedOver::default();
    let mut metadata = Vec::new();
    let mut entries = Vec::new();
    for entry in zipfile::entries(&archive) {
        let file = parts(&entry.name).last().unwrap_or_default();
        if let Some(hidden) = parts(&entry.name).find(|part| is_hidden(part)) {
            passed_over.add_hidden(hidden);
        } else if is_metadata(file) {
            metadata.push(entry);
        } else if has_image_extension(&entry.name) {
            entries.push(entry);
        } else {
            let head = zipfile::head(&archive, &entry, SNIFF_BYTES);
            if is_image(file, &head) {
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
    let names: Vec<String> = entries.iter().map(|entry| plain(&entry.name)).collect();
    let found: Vec<Found> = metadata
        .iter()
        .map(|entry| Found {
            name: plain(&entry.name),
            path: within(path, &entry.name),
        })
        .collect();
    let read = |index: usize| match metadata.get(index) {
        Some(entry) => zipfile::read(&archive, entry, config),
        None => Ok(Vec::new()),
    };
    let metadata = Metadata::read(&found, read)?;
    let Arranged {
        chosen,
        classes,
        columns,
        notes,
    } = arrange(path, &names, &metadata, config.split)?;
    let mut all: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    let entries = chosen
        .into_iter()
        .filter_map(|index| all.get_mut(index)?.take())
        .collect();
    Ok(Listing {
        source: Source::Zip(Box::new(ZipImages {
            archive,
            entries,
            config: config.clone(),
            path: path.to_path_buf(),
            beside: Beside { passed_over, notes },
        })),
        classes,
        columns,
    })
}

/// A name with slashes.
fn plain(name: &str) -> String {
    parts(name).collect::<Vec<_>>().join("/")
}

/// What to call an entry in a message.
fn within(archive: &Path, name: &str) -> PathBuf {
    // joined as text: a name that starts with a slash must not replace the archive's path
    let mut path = archive.as_os_str().to_owned();
    path.push("/");
    path.push(excerpt(name));
    PathBuf::from(path)
}

/// The parts of a name; some programs write backslashes, and `./` or `/` in front.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split(['/', '\\'])
        .filter(|part| !part.is_empty() && *part != ".")
}

impl ZipImages {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn beside(&self) -> &Beside {
        &self.beside
    }

    pub(super) fn path_of(&self, index: usize) -> PathBuf {
        within(&self.path, &self.entries[index].name)
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
