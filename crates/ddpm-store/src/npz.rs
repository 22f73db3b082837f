//! NumPy's `.npz` archives, written: arrays of numbers, stored as `numpy.savez` stores them.
//!
//! Equal contents give equal bytes: the archive says nothing of the time or of the system.
//!
//! ```
//! use ddpm_store::npz::{NpzData, write_npz};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("statistics.npz");
//! let mu = NpzData::F64(&[0.5, 0.25]);
//! let sigma = NpzData::F64(&[1.0, 0.0, 0.0, 1.0]);
//! write_npz(&path, &[("mu", &[2], mu), ("sigma", &[2, 2], sigma)])?;
//! # Ok(())
//! # }
//! ```

mod images;
mod sink;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::Path;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZIP64_BYTES_THR, ZipWriter};

pub use self::images::ImageNpz;
use self::sink::{Close, Sink};
use crate::atomic::FileCommit;
use crate::error::{Result, StoreError};

/// Numbers that become bytes at once.
const CHUNK: usize = 1 << 16;
/// Axes that NumPy has always allowed.
const MAX_AXES: usize = 32;
/// Magic, version and length of an array's header.
const PRELUDE_BYTES: usize = 10;
/// The numbers of an array begin at a multiple of so many bytes of its file.
const ALIGNMENT: usize = 64;

/// The numbers of an array, row-major (NumPy's C order).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NpzData<'a> {
    /// `float64`
    F64(&'a [f64]),
    /// `float32`
    F32(&'a [f32]),
    /// `uint8`
    U8(&'a [u8]),
    /// `int64`
    I64(&'a [i64]),
}

impl NpzData<'_> {
    /// NumPy's name of the type, and the bytes of a number.
    fn kind(self) -> (&'static str, u64) {
        match self {
            Self::F64(_) => ("<f8", 8),
            Self::F32(_) => ("<f4", 4),
            Self::U8(_) => ("|u1", 1),
            Self::I64(_) => ("<i8", 8),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::F64(numbers) => numbers.len(),
            Self::F32(numbers) => numbers.len(),
            Self::U8(numbers) => numbers.len(),
            Self::I64(numbers) => numbers.len(),
        }
    }

    fn write_to(self, out: &mut impl Write) -> io::Result<()> {
        fn each<T: Copy, const N: usize>(
            out: &mut impl Write,
            numbers: &[T],
            bytes_of: impl Fn(T) -> [u8; N],
        ) -> io::Result<()> {
            let mut bytes = Vec::with_capacity(CHUNK.min(numbers.len()) * N);
            for chunk in numbers.chunks(CHUNK) {
                bytes.clear();
                bytes.extend(chunk.iter().flat_map(|&number| bytes_of(number)));
                out.write_all(&bytes)?;
            }
            Ok(())
        }
        match self {
            Self::F64(numbers) => each(out, numbers, f64::to_le_bytes),
            Self::F32(numbers) => each(out, numbers, f32::to_le_bytes),
            Self::U8(numbers) => out.write_all(numbers),
            Self::I64(numbers) => each(out, numbers, i64::to_le_bytes),
        }
    }
}

/// Writes an archive of named arrays at once: name, shape and numbers of each.
///
/// # Errors   [`StoreError::Tensor`] for a shape that does not fit its numbers; [`StoreError::Io`], also for a name that
/// comes twice. What had the name before is then untouched
pub fn write_npz(path: &Path, arrays: &[(&str, &[usize], NpzData<'_>)]) -> Result<()> {
    let mut writer = NpzWriter::create(path)?;
    for &(name, shape, data) in arrays {
        writer.array(name, shape, data)?;
    }
    writer.finish()
}

/// An archive that is written array by array, and gets its name when it is finished.
///
/// Dropped before that, it leaves nothing behind.
#[derive(Debug)]
pub struct NpzWriter {
    // In the order in which they are dropped: nothing more is written, the archive ends, the file is removed.
    close: Close,
    zip: ZipWriter<Sink>,
    commit: FileCommit,
}

impl NpzWriter {
    /// Makes the file under a temporary name, and the directories above it.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn create(path: &Path) -> Result<Self> {
        let (commit, file) = FileCommit::begin(path)?;
        let (sink, close) = Sink::new(file);
        Ok(Self {
            close,
            zip: ZipWriter::new(sink),
            commit,
        })
    }

    /// Adds an array, to be found under `name` in Python.
    ///
    /// # Errors   [`StoreError::Tensor`] for a shape that does not fit the numbers; [`StoreError::Io`], also for a name
    /// that comes twice
    pub fn array(&mut self, name: &str, shape: &[usize], data: NpzData<'_>) -> Result<()> {
        let problem = match elements(shape) {
            _ if shape.len() > MAX_AXES => format!(
                "has {} axes, and NumPy reads at most {MAX_AXES}",
                shape.len()
            ),
            Some(count) if count == data.len() => String::new(),
            _ => format!("shape {shape:?} does not fit {} numbers", data.len()),
        };
        if !problem.is_empty() {
            return Err(StoreError::tensor(self.path(), name, problem));
        }
        let (descr, bytes) = data.kind();
        self.begin(name, descr, shape, bytes * data.len() as u64)?;
        data.write_to(&mut self.zip)
            .map_err(StoreError::io(self.path(), "write"))
    }

    /// Ends the archive and gives the file its name.
    ///
    /// # Errors   [`StoreError::Io`]; what had the name before is then untouched
    pub fn finish(self) -> Result<()> {
        let Self {
            close: _close,
            zip,
            commit,
        } = self;
        let file = zip
            .finish()
            .map_err(io_error)
            .and_then(Sink::into_file)
            .map_err(StoreError::io(commit.target(), "write"))?;
        commit.commit(file)
    }

    fn path(&self) -> &Path {
        self.commit.target()
    }

    /// Starts an array whose numbers take so many bytes, for [`NpzWriter::write`] to bring.
    fn begin(&mut self, name: &str, descr: &str, shape: &[usize], bytes: u64) -> Result<()> {
        let header = header(descr, shape);
        let in_all = bytes.saturating_add(header.len() as u64);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::DEFAULT)
            .system(System::Unix)
            .unix_permissions(0o644)
            .large_file(in_all >= ZIP64_BYTES_THR);
        let begun = self.zip.start_file(format!("{name}.npy"), options);
        begun
            .map_err(io_error)
            .and_then(|()| self.zip.write_all(&header))
            .map_err(StoreError::io(self.commit.target(), "write"))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.zip
            .write_all(bytes)
            .map_err(StoreError::io(self.commit.target(), "write"))
    }
}

/// How many numbers an array of this shape has; none if they cannot be counted.
fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |count, &axis| count.checked_mul(axis))
}

/// The header of an array's file, version 1.0 of NumPy's format (NEP 1).
fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let axes = match shape {
        // A tuple of one needs its comma.
        [axis] => format!("{axis},"),
        axes => axes
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}");
    let in_all = (PRELUDE_BYTES + text.len() + 1).next_multiple_of(ALIGNMENT);
    let spaces = in_all - (PRELUDE_BYTES + text.len() + 1);
    text.extend(std::iter::repeat_n(' ', spaces));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // Some hundred bytes for the most axes that there may be.
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

/// What the system said, without the words "i/o error" around it.
fn io_error(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        error => error.into(),
    }
}
