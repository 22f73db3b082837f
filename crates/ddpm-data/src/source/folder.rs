use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::walk::Walk;
use super::{Listing, Source};
use crate::blob::read_head;
use crate::classes::Classes;
use crate::config::DataConfig;
use crate::decode::decode;
use crate::error::{DataError, Fault};
use crate::kinds::PassedOver;
use crate::raster::Raster;

/// Image files below a folder, in the order of their paths.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    max_pixels: u64,
    max_file_bytes: u64,
    passed_over: PassedOver,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let root = config.required_path()?;
    let metadata = fs::metadata(root).map_err(|error| DataError::io(root, error))?;
    if !metadata.is_dir() {
        return Err(DataError::format(root, "a folder of images", "a file"));
    }
    let Walk {
        images: mut files,
        passed_over,
        ..
    } = Walk::through(root, config.max_files, false)?;
    if files.is_empty() {
        return Err(DataError::Empty {
            path: root.to_path_buf(),
            passed_over,
        });
    }
    // paths compare component by component: the order does not depend on the file system
    files.sort_unstable();
    let folders: Vec<Option<String>> = files.iter().map(|file| first_level(file)).collect();
    Ok(Listing {
        source: Source::Folder(Folder {
            root: root.to_path_buf(),
            files,
            max_pixels: config.max_image_pixels,
            max_file_bytes: config.max_file_bytes,
            passed_over,
        }),
        classes: Classes::from_folders(&folders),
    })
}

/// The folder of the first level that a file lies in; none if it lies at the root.
fn first_level(file: &Path) -> Option<String> {
    let mut components = file.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(folder)), Some(_)) => Some(folder.to_string_lossy().into_owned()),
        _ => None,
    }
}

impl Folder {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn passed_over(&self) -> &PassedOver {
        &self.passed_over
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
        let file = File::open(self.path_of(index))?;
        let length = file.metadata()?.len();
        if length > self.max_file_bytes {
            return Err(Fault::Limit {
                what: "size in bytes",
                got: length,
                limit: self.max_file_bytes,
                key: "max_file_bytes",
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        // the length again as a limit: the file may be growing
        file.take(self.max_file_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn decode(&self, index: usize) -> Result<Raster, Fault> {
        decode(&self.bytes(index)?, self.max_pixels)
    }
}

#[cfg(test)]
mod tests;
