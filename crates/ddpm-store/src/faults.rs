//! Faults on purpose, compiled only with the feature `faults`: which change to the disk fails or kills.
//!
//! Changes are numbered from 1 in the order in which the process makes them. That order is the same in every run of
//! one configuration, because one thread writes, so a number from a [`Recording`] names the same moment in the next
//! process.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

pub use crate::seam::{Change, Verdict};

/// Decides on every change to the disk.
pub trait Seam: Send + Sync {
    /// Change `number`, from 1, is about to be made to `path`.
    fn before(&self, number: u64, change: Change, path: &Path) -> Verdict;
}

/// A seam, and how many changes it has decided on.
struct Counted {
    seam: Box<dyn Seam>,
    changes: AtomicU64,
}

impl Counted {
    fn new(seam: Box<dyn Seam>) -> Self {
        Self {
            seam,
            changes: AtomicU64::new(0),
        }
    }

    fn before(&self, change: Change, path: &Path) -> Verdict {
        let number = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        self.seam.before(number, change, path)
    }
}

static EVERYWHERE: OnceLock<Counted> = OnceLock::new();

thread_local! {
    static HERE: RefCell<Option<Counted>> = const { RefCell::new(None) };
}

/// Holds a seam in place; it stays on the thread that it is for.
#[derive(Debug)]
pub struct Installed {
    _thread: PhantomData<*const ()>,
}

/// Puts a seam between this thread and its disk, until the returned value is dropped. Other threads, those of other
/// tests say, are not concerned. One that is there already goes.
#[must_use]
pub fn install(seam: Box<dyn Seam>) -> Installed {
    HERE.set(Some(Counted::new(seam)));
    Installed {
        _thread: PhantomData,
    }
}

/// Puts a seam between all threads of this process and their disk, for good. The first one stays.
pub fn install_everywhere(seam: Box<dyn Seam>) {
    let _ = EVERYWHERE.set(Counted::new(seam));
}

impl Drop for Installed {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

pub(crate) fn before(change: Change, path: &Path) -> Verdict {
    HERE.with_borrow(|here| match here.as_ref().or(EVERYWHERE.get()) {
        None => Verdict::Pass,
        Some(seam) => seam.before(change, path),
    })
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
