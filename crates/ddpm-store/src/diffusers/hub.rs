//! The Hugging Face cache: `models--OWNER--NAME/{refs/main, snapshots/HASH}`, whose files are links to `blobs/`.

use std::path::{Component, Path, PathBuf};

use crate::error::{Result, StoreError};
use crate::io;

/// The directory that holds the files: the snapshot of `refs/main` where `directory` is a cached repository, else
/// `directory` itself.
///
/// # Errors   [`StoreError::Missing`] if it is not said which of several snapshots is meant, or that one is gone
pub(super) fn snapshot(directory: &Path) -> Result<PathBuf> {
    let snapshots = directory.join("snapshots");
    if !snapshots.is_dir() {
        return Ok(directory.to_owned());
    }
    let missing = |what: String| StoreError::Missing {
        path: directory.to_owned(),
        what,
        hint: "download the repository again, or name a folder of snapshots/".to_owned(),
    };
    let main = directory.join("refs").join("main");
    if main.is_file() {
        let text = String::from_utf8_lossy(&io::read_bounded(&main, 1 << 10)?).into_owned();
        let name = Path::new(text.trim());
        let plain = matches!(
            name.components().collect::<Vec<_>>()[..],
            [Component::Normal(_)]
        );
        let found = snapshots.join(name);
        return match plain && found.is_dir() {
            true => Ok(found),
            false => Err(missing("the snapshot that refs/main names".to_owned())),
        };
    }
    let found: Vec<_> = io::read_dir_sorted(&snapshots)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    match <[PathBuf; 1]>::try_from(found) {
        Ok([only]) => Ok(only),
        Err(found) => Err(missing(format!(
            "refs/main, which says which of {} snapshots is meant,",
            found.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_snapshot_of_main_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(snapshot(root).unwrap(), root);
        for hash in ["aaa", "bbb"] {
            fs::create_dir_all(root.join("snapshots").join(hash)).unwrap();
        }
        let message = snapshot(root).unwrap_err().to_string();
        assert!(message.contains("which of 2 snapshots"), "{message}");
        fs::create_dir(root.join("refs")).unwrap();
        fs::write(root.join("refs/main"), "bbb\n").unwrap();
        assert_eq!(snapshot(root).unwrap(), root.join("snapshots/bbb"));
        for bad in ["ccc", "../..", "/", ""] {
            fs::write(root.join("refs/main"), bad).unwrap();
            let message = snapshot(root).unwrap_err().to_string();
            assert!(message.contains("refs/main names"), "{bad}: {message}");
        }
        fs::remove_file(root.join("refs/main")).unwrap();
        fs::remove_dir(root.join("snapshots/aaa")).unwrap();
        assert_eq!(snapshot(root).unwrap(), root.join("snapshots/bbb"));
    }
}
