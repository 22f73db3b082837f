//! What is said when the program itself is wrong: one sentence, as for every other error.

use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

/// Where the last panic was and what it said.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Lets panics be kept for [`found`] instead of printed where they happen: a damaged image can make a decoder panic,
/// which is caught and is no more than a bad image. With `RUST_BACKTRACE` set they are printed as ever, too.
pub fn keep_quiet() {
    let loud = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(described(info));
        if loud {
            usual(info);
        }
    }));
}

fn described(info: &PanicHookInfo) -> String {
    let place = info.location().map_or_else(String::new, |place| {
        format!("{}:{}: ", place.file(), place.line())
    });
    format!("{place}{}", info.payload_as_str().unwrap_or("no message"))
}

/// The error that a panic which nobody caught is for the user.
pub fn found() -> anyhow::Error {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    anyhow::anyhow!(
        "ddpm has a bug: {}; please report it with the command that you gave; checkpoints that were \
         written are sound, go on with --resume",
        last.unwrap_or_else(|| "a thread ended early".to_owned())
    )
}
