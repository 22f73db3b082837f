use std::io;
use std::path::{Path, PathBuf};

use crate::kinds::PassedOver;
use crate::words::some;

/// What can go wrong between a `[data]` table and a batch.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A key of the configuration has a value that cannot be, or does not apply to the kind of source.
    #[error("{}{key}: {reason}", if key.contains('.') { "" } else { "data." })]
    Config {
        /// The key: below `[data]`, or with its table in front if it is of another.
        key: &'static str,
        /// What is wrong and what to set.
        reason: String,
    },
    /// The operating system refused to open, list or read something.
    #[error("cannot read {}: {source}; check data.path and its permissions", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no image at all.
    #[error(
        "{}: no images found{}; PNG, JPEG, WebP, GIF, BMP and TIFF files are looked for, in all folders below",
        path.display(), but_for(passed_over)
    )]
    Empty {
        /// The folder or archive that was searched.
        path: PathBuf,
        /// What is there instead.
        passed_over: PassedOver,
    },
    /// What lies at a path is known, and is no set of images that can be read, or can be read in more than one way.
    #[error("{}: {what}; {remedy}", path.display())]
    Unread {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do with it.
        remedy: String,
    },
    /// A file that says what the images beside it are does not say it.
    #[error("{}: {reason}; repair it, or remove it to do without", path.display())]
    Metadata {
        /// The file, or entry of an archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A column of numbers that the network is to be told cannot be had.
    #[error("condition.columns: `{name}`: {problem}")]
    Column {
        /// Its heading.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Every image was bad and `on_bad = "skip"` skipped them all.
    #[error("{}: {}, the first ({}) because it {reason}; repair or replace them", path.display(), all_bad(*count), first.display())]
    AllBad {
        /// The source.
        path: PathBuf,
        /// How many images were skipped.
        count: usize,
        /// The first of them.
        first: PathBuf,
        /// Why the first was skipped.
        reason: String,
    },
    /// One image cannot be decoded or does not hold what it says.
    #[error("{}: {reason}; repair or remove it, or set data.on_bad = \"skip\"", path.display())]
    Image {
        /// The image: a file, an entry of an archive (`a.zip/b.png`) or an element of an array file (`a.npy[3]`).
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One image by itself cannot be used.
    #[error("{}: {reason}; give another picture", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An array of plain numbers cannot be had from a file.
    #[error("{}: {reason}; give another file", path.display())]
    Numbers {
        /// The file, or its array (`a.npz/sigma.npy`).
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is not in the format that the kind of source asks for, or contradicts itself.
    #[error("{}: expected {expected}, got {got}; check data.kind and data.path", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the format asks for.
        expected: String,
        /// What is there.
        got: String,
    },
    /// Something is larger than a limit of the configuration allows.
    #[error("{}: {what} {got} is over the limit {limit}; raise data.{key} if you trust it", path.display())]
    Limit {
        /// The file or image.
        path: PathBuf,
        /// What was measured, with its unit.
        what: &'static str,
        /// Its size.
        got: u64,
        /// The limit.
        limit: u64,
        /// The key below `[data]` that sets the limit.
        key: &'static str,
    },
    /// An image's shape differs from the first image's.
    #[error(
        "{}: is {} and the first image is {}; {} to make all alike",
        path.display(), of_shape(*got), of_shape(*expected), alike(*expected, *got)
    )]
    Shape {
        /// The first image that differs.
        path: PathBuf,
        /// `[channels, height, width]` of the first good image.
        expected: [usize; 3],
        /// `[channels, height, width]` of this one.
        got: [usize; 3],
        /// The key that removes the difference: `size` or `channels`.
        key: &'static str,
    },
    /// An image number outside the set.
    #[error("image {index} was asked for but the set holds {len}; ask for an index below {len}")]
    Index {
        /// The number asked for.
        index: usize,
        /// The number of images.
        len: usize,
    },
    /// The loader ended earlier: its error was delivered before, or one of its threads died.
    #[error("the loader has stopped: {reason}; make a new one from the last good item")]
    Stopped {
        /// Why it stopped.
        reason: String,
    },
}

