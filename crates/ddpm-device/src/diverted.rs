//! What C libraries write to stderr by themselves.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stderr, stderr};

/// Runs `work`, and returns what was written to stderr meanwhile instead of showing it.
///
/// Some drivers write lines there that look like errors and are none, as Mesa's do without a desktop, and every time that
/// they are asked for their devices. It is the stderr of the whole process: call this before there are other threads that
/// write to it.
pub(crate) fn diverted<T>(work: impl FnOnce() -> T) -> (T, String) {
    let Ok((before, mut written)) = divert() else {
        return (work(), String::new());
    };
    let outcome = work();
    // Where this fails, stderr was closed meanwhile, and nobody reads it.
    let _ = dup2_stderr(&before);
    let mut text = Vec::new();
    // What cannot be read is not missed.
    let _ = written
        .rewind()
        .and_then(|()| written.read_to_end(&mut text));
    (outcome, String::from_utf8_lossy(&text).into_owned())
}

/// stderr as it was, and the file in memory that it is now.
fn divert() -> std::io::Result<(OwnedFd, File)> {
    let before = fcntl_dupfd_cloexec(stderr(), 3)?;
    let file = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC)?);
    dup2_stderr(&file)?;
    Ok((before, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_meanwhile_is_returned() {
        let write = |text: &[u8]| rustix::io::write(stderr(), text).map(|_| ());
        let (outcome, text) = diverted(|| write(b"error: no desktop\n"));
        assert_eq!(outcome, Ok(()));
        // Other tests of this process may have written as well.
        assert!(text.contains("error: no desktop"), "{text}");
        let ((), text) = diverted(|| {
            let ((), inner) = diverted(|| write(b"inner\n").unwrap());
            assert!(inner.contains("inner"));
            write(b"outer\n").unwrap();
        });
        assert!(text.contains("outer") && !text.contains("inner"), "{text}");
    }
}
