use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::{Listing, Source};
use crate::blob::read_head;
use crate::classes::Classes;
use crate::config::DataConfig;
use crate::decode::{SNIFF_BYTES, decode, has_image_extension, looks_like_image};
use crate::error::{DataError, Fault};
use crate::raster::Raster;

/// Folders within folders, at most: far more than people make, and an end for what should not happen.
const MAX_DEPTH: usize = 64;

/// Image files below a folder, in the order of their paths.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    max_pixels: u64,
    max_file_bytes: u64,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let root = config.required_path()?;
    let metadata = fs::metadata(root).map_err(|error| DataError::io(root, error))?;
    if !metadata.is_dir() {
        return Err(DataError::format(root, "a folder of images", "a file"));
    }
    let mut walk = Walk {
        root,
        max_files: config.max_files,
        seen: 0,
        ancestors: Vec::new(),
        files: Vec::new(),
    };
    walk.below(Path::new(""))?;
    let mut files = walk.files;
    if files.is_empty() {
        return Err(DataError::Empty {
            path: root.to_path_buf(),
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
        }),
        classes: Classes::from_folders(&folders),
    })
}

/// A search for images below a folder.
struct Walk<'a> {
    root: &'a Path,
    max_files: u64,
    /// Files and folders met so far. Links to folders beside each other can make a handful of them endlessly many.
    seen: u64,
    /// The folders around the present one, as they really are.
    ancestors: Vec<PathBuf>,
    /// What was found, relative to `root`.
    files: Vec<PathBuf>,
}

impl Walk<'_> {
    fn below(&mut self, below: &Path) -> Result<(), DataError> {
        let folder = self.root.join(below);
        let failed = |error| DataError::io(&folder, error);
        let real = folder.canonicalize().map_err(failed)?;
        if self.ancestors.contains(&real) {
            // a link that leads back up
            return Ok(());
        }
        if self.ancestors.len() == MAX_DEPTH {
            return Err(DataError::format(
                &folder,
                format!("at most {MAX_DEPTH} folders within each other"),
                "more",
            ));
        }
        self.ancestors.push(real);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            self.count()?;
            if is_ignored(&name.to_string_lossy()) {
                continue;
            }
            let relative = below.join(&name);
            let path = self.root.join(&relative);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.below(&relative)?,
                Ok(metadata) if metadata.is_file() => {
                    if has_image_extension(&name.to_string_lossy()) || starts_like_image(&path) {
                        self.files.push(relative);
                    }
                }
                Ok(_) => {}
                // a broken link by the name of an image is a bad image, reported when it is decoded
                Err(_) if has_image_extension(&name.to_string_lossy()) => self.files.push(relative),
                Err(_) => {}
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    fn count(&mut self) -> Result<(), DataError> {
        self.seen += 1;
        if self.seen <= self.max_files {
            return Ok(());
        }
        Err(DataError::Limit {
            path: self.root.to_path_buf(),
            what: "number of files and folders",
            got: self.seen,
            limit: self.max_files,
            key: "max_files",
        })
    }
}

/// Hidden files, and what macOS and Windows leave beside images.
pub(super) fn is_ignored(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX" || name.eq_ignore_ascii_case("thumbs.db")
}

fn starts_like_image(path: &Path) -> bool {
    File::open(path)
        .and_then(|mut file| read_head(&mut file, SNIFF_BYTES))
        .is_ok_and(|head| looks_like_image(&head))
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

    pub(super) fn path_of(&self, index: usize) -> PathBuf {
        self.root.join(&self.files[index])
    }

    pub(super) fn decode(&self, index: usize) -> Result<Raster, Fault> {
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
        decode(&bytes, self.max_pixels)
    }
}

#[cfg(test)]
mod tests;
