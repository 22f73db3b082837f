use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::metadata::is_metadata;
use crate::blob::read_head;
use crate::decode::{SNIFF_BYTES, has_image_extension, looks_like_image};
use crate::error::DataError;
use crate::kinds::{self, PassedOver, is_hidden};

/// Folders within folders, at most: far more than people make, and an end for what should not happen.
const MAX_DEPTH: usize = 64;

/// Some folders in a folder, in order: enough to find a data set that was unpacked there.
pub(super) fn folders_in(path: &Path) -> Vec<PathBuf> {
    const MAX_ENTRIES: usize = 1 << 16;
    const MAX_FOLDERS: usize = 256;
    let entries = fs::read_dir(path).into_iter().flatten().take(MAX_ENTRIES);
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !is_hidden(&entry.file_name().to_string_lossy()))
        // what is no link need not be looked at again, which takes long for a million images
        .filter(|entry| {
            let kind = entry.file_type();
            kind.is_ok_and(|kind| kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()))
        })
        .map(|entry| entry.path())
        .take(MAX_FOLDERS)
        .collect();
    folders.sort_unstable();
    folders
}

/// Whether a file without an image's extension is one by its first bytes.
pub(super) fn is_image(name: &str, head: &[u8]) -> bool {
    looks_like_image(head) && !kinds::is_raw(name, head)
}

/// A search for images below a folder.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    root: &'a Path,
    max_files: u64,
    /// Files and folders met so far. Links to folders beside each other can make a handful of them endlessly many.
    seen: u64,
    /// The folders around the present one, as they really are.
    ancestors: Vec<PathBuf>,
    /// Ends with the first image.
    only_first: bool,
    /// The images that were found, relative to `root`, in no order.
    pub(super) images: Vec<PathBuf>,
    /// Files that say what the images are, relative to `root`, in no order.
    pub(super) metadata: Vec<PathBuf>,
    pub(super) passed_over: PassedOver,
}

impl<'a> Walk<'a> {
    /// Searches all of `root`, or until the first image is found.
    pub(super) fn through(
        root: &'a Path,
        max_files: u64,
        only_first: bool,
    ) -> Result<Self, DataError> {
        let mut walk = Self {
            root,
            max_files,
            seen: 0,
            ancestors: Vec::new(),
            only_first,
            images: Vec::new(),
            metadata: Vec::new(),
            passed_over: PassedOver::default(),
        };
        walk.below(Path::new(""))?;
        Ok(walk)
    }

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
            if self.only_first && !self.images.is_empty() {
                break;
            }
            let name = entry.map_err(failed)?.file_name();
            self.count()?;
            let text = name.to_string_lossy();
            if is_hidden(&text) {
                self.passed_over.add_hidden(&text);
                continue;
            }
            let relative = below.join(&name);
            let path = self.root.join(&relative);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.below(&relative)?,
                Ok(metadata) if metadata.is_file() => self.file(&text, relative),
                Ok(_) => {}
                // a broken link by the name of an image is a bad image, reported when it is decoded
                Err(_) if has_image_extension(&text) => self.images.push(relative),
                Err(_) => {}
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    fn file(&mut self, name: &str, relative: PathBuf) {
        if has_image_extension(name) {
            self.images.push(relative);
            return;
        }
        if is_metadata(name) {
            self.metadata.push(relative);
            return;
        }
        let head = File::open(self.root.join(&relative))
            .and_then(|mut file| read_head(&mut file, SNIFF_BYTES))
            .unwrap_or_default();
        if is_image(name, &head) {
            self.images.push(relative);
        } else if let Some(kind) = kinds::of_name(name).or_else(|| kinds::of_content(&head)) {
            self.passed_over.add(kind);
        }
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
