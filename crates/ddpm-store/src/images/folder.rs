//! Folders of numbered pictures, and places where files are to be written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::format::{MARK_WITHIN, is_marked};
use crate::atomic;
use crate::error::{Result, StoreError};
use crate::io::{self as disk, OutFile};

/// The name of picture `index` in a folder.
#[must_use]
pub fn numbered_name(index: u64) -> String {
    format!("{index:05}.png")
}

/// The number in such a name, in the one spelling of [`numbered_name`].
fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_suffix(".png")?.parse().ok()?;
    (numbered_name(number) == name).then_some(number)
}

/// The numbered pictures that lie in a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// Those that this program wrote, as their mark says, with their numbers.
    pub ours: Vec<(u64, PathBuf)>,
    /// Those of others, which have such names by chance.
    pub others: Vec<(u64, PathBuf)>,
}

impl Numbered {
    /// Looks into a folder; one that is not there has none.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn find(folder: &Path) -> Result<Self> {
        let mut found = Self::default();
        for path in disk::read_dir_sorted(folder)? {
            let Some(number) = number_of(&path) else {
                continue;
            };
            match is_ours(&path)? {
                true => found.ours.push((number, path)),
                false => found.others.push((number, path)),
            }
        }
        Ok(found)
    }

    /// Removes those of ours.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn remove_ours(&self) -> Result<()> {
        self.ours
            .iter()
            .try_for_each(|(_, path)| disk::remove_file(path))
    }
}

/// Whether a file is a PNG that this program wrote.
///
/// # Errors   [`StoreError::Io`]
pub fn is_ours(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Ok(false),
        _ => {}
    }
    File::open(path)
        .and_then(|file| file.take(MARK_WITHIN).read_to_end(&mut start))
        .map_err(StoreError::io(path, "read"))?;
    Ok(is_marked(&start))
}

/// Tries whether files can be written in a folder, which need not be there yet; leaves nothing behind.
///
/// # Errors   [`StoreError::Io`] naming the folder, or the nearest one above it that is there
pub fn check_writable(folder: &Path) -> Result<()> {
    let absolute = std::path::absolute(folder).map_err(StoreError::io(folder, "find"))?;
    let mut above = absolute.ancestors();
    let Some(nearest) = above.find(|path| fs::symlink_metadata(path).is_ok()) else {
        return Ok(());
    };
    if !nearest.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(StoreError::io(nearest, "be used as a folder")(error));
    }
    let probe = nearest.join(atomic::temporary_name(Path::new("probe")));
    OutFile::create_new(&probe).map_err(|error| match error {
        // The probe's name would say nothing to anybody.
        StoreError::Io { source, .. } => StoreError::io(nearest, "write into this folder")(source),
        other => other,
    })?;
    disk::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageBatch;

    #[test]
    fn ours_are_told_from_those_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path();
        assert_eq!(
            Numbered::find(&folder.join("none")).unwrap(),
            Numbered::default()
        );
        let batch = ImageBatch::new(vec![0.5; 2 * 3], [2, 3, 1, 1]).unwrap();
        batch.save_separate(folder, 99_999).unwrap();
        // Another program's picture, and names that are not ours.
        let foreign = [137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13];
        fs::write(folder.join("00007.png"), foreign).unwrap();
        fs::create_dir(folder.join("00008.png")).unwrap();
        for name in [
            "7.png",
            "000007.png",
            "00007.jpg",
            "grid.png",
            "0000x.png",
            "+0007.png",
        ] {
            fs::write(folder.join(name), foreign).unwrap();
        }
        let found = Numbered::find(folder).unwrap();
        let numbers = |files: &[(u64, PathBuf)]| files.iter().map(|(n, _)| *n).collect::<Vec<_>>();
        assert_eq!(numbers(&found.others), [7, 8]);
        assert_eq!(numbers(&found.ours), [100_000, 99_999]);
        found.remove_ours().unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 8);
        assert!(Numbered::find(folder).unwrap().ours.is_empty());
    }

    #[test]
    fn places_are_tried_and_left_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path();
        check_writable(folder).unwrap();
        check_writable(&folder.join("a/b/c")).unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        fs::write(folder.join("file"), "x").unwrap();
        for path in ["file", "file/below"] {
            let refused = check_writable(&folder.join(path)).unwrap_err().to_string();
            assert!(
                refused.contains("file: cannot be used as a folder"),
                "{refused}"
            );
        }
        #[cfg(target_os = "linux")]
        {
            let refused = check_writable(Path::new("/proc/none"))
                .unwrap_err()
                .to_string();
            assert!(
                refused.starts_with("/proc: cannot write into this folder"),
                "{refused}"
            );
        }
    }
}
