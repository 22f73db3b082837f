//! Faults on purpose, compiled only with the feature `faults`: which change to the disk fails or kills.
//!
//! Changes are numbered from 1 in the order in which the process makes them. That order is the same in every run of
//! one configuration, because one thread writes, so a number from a [`Recording`] names the same moment in the next
//! process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

pub use crate::seam::{Change, Verdict};

/// Decides on every change to the disk.
pub trait Seam: Send + Sync {
    /// Change `number`, from 1, is about to be made to `path`.
    fn before(&self, number: u64, change: Change, path: &Path) -> Verdict;
}

static SEAM: RwLock<Option<Box<dyn Seam>>> = RwLock::new(None);
static NUMBER: AtomicU64 = AtomicU64::new(0);
static TURN: Mutex<()> = Mutex::new(());

/// Holds a seam in place. Only one is there at a time; a second [`install`] waits for the first to go.
#[derive(Debug)]
pub struct Installed {
    _turn: MutexGuard<'static, ()>,
}

/// Puts a seam between this process and its disk, until the returned value is dropped.
#[must_use]
pub fn install(seam: Box<dyn Seam>) -> Installed {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    NUMBER.store(0, Ordering::SeqCst);
    *SEAM.write().unwrap_or_else(PoisonError::into_inner) = Some(seam);
    Installed { _turn: turn }
}

impl Drop for Installed {
    fn drop(&mut self) {
        *SEAM.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

pub(crate) fn before(change: Change, path: &Path) -> Verdict {
    match &*SEAM.read().unwrap_or_else(PoisonError::into_inner) {
        None => Verdict::Pass,
        Some(seam) => {
            let number = NUMBER.fetch_add(1, Ordering::SeqCst) + 1;
            seam.before(number, change, path)
        }
    }
}

/// Counts: writes one line a change, `NUMBER KIND PATH`, into a file that is not counted itself.
#[derive(Debug)]
pub struct Recording {
    lines: Mutex<File>,
}

impl Recording {
    /// Appends to `path`.
    ///
    /// # Errors   the system's, if the file cannot be opened
    pub fn to(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            lines: Mutex::new(file),
        })
    }
}

impl Seam for Recording {
    fn before(&self, number: u64, change: Change, path: &Path) -> Verdict {
        let line = format!("{number} {} {}\n", change.name(), path.display());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.write_all(line.as_bytes()) {
            Ok(()) => Verdict::Pass,
            // A recording with a hole would be believed.
            Err(error) => Verdict::Fail(error),
        }
    }
}

/// How often a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// One change fails; the next ones work.
    Once,
    /// That change and every later one fails.
    ForGood,
}

/// Fails at one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Which change, from 1.
    pub at: u64,
    /// The system's number of the error: 5 is EIO, 28 is ENOSPC, 30 is EROFS.
    pub os_error: i32,
    /// How long it lasts.
    pub lasting: Lasting,
}

impl Seam for Failing {
    fn before(&self, number: u64, _change: Change, _path: &Path) -> Verdict {
        let hit = match self.lasting {
            Lasting::Once => number == self.at,
            Lasting::ForGood => number >= self.at,
        };
        if hit {
            Verdict::Fail(io::Error::from_raw_os_error(self.os_error))
        } else {
            Verdict::Pass
        }
    }
}

/// Kills the process at one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killing {
    /// Which change, from 1.
    pub at: u64,
}

impl Seam for Killing {
    fn before(&self, number: u64, _change: Change, _path: &Path) -> Verdict {
        if number == self.at {
            Verdict::Kill
        } else {
            Verdict::Pass
        }
    }
}
