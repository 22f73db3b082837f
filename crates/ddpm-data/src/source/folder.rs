use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::arrange::{Arranged, arrange};
use super::metadata::{Found, Metadata};
use super::walk::Walk;
use super::{Beside, Listing, Source};
use crate::blob::read_head;
use crate::config::DataConfig;
use crate::decode::decode;
use crate::error::{DataError, Fault};
use crate::raster::Raster;

/// Image files below a folder, in the order of their paths.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    max_pixels: u64,
    max_file_bytes: u64,
    beside: Beside,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let root = config.required_path()?;
    let metadata = fs::metadata(root).map_err(|error| DataError::io(root, error))?;
    if !metadata.is_dir() {
        return Err(DataError::format(root, "a folder of images", "a file"));
    }
    let Walk {
        mut images,
        metadata,
        passed_over,
        ..
    } = Walk::through(root, config.max_files, false)?;
    if images.is_empty() {
        return Err(DataError::Empty {
            path: root.to_path_buf(),
            passed_over,
        });
    }
    // paths compare component by component: the order does not depend on the file system
    images.sort_unstable();
    let names: Vec<String> = images.iter().map(|file| name_of(file)).collect();
    let metadata: Vec<Found> = metadata
        .iter()
        .map(|file| Found {
            name: name_of(file),
            path: root.join(file),
        })
        .collect();
    let metadata = Metadata::read(&metadata, |index| match metadata.get(index) {
        Some(file) => read_file(&file.path, config.max_file_bytes),
        None => Ok(Vec::new()),
    })?;
    let Arranged {
        chosen,
        classes,
        columns,
        notes,
    } = arrange(root, &names, &metadata, config.split)?;
    let mut images: Vec<Option<PathBuf>> = images.into_iter().map(Some).collect();
    let files = chosen
        .into_iter()
        .filter_map(|index| images.get_mut(index)?.take())
        .collect();
    Ok(Listing {
        source: Source::Folder(Folder {
            root: root.to_path_buf(),
            files,
            max_pixels: config.max_image_pixels,
            max_file_bytes: config.max_file_bytes,
            beside: Beside { passed_over, notes },
        }),
        classes,
        columns,
    })
}

/// A relative path with slashes.
fn name_of(file: &Path) -> String {
    let parts: Vec<_> = file.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// All of a file, within the limit for image files.
pub(crate) fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Fault> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > max_bytes {
        return Err(Fault::Limit {
            what: "size in bytes",
            got: length,
            limit: max_bytes,
            key: "max_file_bytes",
        });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // the length again as a limit: the file may be growing
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Folder {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn beside(&self) -> &Beside {
        &self.beside
    }

    pub(super) fn path_of(&self, index: usize) -> PathBuf {
        self.root.join(&self.files[index])
    }

    /// The first bytes of an image's file.
    pub(super) fn head(&self, index: usize, count: usize) -> Result<Vec<u8>, Fault> {
        Ok(read_head(&mut File::open(self.path_of(index))?, count)?)
    }

    /// All of an image's file.
    pub(super) fn bytes(&self, index: usize) -> Result<Vec<u8>, Fault> {
        read_file(&self.path_of(index), self.max_file_bytes)
    }

    pub(super) fn decode(&self, index: usize) -> Result<Raster, Fault> {
        decode(&self.bytes(index)?, self.max_pixels)
    }
}

#[cfg(test)]
mod tests;
