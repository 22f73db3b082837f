//! Where faults enter: every change to the disk asks here first.
//!
//! Without the feature `faults` there is nothing to ask and the compiler removes the question. With it, a test
//! installs a [`Seam`] that counts the changes, makes one fail, or ends the process in the middle of one.

use std::path::Path;

/// A kind of change to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file is opened for writing, and made if it is not there.
    Create,
    /// A directory is made.
    CreateDir,
    /// Bytes are written to a file.
    Write,
    /// A file's bytes are forced onto the medium.
    Sync,
    /// A directory's names are forced onto the medium.
    SyncDir,
    /// Something gets another name.
    Rename,
    /// A file or a directory with all that is in it goes.
    Remove,
    /// A file is cut.
    Truncate,
}

impl Change {
    /// One word for it.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateDir => "mkdir",
            Self::Write => "write",
            Self::Sync => "fsync",
            Self::SyncDir => "fsync-dir",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Truncate => "truncate",
        }
    }
}

/// What is to become of a change.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "faults"),
    expect(dead_code, reason = "only faults say anything but `Pass`")
)]
pub enum Verdict {
    /// It happens.
    Pass,
    /// It fails with this error; of a write, the first half happens.
    Fail(std::io::Error),
    /// The process is killed; of a write, the first half happens.
    Kill,
}

#[cfg(not(feature = "faults"))]
pub(crate) fn before(_change: Change, _path: &Path) -> Verdict {
    Verdict::Pass
}

#[cfg(feature = "faults")]
pub(crate) fn before(change: Change, path: &Path) -> Verdict {
    crate::faults::before(change, path)
}

/// Ends the process as SIGKILL does: nothing is flushed, dropped or handled.
pub(crate) fn die() -> ! {
    #[cfg(all(unix, feature = "faults"))]
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGKILL);
    std::process::abort()
}
