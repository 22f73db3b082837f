//! MNIST's file names and where they lie.
//!
//! `train-images-idx3-ubyte` and `t10k-images-idx3-ubyte` are MNIST's, Fashion-MNIST's and KMNIST's; EMNIST has
//! `emnist-letters-train-…` and QMNIST `qmnist-test-…` with labels of another type (`…-labels-idx2-int`). All may be
//! packed with gzip. torchvision puts them into `raw` below a folder of the set's name.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::walk::folders_in;
use crate::config::Split;
use crate::error::DataError;
use crate::words::some;

/// The image files of one folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// The names of the image files without packing, in order; of the same name packed and not, the latter.
    names: Vec<String>,
}

/// The one folder with image files at `root`, in `raw` or in a folder below that; none if there is none.
///
/// # Errors   [`DataError::Unread`] if several folders below have such files; [`DataError::Io`]
pub(super) fn find(root: &Path) -> Result<Option<Folder>, DataError> {
    if let Some(here) = images_in(root)? {
        return Ok(Some(here));
    }
    let mut found = Vec::new();
    for folder in folders_in(root) {
        if let Some(images) = images_in(&folder)? {
            found.push(images);
        } else if let Some(images) = images_in(&folder.join("raw"))? {
            found.push(images);
        }
    }
    if found.len() > 1 {
        let names: Vec<String> = found
            .iter()
            .take(8)
            .map(|folder| {
                let inner = folder.path.strip_prefix(root).unwrap_or(&folder.path);
                inner.display().to_string()
            })
            .collect();
        return Err(DataError::Unread {
            path: root.to_path_buf(),
            what: format!(
                "holds {} of MNIST's form ({})",
                some(found.len(), "set"),
                names.join(", ")
            ),
            remedy: "give one of these folders".into(),
        });
    }
    Ok(found.pop())
}

fn names_in(folder: &Path) -> Result<Vec<String>, DataError> {
    let failed = |error| DataError::io(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

fn images_in(folder: &Path) -> Result<Option<Folder>, DataError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut names: Vec<String> = names_in(folder)?
        .into_iter()
        .filter(|name| before_images(name).is_some() && folder.join(name).is_file())
        .collect();
    // with a dash before with a dot, and not packed before packed
    names.sort_by_cached_key(|name| {
        let dotted = name.contains("images.idx3");
        (plain(name), dotted, name.ends_with(".gz"))
    });
    names.dedup_by_key(|name| plain(name));
    Ok((!names.is_empty()).then(|| Folder {
        path: folder.to_path_buf(),
        names,
    }))
}

/// A name as if it had a dash and were not packed.
fn plain(name: &str) -> String {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.replace("images.idx3", "images-idx3")
}

/// What stands before `images-idx3` in a name: the split, and often the set.
fn before_images(name: &str) -> Option<&str> {
    let at = name
        .find("images-idx3")
        .or_else(|| name.find("images.idx3"))?;
    name.get(..at)
}

/// Whether a name is EMNIST's, whose images are stored transposed.
pub(crate) fn is_transposed(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("emnist-")
}

impl Folder {
    /// One without any.
    pub(super) fn empty(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            names: Vec::new(),
        }
    }

    /// The image file of a split, which is not [`Split::All`].
    ///
    /// # Errors   [`DataError::Format`] if there is none, [`DataError::Unread`] if there are several
    pub(super) fn images(&self, split: Split) -> Result<PathBuf, DataError> {
        let (words, usual): (&[&str], _) = match split {
            Split::Test => (&["t10k", "test"], "t10k"),
            Split::Train | Split::All => (&["train"], "train"),
        };
        let of_split: Vec<&String> = self
            .names
            .iter()
            .filter(|name| {
                before_images(name)
                    .is_some_and(|before| words.iter().any(|word| before.contains(word)))
            })
            .collect();
        match of_split.as_slice() {
            [] => Err(DataError::format(
                &self.path,
                format!("{usual}-images-idx3-ubyte or {usual}-images-idx3-ubyte.gz in it"),
                "neither",
            )),
            [only] => Ok(self.path.join(only)),
            [first, ..] => Err(DataError::Unread {
                path: self.path.clone(),
                what: format!(
                    "holds {} of images of one split",
                    some(of_split.len(), "file")
                ),
                remedy: format!("give one of them as data.path, such as {first}"),
            }),
        }
    }

    /// Whether the files are EMNIST's.
    pub(super) fn is_transposed(&self) -> bool {
        self.names.iter().any(|name| is_transposed(name))
    }

    /// The only file, if there is only one.
    pub(super) fn only(&self) -> Option<PathBuf> {
        match self.names.as_slice() {
            [only] => Some(self.path.join(only)),
            _ => None,
        }
    }
}

/// The label file that belongs to an image file by its name, if it is there, packed or not.
pub(super) fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let dash = if name.contains("images.idx3") {
        '.'
    } else {
        '-'
    };
    let packed = name.ends_with(".gz");
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let (before, after) = name.split_once(&format!("images{dash}idx3"))?;
    let other_dash = if dash == '.' { '-' } else { '.' };
    let mut candidates = Vec::new();
    for dash in [dash, other_dash] {
        candidates.push(format!("{before}labels{dash}idx1{after}"));
    }
    candidates.push(format!("{before}labels-idx2-int"));
    let ends = if packed { [".gz", ""] } else { ["", ".gz"] };
    candidates
        .iter()
        .flat_map(|candidate| ends.map(|end| images.with_file_name(format!("{candidate}{end}"))))
        .find(|candidate| candidate.is_file())
}
