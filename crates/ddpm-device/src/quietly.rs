//! Work that may panic or hang, without the noise.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a driver may take to say what it has. GPUs that were asleep take seconds.
pub(crate) const DRIVERS_S: u64 = 60;

/// Runs `work` and turns a panic into its message, printing nothing of it.
///
/// The drivers behind burn panic where they find no library or cannot compile a kernel, on
/// threads of their own as well, so the hook is silent for the whole process meanwhile: call this
/// before there are other threads.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    silently(|| caught(work))
}

/// The same on a thread of its own, which is left to itself when it takes longer than `limit_s`.
pub(crate) fn in_time<T: Send + 'static>(
    limit_s: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    silently(|| {
        let (answer, answered) = mpsc::channel();
        let asking = thread::Builder::new().name("driver".to_owned());
        asking
            .spawn(move || {
                // Nobody waits any more where this fails.
                let _ = answer.send(caught(work));
            })
            .map_err(|error| format!("no thread to ask its driver on: {error}"))?;
        answered
            .recv_timeout(Duration::from_secs(limit_s))
            .unwrap_or_else(|_| Err(format!("its driver has not answered for {limit_s} s")))
    })
}

/// Runs `work` while no panic prints anything.
fn silently<T>(work: impl FnOnce() -> T) -> T {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = work();
    panic::set_hook(hook);
    outcome
}

/// The message of a panic as the error.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        one_line(message.unwrap_or("its driver failed without saying why"))
    })
}

/// `text` with every run of white space, line breaks included, as one space.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(quietly(|| 3), Ok(3));
        assert_eq!(
            quietly(|| -> u8 { panic!("no libcuda:\n  not found") }),
            Err("no libcuda: not found".to_owned())
        );
    }

    #[test]
    fn what_hangs_is_left_behind() {
        assert_eq!(in_time(60, || 3), Ok(3));
        assert_eq!(
            in_time(60, || -> u8 { panic!("no libcuda") }),
            Err("no libcuda".to_owned())
        );
        assert_eq!(
            in_time(0, || thread::sleep(Duration::from_secs(5))),
            Err("its driver has not answered for 0 s".to_owned())
        );
    }
}
