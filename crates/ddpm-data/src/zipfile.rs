use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::blob::{check_expansion, open_file};
use crate::config::DataConfig;
use crate::error::{DataError, Fault};
use crate::words::some;

/// A zip archive whose clones share one open file, so that threads unpack side by side.
pub(crate) type Archive = ZipArchive<SharedReader>;

/// What one file takes in a directory: 46 bytes, its name, and times and the like.
const DIRECTORY_BYTES_PER_FILE: u64 = 128;
/// What is read of any archive, whatever its directory: its end is looked for, in places that may lie apart.
const FREE_DIRECTORY_BYTES: u64 = 4 << 20;

/// Opens an archive and reads its directory, which becomes some hundred bytes of memory for each file: at most
/// `max_files` are allowed, and no more is read than the directory of so many takes.
pub(crate) fn open(path: &Path, config: &DataConfig) -> Result<Archive, DataError> {
    let (file, length) = open_file(path, "a zip archive")?;
    let allowance = config
        .max_files
        .saturating_mul(DIRECTORY_BYTES_PER_FILE)
        .saturating_add(FREE_DIRECTORY_BYTES);
    let allowance = Arc::new(AtomicU64::new(allowance));
    let reader = SharedReader(BufReader::new(SharedFile {
        file: Arc::new(Mutex::new(file)),
        position: 0,
        length,
        allowance: Arc::clone(&allowance),
    }));
    let too_many = |got| DataError::Limit {
        path: path.to_path_buf(),
        what: "number of files in the archive",
        got,
        limit: config.max_files,
        key: "max_files",
    };
    let archive = ZipArchive::new(reader);
    if allowance.swap(u64::MAX, Ordering::Relaxed) == 0 {
        return Err(too_many(config.max_files.saturating_add(1)));
    }
    let archive = archive.map_err(|error| match error {
        ZipError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            DataError::io(path, source)
        }
        error => DataError::format(path, "a zip archive", format!("something else ({error})")),
    })?;
    match archive.len() as u64 {
        got if got > config.max_files => Err(too_many(got)),
        _ => Ok(archive),
    }
}

/// One file of an archive: what its directory says.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) packed: u64,
}

/// The files of an archive, in the order of its directory.
pub(crate) fn entries(archive: &Archive) -> impl Iterator<Item = Entry> {
    let length = archive.clone().into_inner().length();
    (0..archive.len()).filter_map(move |index| {
        let entry = archive.by_index_data(index).ok()?;
        if entry.is_dir() {
            return None;
        }
        let name = entry.name().map_or_else(
            |_| String::from_utf8_lossy(entry.name_raw()).into_owned(),
            |name| name.into_owned(),
        );
        Some(Entry {
            index,
            name,
            size: entry.size(),
            // A directory that lies about this must not buy its file more memory.
            packed: entry.compressed_size().min(length),
        })
    })
}

/// The first bytes of a file of an archive; as many as can be had.
pub(crate) fn head(archive: &Archive, entry: &Entry, count: usize) -> Vec<u8> {
    let mut archive = archive.clone();
    let mut head = Vec::with_capacity(count);
    if let Ok(file) = archive.by_index(entry.index) {
        // what is read before a failure is enough to tell what kind of file it is
        let _ = file.take(count as u64).read_to_end(&mut head);
    }
    head
}

/// Unpacks one file, within the limits for image files.
pub(crate) fn read(
    archive: &Archive,
    entry: &Entry,
    config: &DataConfig,
) -> Result<Vec<u8>, Fault> {
    if entry.size > config.max_file_bytes {
        return Err(Fault::Limit {
            what: "unpacked size in bytes",
            got: entry.size,
            limit: config.max_file_bytes,
            key: "max_file_bytes",
        });
    }
    check_expansion(entry.size, entry.packed, config.max_expansion)?;
    let broken = |error: &dyn std::fmt::Display| {
        Fault::Bad(format!("cannot be unpacked from its archive: {error}"))
    };
    let mut archive = archive.clone();
    let file = archive
        .by_index(entry.index)
        .map_err(|error| broken(&error))?;
    let mut bytes = Vec::new();
    file.take(entry.size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| broken(&error))?;
    if bytes.len() as u64 != entry.size {
        return Err(broken(&format_args!(
            "its directory says {}, it has {}{}",
            some(usize::try_from(entry.size).unwrap_or(usize::MAX), "byte"),
            bytes.len(),
            if bytes.len() as u64 > entry.size {
                " or more"
            } else {
                ""
            }
        )));
    }
    Ok(bytes)
}

/// A buffered [`SharedFile`]; a clone starts with an empty buffer.
#[derive(Debug)]
pub(crate) struct SharedReader(BufReader<SharedFile>);

impl SharedReader {
    /// Of the whole archive, in bytes.
    fn length(&self) -> u64 {
        self.0.get_ref().length
    }
}

impl Clone for SharedReader {
    fn clone(&self) -> Self {
        Self(BufReader::new(self.0.get_ref().clone()))
    }
}

impl Read for SharedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Seek for SharedReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// One open file read from several positions.
#[derive(Clone, Debug)]
struct SharedFile {
    file: Arc<Mutex<File>>,
    position: u64,
    length: u64,
    /// Bytes that may still be read; a clone draws from the same.
    allowance: Arc<AtomicU64>,
}

impl Read for SharedFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // the position is set before every read, so a panic elsewhere leaves nothing half done
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.position))?;
        let allowed = self.allowance.load(Ordering::Relaxed);
        if allowed == 0 {
            return Err(io::Error::other("more was read than a directory may have"));
        }
        let count = file.read(out)?;
        self.position += count as u64;
        if allowed != u64::MAX {
            let left = allowed.saturating_sub(count as u64);
            self.allowance.store(left, Ordering::Relaxed);
        }
        Ok(count)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
