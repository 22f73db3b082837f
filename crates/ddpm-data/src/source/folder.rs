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
    let mut files = Vec::new();
    let mut ancestors = Vec::new();
    walk(root, Path::new(""), &mut ancestors, &mut files)?;
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

fn walk(
    root: &Path,
    below: &Path,
    ancestors: &mut Vec<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    let folder = root.join(below);
    let failed = |path: &Path, error| DataError::io(path, error);
    let real = folder
        .canonicalize()
        .map_err(|error| failed(&folder, error))?;
    if ancestors.contains(&real) {
        // a link that leads back up
        return Ok(());
    }
    if ancestors.len() == MAX_DEPTH {
        return Err(DataError::format(
            &folder,
            format!("at most {MAX_DEPTH} folders within each other"),
            "more",
        ));
    }
    ancestors.push(real);
    for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
        let name = entry.map_err(|error| failed(&folder, error))?.file_name();
        if is_ignored(&name.to_string_lossy()) {
            continue;
        }
        let relative = below.join(&name);
        let path = root.join(&relative);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => walk(root, &relative, ancestors, files)?,
            Ok(metadata) if metadata.is_file() => {
                if has_image_extension(&name.to_string_lossy()) || starts_like_image(&path) {
                    files.push(relative);
                }
            }
            Ok(_) => {}
            // a broken link by the name of an image is a bad image, reported when it is decoded
            Err(_) if has_image_extension(&name.to_string_lossy()) => files.push(relative),
            Err(_) => {}
        }
    }
    ancestors.pop();
    Ok(())
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
