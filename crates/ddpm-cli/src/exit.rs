//! How a run of `ddpm` ends: the exit codes, and one sentence for each error.

use std::error::Error;
use std::io::{self, Write};

use ddpm_data::DataError;
use ddpm_device::{ChoiceError, DeviceError};
use ddpm_diffusion::DiffusionError;
use ddpm_eval::EvalError;
use ddpm_model::ModelError;
use ddpm_store::StoreError;
use ddpm_train::{Fault, TrainError};
use ddpm_unet::PrecisionError;

use crate::machine::{MemoryError, NoRoom};

/// What the process tells its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is done, or whoever read the output has gone.
    Done,
    /// An error that no other code names.
    Other,
    /// The arguments or the configuration are at fault.
    Usage,
    /// The data set is at fault.
    Data,
    /// A checkpoint, or another file in a known format, is at fault.
    Format,
    /// Training diverged.
    Diverged,
    /// The device, or its memory, is at fault.
    Device,
    /// A signal stopped training; the run can be resumed.
    Stopped,
}

impl Exit {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::Data => 3,
            Self::Format => 4,
            Self::Diverged => 5,
            Self::Device => 6,
            // `EX_TEMPFAIL` of sysexits.h: try again later.
            Self::Stopped => 75,
        }
    }
}

/// A mistake in the arguments or in the configuration, as the sentence that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The exit code of an error: that of the first cause which has one.
pub fn code_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(code_of_cause).unwrap_or(Exit::Other)
}

/// The one place that knows which error type means which exit code.
fn code_of_cause(cause: &(dyn Error + 'static)) -> Option<Exit> {
    if cause.is::<UsageError>() || cause.is::<ChoiceError>() {
        Some(Exit::Usage)
    } else if cause.is::<DeviceError>()
        || cause.is::<MemoryError>()
        || cause.is::<NoRoom>()
        || cause.is::<PrecisionError>()
    {
        Some(Exit::Device)
    } else if let Some(error) = cause.downcast_ref::<TrainError>() {
        Some(of_fault(error.kind()))
    } else if let Some(error) = cause.downcast_ref::<ModelError>() {
        Some(of_fault(error.into()))
    } else if let Some(error) = cause.downcast_ref::<EvalError>() {
        of_evaluation(error)
    } else if let Some(error) = cause.downcast_ref::<DataError>() {
        Some(of_fault(error.into()))
    } else if let Some(error) = cause.downcast_ref::<StoreError>() {
        Some(of_fault(error.into()))
    } else if let Some(error) = cause.downcast_ref::<DiffusionError>() {
        Some(of_fault(error.into()))
    } else if is_broken_pipe(cause) {
        Some(Exit::Done)
    } else {
        None
    }
}

fn of_evaluation(error: &EvalError) -> Option<Exit> {
    match error {
        EvalError::Store(error) => Some(of_fault(error.into())),
        EvalError::Data(error) => Some(of_fault(error.into())),
        EvalError::Format { .. } => Some(Exit::Format),
        EvalError::Shape { .. } | EvalError::Few { .. } | EvalError::NotFinite { .. } => {
            Some(Exit::Data)
        }
        EvalError::Eigenvalues { .. } => Some(Exit::Other),
        EvalError::Incomparable { .. } => Some(Exit::Usage),
        EvalError::Stopped => Some(Exit::Stopped),
        EvalError::Device { .. } => Some(Exit::Device),
    }
}

fn of_fault(fault: Fault) -> Exit {
    match fault {
        Fault::Configuration => Exit::Usage,
        Fault::Data => Exit::Data,
        Fault::Format => Exit::Format,
        Fault::Diverged => Exit::Diverged,
        Fault::Device => Exit::Device,
        Fault::Other => Exit::Other,
    }
}

/// Whether the reader of our output has gone (`ddpm … | head`), which is no error.
fn is_broken_pipe(cause: &(dyn Error + 'static)) -> bool {
    cause
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes the error to stderr as one line and returns its exit code; a closed stdout is silent.
pub fn report(error: &anyhow::Error) -> Exit {
    let exit = code_of(error);
    if exit != Exit::Done {
        // With stderr gone as well there is nobody left to tell.
        let _ = writeln!(io::stderr(), "error: {}", sentence(error));
    }
    exit
}

/// The chain of causes in one line, `a: b: c`.
///
/// Many errors repeat their source in their own message; such a source is not said twice.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let message = one_line(&cause.to_string());
        if message.is_empty() || said.contains(&message) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&message);
    }
    shortened(said)
}

/// `text` with every run of white space, line breaks included, as one space, and without characters that
/// steer a terminal: a name in a crafted file may hold some.
pub fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    visible(&text)
}

/// Control characters as their escapes; line breaks too.
pub fn visible(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|letter| match letter.is_control() {
            true => letter.escape_default().to_string(),
            false => letter.to_string(),
        })
        .collect()
}

/// The start and the end of what is too long to be read, which only a crafted file or argument makes.
fn shortened(text: String) -> String {
    const MOST: usize = 4000;
    const EACH: usize = 1000;
    let letters = text.chars().count();
    if letters <= MOST {
        return text;
    }
    let start: String = text.chars().take(EACH).collect();
    let end: String = text.chars().skip(letters - EACH).collect();
    format!("{start} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[derive(Debug, thiserror::Error)]
    #[error("{path}: cannot be opened: {source}")]
    struct Opening {
        path: &'static str,
        source: io::Error,
    }

    #[test]
    fn codes_are_those_of_the_manual() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Other, 1),
            (Exit::Usage, 2),
            (Exit::Data, 3),
            (Exit::Format, 4),
            (Exit::Diverged, 5),
            (Exit::Device, 6),
            (Exit::Stopped, 75),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn the_first_cause_with_a_code_decides() {
        let usage = || anyhow::Error::from(UsageError("no such key".into()));
        let broken = || anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let device = DeviceError::NoneCompiled;
        let cases = [
            (usage(), Exit::Usage),
            (
                usage().context("reading a.toml").context("training"),
                Exit::Usage,
            ),
            (
                anyhow::Error::from(device).context("training"),
                Exit::Device,
            ),
            (broken(), Exit::Done),
            (broken().context("printing the table"), Exit::Done),
            (io::Error::from(io::ErrorKind::NotFound).into(), Exit::Other),
            (anyhow::anyhow!("something else"), Exit::Other),
        ];
        for (error, exit) in cases {
            assert_eq!(code_of(&error), exit, "{error:#}");
        }
    }

    #[test]
    fn what_a_file_says_steers_no_terminal_and_fills_none() {
        assert_eq!(one_line("a\x1b[2J\tb\n"), "a\\u{1b}[2J b");
        let long = sentence(&anyhow::anyhow!("start {} end", "x".repeat(1 << 20)));
        assert!(long.len() < 3000, "{}", long.len());
        assert!(long.starts_with("start ") && long.ends_with(" end"));
    }

    #[test]
    fn a_chain_is_one_sentence_without_repeats() {
        let opening = Opening {
            path: "a.png",
            source: io::Error::other("truncated\n  file"),
        };
        let error = Err::<(), _>(opening)
            .context("reading the data")
            .unwrap_err();
        assert_eq!(
            sentence(&error),
            "reading the data: a.png: cannot be opened: truncated file"
        );
        let error = anyhow::anyhow!("inner").context("middle").context("outer");
        assert_eq!(sentence(&error), "outer: middle: inner");
    }
}
