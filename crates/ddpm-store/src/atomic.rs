//! Files and directories that are either there in whole or not at all.
//!
//! A reader, and whoever starts after a crash, sees the old state or the new one, never a part:
//! the bytes are written under a temporary name, flushed to the medium, and only then renamed.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Result, StoreError};
use crate::io::{self as disk, OutFile};

/// What every unfinished file or directory of ours is called at first.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

pub(crate) const BUFFER_BYTES: usize = 1 << 20;

/// Replaces or creates a file at once, with the directories above it.
///
/// # Errors   [`StoreError::Io`]; the old file, if any, is then untouched
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_file_with(path, |out| out.write_all(bytes))
}

/// As [`write_file`], for bytes that are produced bit by bit.
pub(crate) fn write_file_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let (commit, file) = FileCommit::begin(path)?;
    let file = filled(file, fill)?;
    commit.commit(file)
}

/// The digest that stands for a file's contents in a manifest (BLAKE3, hexadecimal).
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn write_synced(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    filled(OutFile::create_new(path)?, fill)?.sync()
}

/// The file with its bytes, which may not be on the medium yet.
fn filled(file: OutFile, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<OutFile> {
    let path = file.path().to_owned();
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    fill(&mut out).map_err(StoreError::io(&path, "write"))?;
    out.into_inner()
        .map_err(|error| StoreError::io(&path, "write")(error.into_error()))
}

/// The directory a path lies in: "." for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(crate) fn temporary_name(path: &Path) -> OsString {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = OsString::from(TEMPORARY_PREFIX);
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(
        "-{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    name
}

/// Length and digest of a file, taken while it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRecord {
    pub(crate) bytes: u64,
    pub(crate) blake3: String,
}

