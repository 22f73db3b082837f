//! Every change this crate makes to the disk goes through these few operations.
//!
//! Nothing else in the crate calls `std::fs` to change anything, so that a test can make the n-th change fail or
//! kill the process in it: each asks [`crate::seam`] first.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};
use crate::seam::{self, Change, Verdict};

/// Asks whether a change may happen.
fn permit(change: Change, path: &Path) -> io::Result<()> {
    match seam::before(change, path) {
        Verdict::Pass => Ok(()),
        Verdict::Fail(error) => Err(error),
        Verdict::Kill => seam::die(),
    }
}

/// A file opened for writing that knows its path.
#[derive(Debug)]
pub(crate) struct OutFile {
    file: File,
    path: PathBuf,
}

impl OutFile {
    /// A new file; fails if there is one.
    pub(crate) fn create_new(path: &Path) -> Result<Self> {
        let file = permit(Change::Create, path)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(path));
        Ok(Self {
            file: file.map_err(StoreError::io(path, "create"))?,
            path: path.to_owned(),
        })
    }

    /// A file, new or not, where every write goes to the end.
    pub(crate) fn append(path: &Path) -> Result<Self> {
        let file = permit(Change::Create, path)
            .and_then(|()| OpenOptions::new().append(true).create(true).open(path));
        Ok(Self {
            file: file.map_err(StoreError::io(path, "open"))?,
            path: path.to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64> {
        let metadata = self
            .file
            .metadata()
            .map_err(StoreError::io(&self.path, "read"))?;
        Ok(metadata.len())
    }

    pub(crate) fn set_len(&self, bytes: u64) -> Result<()> {
        permit(Change::Truncate, &self.path)
            .and_then(|()| self.file.set_len(bytes))
            .map_err(StoreError::io(&self.path, "truncate"))
    }

    /// Returns when the bytes are on the medium.
    pub(crate) fn sync(&self) -> Result<()> {
        permit(Change::Sync, &self.path)
            .and_then(|()| self.file.sync_all())
            .map_err(StoreError::io(&self.path, "fsync"))
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let verdict = seam::before(Change::Write, &self.path);
        if !matches!(verdict, Verdict::Pass) {
            // What a full disk, a failing one or a power cut leaves: a part.
            let _ = self.file.write(&bytes[..bytes.len() / 2]);
        }
        match verdict {
            Verdict::Pass => self.file.write(bytes),
            Verdict::Fail(error) => Err(error),
            Verdict::Kill => seam::die(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for OutFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The directory and its parents, where they are not there yet.
pub(crate) fn create_dir_all(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    permit(Change::CreateDir, path)
        .and_then(|()| fs::create_dir_all(path))
        .map_err(StoreError::io(path, "create"))
}

/// A new directory; `false` if there is one already.
pub(crate) fn create_dir_new(path: &Path) -> Result<bool> {
    match permit(Change::CreateDir, path).and_then(|()| fs::create_dir(path)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(StoreError::io(path, "create")(error)),
    }
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    permit(Change::Rename, to)
        .and_then(|()| fs::rename(from, to))
        .map_err(StoreError::io(to, "rename a finished file to"))
}

pub(crate) fn remove_file(path: &Path) -> Result<()> {
    permit(Change::Remove, path)
        .and_then(|()| fs::remove_file(path))
        .map_err(StoreError::io(path, "remove"))
}

pub(crate) fn remove_dir_all(path: &Path) -> Result<()> {
    let verdict = seam::before(Change::Remove, path);
    if !matches!(verdict, Verdict::Pass) {
        // It is many removals to the system, so it can stop between two.
        let first = fs::read_dir(path).ok().and_then(|mut all| all.next()?.ok());
        let _ = first.map(|entry| fs::remove_file(entry.path()));
    }
    let removed = match verdict {
        Verdict::Pass => fs::remove_dir_all(path),
        Verdict::Fail(error) => Err(error),
        Verdict::Kill => seam::die(),
    };
    removed.map_err(StoreError::io(path, "remove"))
}

/// Makes the names in a directory as durable as the files' contents.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    // Elsewhere a directory cannot be opened as a file, and renames are journalled anyway.
    let sync = || match cfg!(unix) {
        true => File::open(path).and_then(|directory| directory.sync_all()),
        false => Ok(()),
    };
    permit(Change::SyncDir, path)
        .and_then(|()| sync())
        .map_err(StoreError::io(path, "fsync"))
}

/// Takes the exclusive lock of a file, which the returned handle holds until it is dropped.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).open(path)
    };
    let file = permit(Change::Create, path).and_then(|()| open());
    let file = file.map_err(StoreError::io(path, "open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(StoreError::io(path, "lock")(error)),
    }
}

/// A small file in whole; one over `max_bytes` is refused before it is read.
pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(StoreError::io(path, "open"))?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(StoreError::io(path, "read"))?;
    if bytes.len() as u64 > max_bytes {
        let problem = format!("larger than the {max_bytes} bytes that such a file may have");
        return Err(StoreError::format(path, "configuration", problem));
    }
    Ok(bytes)
}

/// Entries of a directory, sorted by name; none where the directory is not there.
pub(crate) fn read_dir_sorted(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(path, "list")(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(StoreError::io(path, "list"))?;
    paths.sort();
    Ok(paths)
}
