//! What a person at a terminal sees: the progress line and pictures in coloured half blocks.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;

pub use picture::{Colours, Picture};
pub use progress::{Progress, Update, rounded};

mod picture;
mod progress;

/// Columns where the terminal does not say how many it has.
const DEFAULT_COLUMNS: usize = 80;

/// All that is drawn live on stderr; whatever else is written there goes above it.
static LIVE: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Runs `write` with the live progress line lifted, so that what it writes to the terminal
/// stands above that line.
pub fn above_progress<R>(write: impl FnOnce() -> R) -> R {
    LIVE.suspend(write)
}

/// Shows lines, such as a picture's, on stderr, above the live progress line; an empty text
/// shows nothing. That stderr is gone is no error.
pub fn show(text: &str) {
    if !text.is_empty() {
        above_progress(|| {
            let _ = io::stderr().write_all(text.as_bytes());
        });
    }
}

/// Whether `NO_COLOR` forbids colours (<https://no-color.org>: set and not empty).
pub fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The colours that pictures on stderr may have; `None` where there should be no picture.
pub fn colours() -> Option<Colours> {
    let variable = |name| std::env::var(name).ok();
    Colours::of(
        io::stderr().is_terminal() && !no_colour(),
        variable("TERM").as_deref(),
        variable("COLORTERM").as_deref(),
    )
}

/// The width of the terminal behind stderr, in characters.
pub fn columns() -> usize {
    terminal_size::terminal_size_of(io::stderr())
        .map_or(DEFAULT_COLUMNS, |(width, _)| usize::from(width.0))
        .max(1)
}
