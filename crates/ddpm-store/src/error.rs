//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong between memory and disk; every variant names the path it is about.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done: "write", "rename", …
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// Something that must be there is not.
    #[error("{}: {what} not found; {hint}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for.
        what: String,
        /// What to do next.
        hint: String,
    },
    /// The bytes are not what their format demands.
    #[error("{}: not valid {format}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format: "safetensors", "JSON", …
        format: &'static str,
        /// The first rule that is broken.
        problem: String,
    },
    /// One tensor of a file is unusable.
    #[error("{}: tensor `{name}`: {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Expected and got.
        problem: String,
    },
    /// A key of a foreign configuration has a value that has no meaning here.
    #[error("{}: `{key}` is {value}, which is not supported; use {supported}", path.display())]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value found, as JSON.
        value: String,
        /// What is supported.
        supported: &'static str,
    },
    /// A checkpoint is torn, altered or mixed.
    #[error("{}: {problem}{}", path.display(), instead.advice())]
    Checkpoint {
        /// The checkpoint's directory.
        path: PathBuf,
        /// Which file, and what is wrong with it.
        problem: String,
        /// What can be used in its place.
        instead: Instead,
    },
    /// A checkpoint of a later version of this program.
    #[error(
        "{}: written with checkpoint schema {found}, and this program reads {supported}; use a newer version of it",
        path.display()
    )]
    Schema {
        /// The manifest.
        path: PathBuf,
        /// The schema found.
        found: u64,
        /// The schema this version reads.
        supported: u64,
    },
    /// A new run would overwrite something.
    #[error("{}: {what}; continue it with --resume or choose another directory", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        what: &'static str,
    },
    /// Another process writes to this run.
    #[error("{}: another process is writing to this run; wait for it or stop it first", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A picture cannot be made of what was given.
    #[error("cannot draw: {problem}")]
    Image {
        /// Shapes or limits: expected and got.
        problem: String,
    },
}

/// The result of everything here.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What there is in place of a damaged checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Nobody has looked: whoever reports the damage goes on by itself.
    Unsought,
    /// The checkpoint of this step, beside it: the newest before it that verifies, or else the newest after it.
    Step(u64),
    /// No checkpoint beside it verifies.
    Nothing,
}

impl Instead {
    /// What to do next, as the end of a sentence.
    fn advice(self) -> String {
        match self {
            Self::Unsought => String::new(),
            Self::Step(step) => {
                format!(
                    "; step-{step} beside it is sound: name that one, or resume with --from {step}"
                )
            }
            Self::Nothing => {
                "; there is no sound checkpoint beside it, so train anew or restore it from a copy"
                    .to_owned()
            }
        }
    }
}

impl StoreError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    pub(crate) fn format(path: &Path, format: &'static str, problem: impl ToString) -> Self {
        Self::Format {
            path: path.to_owned(),
            format,
            problem: excerpt(&problem.to_string()),
        }
    }

    pub(crate) fn tensor(path: &Path, name: &str, problem: impl ToString) -> Self {
        Self::Tensor {
            path: path.to_owned(),
            name: excerpt(name),
            problem: excerpt(&problem.to_string()),
        }
    }
}

/// What a file says, short enough for a message and without line breaks and the like: a name or value in a crafted
/// file may have megabytes of them.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 400;
    let mut shown = String::new();
    for letter in text.chars().take(MAX_CHARS) {
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        shown += &format!("… ({} bytes in all)", text.len());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_cut_between_characters() {
        assert_eq!(excerpt("short\n\u{1b}"), "short\\n\\u{1b}");
        assert_eq!(excerpt(&"é".repeat(400)), "é".repeat(400));
        let long = excerpt(&"é".repeat(1 << 20));
        assert!(
            long.len() < 1000 && long.ends_with("(2097152 bytes in all)"),
            "{long}"
        );
    }
}
