//! Work that may panic, without the noise.

use std::panic::{self, AssertUnwindSafe};

/// Runs `work` and turns a panic into its message, printing nothing of it.
///
/// The drivers behind burn panic where they find no library or cannot compile a kernel, on
/// threads of their own as well, so the hook is silent for the whole process meanwhile: call this
/// before there are other threads.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    outcome.map_err(|payload| {
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
}