impl DataError {
    pub(crate) fn config(key: &'static str, reason: impl Into<String>) -> Self {
        Self::Config {
            key,
            reason: reason.into(),
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    pub(crate) fn format(path: &Path, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_path_buf(),
            expected: expected.into(),
            got: excerpt(&got.into()),
        }
    }
}

fn of_shape([channels, height, width]: [usize; 3]) -> String {
    format!("{height}×{width} pixels of {}", some(channels, "channel"))
}

/// The keys to set for two shapes, with values that suit both.
fn alike(a: [usize; 3], b: [usize; 3]) -> String {
    let mut keys = Vec::new();
    if a[1..] != b[1..] {
        // small enough to train on, and nothing is enlarged
        let shortest = a[1..].iter().chain(&b[1..]).min().copied().unwrap_or(1);
        let side = [64, 32, 16, 8].into_iter().find(|&side| side <= shortest);
        keys.push(format!("data.size = {}", side.unwrap_or(shortest)));
    }
    if a[0] != b[0] {
        let most = a[0].max(b[0]);
        keys.push(match (a[0].min(b[0]), most) {
            (1, 2) => "data.channels = 1 (2 keeps alpha)".to_owned(),
            (1, 3) => "data.channels = 3 (1 makes all grey)".to_owned(),
            _ => "data.channels = 3 (4 keeps alpha)".to_owned(),
        });
    }
    format!("set {}", keys.join(" and "))
}

fn all_bad(count: usize) -> String {
    match count {
        1 => "its only image is bad".to_owned(),
        count => format!("all {count} images are bad"),
    }
}

/// What a search without images did find.
fn but_for(passed_over: &PassedOver) -> String {
    let found = [
        passed_over.describe_unread(),
        passed_over
            .describe_hidden()
            .map(|hidden| format!("{hidden} skipped")),
    ];
    let found: Vec<String> = found.into_iter().flatten().collect();
    match found.as_slice() {
        [] => String::new(),
        found => format!(", but {}", found.join(", and ")),
    }
}

/// What a file says, short enough for a message and without line breaks and the like: a name in a crafted archive may
/// have kilobytes of them, and there may be millions of names.
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

/// An image that `on_bad = "skip"` took out of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The image, as in [`DataError::Image`].
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What is wrong with one image, before its path is known: the part of the errors that `on_bad` decides on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Bad(String),
    /// Sound, but of a kind that is not read.
    #[error("{0}")]
    Unread(String),
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("{what} {got} is over data.{key} = {limit}")]
    Limit {
        what: &'static str,
        got: u64,
        limit: u64,
        key: &'static str,
    },
}

impl Fault {
    pub(crate) fn at(self, path: PathBuf) -> DataError {
        match self {
            Self::Bad(reason) => DataError::Image { path, reason },
            Self::Unread(what) => DataError::Unread {
                path,
                what,
                remedy: "convert it to an 8-bit RGB or RGBA PNG, or set data.on_bad = \"skip\""
                    .into(),
            },
            Self::Io(source) => DataError::Io { path, source },
            Self::Limit {
                what,
                got,
                limit,
                key,
            } => DataError::Limit {
                path,
                what,
                got,
                limit,
                key,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_differ_say_what_to_set() {
        for (expected, got, advice) in [
            (
                [3, 400, 300],
                [3, 200, 900],
                "set data.size = 64 to make all alike",
            ),
            ([3, 400, 300], [3, 50, 900], "set data.size = 32 to"),
            ([3, 4, 4], [3, 4, 5], "set data.size = 4 to"),
            (
                [3, 9, 9],
                [1, 9, 9],
                "set data.channels = 3 (1 makes all grey) to",
            ),
            (
                [3, 9, 9],
                [4, 9, 9],
                "set data.channels = 3 (4 keeps alpha) to",
            ),
            (
                [2, 9, 9],
                [1, 9, 9],
                "set data.channels = 1 (2 keeps alpha) to",
            ),
            (
                [1, 70, 70],
                [4, 80, 80],
                "set data.size = 64 and data.channels = 3 (4 keeps alpha) to",
            ),
        ] {
            let error = DataError::Shape {
                path: "a.png".into(),
                expected,
                got,
                key: "size",
            };
            assert!(error.to_string().contains(advice), "{error}");
        }
        let error = DataError::Shape {
            path: "a.png".into(),
            expected: [3, 4, 6],
            got: [1, 4, 6],
            key: "channels",
        };
        assert_eq!(
            error.to_string(),
            "a.png: is 4×6 pixels of 1 channel and the first image is 4×6 pixels of 3 channels; \
             set data.channels = 3 (1 makes all grey) to make all alike"
        );
    }
}
