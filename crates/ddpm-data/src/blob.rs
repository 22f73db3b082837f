use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::config::DataConfig;
use crate::error::{DataError, Fault};

/// Files this small may expand as much as they like.
const FREE_EXPANSION_BYTES: u64 = 1 << 20;

/// The bytes of an array file: in memory if the limit allows it, else read from the file piece by piece.
#[derive(Debug)]
pub(crate) struct Blob {
    path: PathBuf,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Memory(Vec<u8>),
    File(Mutex<File>),
}

impl Blob {
    /// A file that is not compressed, of `length` bytes by its metadata.
    pub(crate) fn from_file(
        path: &Path,
        mut file: File,
        length: u64,
        config: &DataConfig,
    ) -> Result<Self, DataError> {
        let backing = if length <= config.cache_bytes {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            file.rewind()
                .and_then(|()| file.take(length).read_to_end(&mut bytes))
                .map_err(|error| DataError::io(path, error))?;
            Backing::Memory(bytes)
        } else {
            Backing::File(Mutex::new(file))
        };
        Ok(Self {
            path: path.to_path_buf(),
            backing,
        })
    }

    /// A compressed file: `head` is what has been unpacked of it, `rest` unpacks the rest. `expected` is the
    /// unpacked length that its header states, `packed` the compressed length on disk.
    pub(crate) fn unpack(
        path: &Path,
        head: Vec<u8>,
        rest: impl Read,
        expected: u64,
        packed: u64,
        config: &DataConfig,
    ) -> Result<Self, DataError> {
        if expected > config.cache_bytes {
            return Err(DataError::Limit {
                path: path.to_path_buf(),
                what: "unpacked size in bytes",
                got: expected,
                limit: config.cache_bytes,
                key: "cache_bytes",
            });
        }
        check_expansion(expected, packed, config.max_expansion)
            .map_err(|fault| fault.at(path.to_path_buf()))?;
        let mut bytes = head;
        let missing = expected.saturating_sub(bytes.len() as u64);
        bytes.reserve_exact(usize::try_from(missing).unwrap_or(0));
        // one byte more than expected tells a file that is too long
        rest.take(missing + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| {
                DataError::format(
                    path,
                    format!("{expected} bytes when unpacked"),
                    format!("data that cannot be unpacked ({error})"),
                )
            })?;
        if bytes.len() as u64 != expected {
            let got = if bytes.len() as u64 > expected {
                "more".to_owned()
            } else {
                bytes.len().to_string()
            };
            return Err(DataError::format(
                path,
                format!("{expected} bytes when unpacked, by its header"),
                got,
            ));
        }
        Ok(Self {
            path: path.to_path_buf(),
            backing: Backing::Memory(bytes),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `out` from byte `at` on.
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        match &self.backing {
            Backing::Memory(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let piece = start
                    .checked_add(out.len())
                    .and_then(|end| bytes.get(start..end))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                out.copy_from_slice(piece);
                Ok(())
            }
            Backing::File(file) => {
                // the position is set before every read, so a panic elsewhere leaves nothing half done
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(out)
            }
        }
    }
}

/// Refuses what unpacks to suspiciously many bytes.
pub(crate) fn check_expansion(unpacked: u64, packed: u64, max_expansion: u64) -> Result<(), Fault> {
    if unpacked > FREE_EXPANSION_BYTES && unpacked > packed.saturating_mul(max_expansion) {
        return Err(Fault::Limit {
            what: "expansion when unpacked, as a multiple of the packed size,",
            got: unpacked / packed.max(1),
            limit: max_expansion,
            key: "max_expansion",
        });
    }
    Ok(())
}

/// The first `count` bytes, or fewer at the end of the input.
pub(crate) fn read_head(reader: &mut dyn Read, count: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(count);
    reader.take(count as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Opens a file and gives its length, refusing directories and what has no length.
pub(crate) fn open_file(path: &Path, expected: &str) -> Result<(File, u64), DataError> {
    let failed = |error| DataError::io(path, error);
    // Looked at first: opening a named pipe would wait for somebody to write to it.
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(DataError::format(path, expected, "a directory"));
    }
    if !metadata.is_file() {
        return Err(DataError::format(path, expected, "a device or a pipe"));
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_reads_the_same_from_memory_and_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, [1u8, 2, 3, 4, 5]).unwrap();
        for cache_bytes in [5, 4] {
            let config = DataConfig {
                cache_bytes,
                ..DataConfig::default()
            };
            let (file, length) = open_file(&path, "bytes").unwrap();
            let blob = Blob::from_file(&path, file, length, &config).unwrap();
            assert_eq!(matches!(blob.backing, Backing::Memory(_)), cache_bytes == 5);
            let mut out = [0; 3];
            blob.read(1, &mut out).unwrap();
            assert_eq!(out, [2, 3, 4]);
            for at in [3, 5, u64::MAX] {
                assert!(blob.read(at, &mut out).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn unpacking_stops_at_the_length_stated() {
        let config = DataConfig {
            cache_bytes: 100,
            ..DataConfig::default()
        };
        let path = Path::new("a.gz");
        let unpack = |expected, data: &[u8]| {
            Blob::unpack(path, vec![7, 7], data, expected, 10, &config).map(|_| ())
        };
        unpack(4, &[1, 2]).unwrap();
        assert!(matches!(unpack(5, &[1, 2]), Err(DataError::Format { .. })));
        assert!(matches!(unpack(3, &[1, 2]), Err(DataError::Format { .. })));
        assert!(matches!(
            unpack(101, &[0; 99]),
            Err(DataError::Limit {
                key: "cache_bytes",
                ..
            })
        ));
    }

    #[test]
    fn expansion_is_free_when_small() {
        assert!(check_expansion(1 << 20, 1, 200).is_ok());
        assert!(check_expansion((1 << 20) + 1, 1, 200).is_err());
        assert!(check_expansion(200 << 20, 1 << 20, 200).is_ok());
        assert!(check_expansion(u64::MAX, u64::MAX, 200).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn what_has_no_length_is_refused_without_waiting() {
        let error = open_file(Path::new("/dev/zero"), "bytes").unwrap_err();
        assert!(matches!(error, DataError::Format { .. }), "{error}");
    }
}
