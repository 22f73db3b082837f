//! A range of a file, read from its start on.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::malformed;
use crate::error::{Result, StoreError};

pub(super) struct Input<'a> {
    path: &'a Path,
    file: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl<'a> Input<'a> {
    /// `range` lies within the file.
    pub(super) fn new(path: &'a Path, file: &'a File, range: Range<u64>) -> Result<Self> {
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(range.start))
            .map_err(StoreError::io(path, "read"))?;
        Ok(Self {
            path,
            file,
            at: range.start,
            end: range.end,
        })
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Where the next byte lies in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn rest(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// The next bytes, at most `count` and no more than a buffer holds, which stay unread.
    pub(super) fn peek(&mut self, count: usize) -> Result<&[u8]> {
        let count = count.min(usize::try_from(self.rest()).unwrap_or(usize::MAX));
        let buffer = self
            .file
            .fill_buf()
            .map_err(StoreError::io(self.path, "read"))?;
        Ok(&buffer[..count.min(buffer.len())])
    }

    /// Moves over `count` bytes and returns where they lie.
    pub(super) fn skip(&mut self, count: u64) -> Result<Range<u64>> {
        let start = self.take(count)?;
        match i64::try_from(count) {
            Ok(offset) => self.file.seek_relative(offset),
            Err(_) => Ok(()),
        }
        .map_err(StoreError::io(self.path, "read"))?;
        Ok(start..self.at)
    }

    /// `count` bytes; they are there before memory is.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        self.take(count as u64)?;
        let mut bytes = vec![0; count];
        self.file
            .read_exact(&mut bytes)
            .map_err(StoreError::io(self.path, "read"))?;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.file
            .read_exact(&mut bytes)
            .map_err(StoreError::io(self.path, "read"))?;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Counts `count` bytes as read and returns where they begin.
    fn take(&mut self, count: u64) -> Result<u64> {
        if count > self.rest() {
            let problem = format!(
                "byte {} asks for {count} more bytes, and {} are left; the file was cut or altered, so take another copy",
                self.at,
                self.rest()
            );
            return Err(malformed(self.path, problem));
        }
        let start = self.at;
        self.at += count;
        Ok(start)
    }
}