/// A file that gets its name only when all of it is on the medium.
///
/// Dropped without [`FileCommit::commit`], it is removed, and what had the name before stays.
#[derive(Debug)]
pub(crate) struct FileCommit {
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl FileCommit {
    /// Makes the file under a temporary name beside `target`, and the directories above it.
    pub(crate) fn begin(target: &Path) -> Result<(Self, OutFile)> {
        let directory = parent(target);
        disk::create_dir_all(directory)?;
        let temporary = directory.join(temporary_name(target));
        let file = OutFile::create_new(&temporary)?;
        let commit = Self {
            temporary,
            target: target.to_owned(),
            committed: false,
        };
        Ok((commit, file))
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Makes the file that [`FileCommit::begin`] gave durable, and gives it its name.
    pub(crate) fn commit(mut self, file: OutFile) -> Result<()> {
        file.sync()?;
        drop(file);
        disk::rename(&self.temporary, &self.target)?;
        self.committed = true;
        disk::sync_dir(parent(&self.target))
    }
}

impl Drop for FileCommit {
    fn drop(&mut self) {
        if !self.committed {
            // The first failure is the one to report; what is left is swept at the next start.
            let _ = disk::remove_file(&self.temporary);
        }
    }
}

/// A directory that appears under its name only when all its files are on the medium.
///
/// Dropped without [`DirCommit::commit`], it removes what it had written.
#[derive(Debug)]
pub(crate) struct DirCommit {
    parent: PathBuf,
    staging: PathBuf,
    target: PathBuf,
    subdirectories: Vec<PathBuf>,
    committed: bool,
}

impl DirCommit {
    /// Starts `parent/.tmp-NAME-PID`, to become `parent/NAME`.
    pub(crate) fn begin(parent: &Path, name: &str) -> Result<Self> {
        disk::create_dir_all(parent)?;
        let staging = parent.join(format!("{TEMPORARY_PREFIX}{name}-{}", std::process::id()));
        if !disk::create_dir_new(&staging)? {
            // Left by a failed attempt of this very process (or of one with its number).
            disk::remove_dir_all(&staging)?;
            disk::create_dir_all(&staging)?;
        }
        Ok(Self {
            parent: parent.to_owned(),
            target: parent.join(name),
            staging,
            subdirectories: Vec::new(),
            committed: false,
        })
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Writes and fsyncs one file; `relative` has at most one directory in it.
    pub(crate) fn write(
        &mut self,
        relative: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<FileRecord> {
        let path = self.staging.join(relative);
        let directory = parent(&path).to_owned();
        if directory != self.staging && !self.subdirectories.contains(&directory) {
            disk::create_dir_all(&directory)?;
            self.subdirectories.push(directory);
        }
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        write_synced(&path, |out| {
            fill(&mut Hashing {
                out,
                hasher: &mut hasher,
                bytes: &mut bytes,
            })
        })?;
        Ok(FileRecord {
            bytes,
            blake3: hasher.finalize().to_hex().to_string(),
        })
    }

    /// Makes all of it durable and gives it its name, which must be free.
    pub(crate) fn commit(mut self) -> Result<PathBuf> {
        for directory in &self.subdirectories {
            disk::sync_dir(directory)?;
        }
        disk::sync_dir(&self.staging)?;
        disk::rename(&self.staging, &self.target)?;
        self.committed = true;
        disk::sync_dir(&self.parent)?;
        Ok(self.target.clone())
    }
}

impl Drop for DirCommit {
    fn drop(&mut self) {
        if !self.committed {
            // Whatever stopped the commit is reported by its caller; a rest is swept at the next start.
            let _ = disk::remove_dir_all(&self.staging);
        }
    }
}

struct Hashing<'a> {
    out: &'a mut dyn Write,
    hasher: &'a mut blake3::Hasher,
    bytes: &'a mut u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        *self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Removes what an earlier process left unfinished in `directory`; only a run's one writer may.
pub(crate) fn sweep_temporaries(directory: &Path) -> Result<()> {
    for path in disk::read_dir_sorted(directory)? {
        let name = path.file_name().unwrap_or_default();
        if !name
            .as_encoded_bytes()
            .starts_with(TEMPORARY_PREFIX.as_bytes())
        {
            continue;
        }
        tracing::info!(path = %path.display(), "removing what an interrupted write left");
        if path.is_dir() {
            disk::remove_dir_all(&path)?;
        } else {
            disk::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(directory: &Path) -> Vec<String> {
        let paths = disk::read_dir_sorted(directory).unwrap();
        paths
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_and_no_temporary_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/a.txt");
        for contents in [&b"first"[..], b"second, longer", b""] {
            write_file(&path, contents).unwrap();
            assert_eq!(fs::read(&path).unwrap(), contents);
        }
        assert_eq!(names(&directory.path().join("new")), ["a.txt"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        write_file(&path, b"old").unwrap();
        let failed = write_file_with(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let message = failed.unwrap_err().to_string();
        assert!(
            message.contains("a.txt") && message.contains("cannot write"),
            "{message}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["a.txt"]);
    }

    #[test]
    fn a_file_appears_only_when_committed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/a.txt");
        let (commit, mut file) = FileCommit::begin(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        commit.commit(file).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");

        let (abandoned, mut file) = FileCommit::begin(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(abandoned);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(&directory.path().join("new")), ["a.txt"]);
    }

    #[test]
    fn a_directory_appears_only_when_committed() {
        let root = tempfile::tempdir().unwrap();
        let mut commit = DirCommit::begin(root.path(), "done").unwrap();
        let record = commit
            .write("sub/x", |out| out.write_all(b"hello"))
            .unwrap();
        assert_eq!(record.bytes, 5);
        assert_eq!(record.blake3, blake3::hash(b"hello").to_hex().to_string());
        assert!(!root.path().join("done").exists());
        commit.commit().unwrap();
        assert_eq!(fs::read(root.path().join("done/sub/x")).unwrap(), b"hello");
        assert_eq!(names(root.path()), ["done"]);

        let mut abandoned = DirCommit::begin(root.path(), "never").unwrap();
        abandoned.write("x", |out| out.write_all(b"1")).unwrap();
        drop(abandoned);
        assert_eq!(names(root.path()), ["done"]);
    }

    #[test]
    fn sweeping_removes_only_temporaries() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(".tmp-step-3-1/unet")).unwrap();
        fs::write(root.path().join(".tmp-config.toml-1-0"), "x").unwrap();
        fs::write(root.path().join("config.toml"), "x").unwrap();
        sweep_temporaries(root.path()).unwrap();
        assert_eq!(names(root.path()), ["config.toml"]);
        sweep_temporaries(&root.path().join("missing")).unwrap();
    }
}
