//! The file that an archive is written to.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::atomic::BUFFER_BYTES;
use crate::io::OutFile;

/// A buffered file that can be closed: then nothing reaches it any more, and nothing fails. A failure closes it, too.
///
/// A `ZipWriter` ends its archive when it is dropped, and prints what fails then. Of a file that has failed before, or
/// that is going to be removed, nobody wants to read that.
#[derive(Debug)]
pub(super) struct Sink {
    out: BufWriter<OutFile>,
    /// Where the next byte goes.
    at: u64,
    /// Bytes so far.
    length: u64,
    closed: Arc<AtomicBool>,
}

/// Closes a [`Sink`] when it is dropped.
#[derive(Debug)]
pub(super) struct Close(Arc<AtomicBool>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Sink {
    pub(super) fn new(file: OutFile) -> (Self, Close) {
        let closed = Arc::new(AtomicBool::new(false));
        let sink = Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, file),
            at: 0,
            length: 0,
            closed: Arc::clone(&closed),
        };
        (sink, Close(closed))
    }

    /// The file with all its bytes, which may not be on the medium yet.
    pub(super) fn into_file(self) -> io::Result<OutFile> {
        self.out.into_inner().map_err(|error| error.into_error())
    }

    /// What comes of a change to the file, or `unchanged` if it is closed.
    fn change<T>(
        &mut self,
        unchanged: T,
        change: impl FnOnce(&mut BufWriter<OutFile>) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(unchanged);
        }
        let changed = change(&mut self.out);
        if let Err(error) = &changed
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.closed.store(true, Ordering::Relaxed);
            // The archive subtracts where an entry began from where it is.
            self.at = self.length;
        }
        changed
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.change(bytes.len(), |out| out.write(bytes))?;
        self.at += written as u64;
        self.length = self.length.max(self.at);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.change((), Write::flush)
    }
}

impl Seek for Sink {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
        };
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        // A buffered file writes out its buffer even when it is only asked where it is.
        if place != self.at {
            self.change(place, |out| out.seek(SeekFrom::Start(place)))?;
            self.at = place;
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sink(path: &Path) -> (Sink, Close) {
        Sink::new(OutFile::create_new(path).unwrap())
    }

    #[test]
    fn a_sink_is_the_file_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let (mut out, _close) = sink(&path);
        out.write_all(b"hello world").unwrap();
        assert_eq!(out.seek(SeekFrom::Start(6)).unwrap(), 6);
        out.write_all(b"W").unwrap();
        assert_eq!(out.stream_position().unwrap(), 7);
        assert_eq!(out.seek(SeekFrom::End(0)).unwrap(), 11);
        assert_eq!(out.seek(SeekFrom::Current(-11)).unwrap(), 0);
        assert!(out.seek(SeekFrom::Current(-1)).is_err());
        out.write_all(b"H").unwrap();
        drop(out.into_file().unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"Hello World");
    }

    #[test]
    fn nothing_reaches_a_closed_sink_and_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let (mut out, close) = sink(&path);
        out.write_all(b"kept").unwrap();
        out.flush().unwrap();
        drop(close);
        out.write_all(b" and lost").unwrap();
        out.flush().unwrap();
        assert_eq!(out.stream_position().unwrap(), 13);
        assert_eq!(out.seek(SeekFrom::Start(2)).unwrap(), 2);
        out.write_all(b"lost").unwrap();
        assert_eq!(out.seek(SeekFrom::End(0)).unwrap(), 13);
        drop(out);
        assert_eq!(fs::read(&path).unwrap(), b"kept");
    }

    #[test]
    fn a_failure_closes_it_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut out, _close) = sink(&folder.path().join("a"));
        out.write_all(b"hello").unwrap();
        out.seek(SeekFrom::Start(1)).unwrap();
        let full = || Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull));
        assert!(out.change((), |_| full()).is_err());
        assert_eq!(out.stream_position().unwrap(), 5);
        assert!(out.change((), |_| full()).is_ok());
        // To be called again is no failure.
        let (mut out, _close) = sink(&folder.path().join("b"));
        let again = io::ErrorKind::Interrupted;
        assert!(out.change((), |_| Err(again.into())).is_err());
        assert!(out.change((), |_| full()).is_err());
    }
}
