//! The types of single keys.

use serde::{Deserialize, Serialize};

/// The kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// 1797 handwritten digits, 1×8×8, ten classes, inside the program.
    Digits,
    /// Images of independent standard normal pixels, functions of (seed, index): a set whose best possible
    /// ε-loss is known (ᾱ_t at step t). Not clamped to [-1, 1], as in the tutorial it comes from.
    Synthetic,
    /// A folder of images, searched in depth, in the order of their paths. The first folder level is the class,
    /// if every image lies in one. One top folder that holds everything is left out of account. Folders `train` and
    /// `test` (or `val`) at the top are splits, with classes below. StyleGAN's `dataset.json` and Hugging Face's
    /// `metadata.jsonl` or `metadata.csv` (columns `file_name` and `label` or alike) say the classes where they lie,
    /// instead of folders; what is broken in them is an error. Hidden and system files and folders are skipped.
    Folder,
    /// A zip archive, read like a folder.
    Zip,
    /// MNIST's format, packed with gzip or not: a file of images, or a directory with MNIST's names.
    Idx,
    /// CIFAR-10's binary form: its directory, or one file.
    Cifar10,
    /// CIFAR-100's binary form: its directory, or one file. The class is the fine label.
    Cifar100,
    /// A NumPy array of `uint8`, `uint16`, `float16`, `float32`, `float64` or `bool`, in a `.npy` file or in an
    /// `.npz` archive under `{split}_images`, `x_{split}`, `images`, `x`, `data` or `arr_0`.
    ///
    /// `[n, h, w]` is grey images, `[n, h, w, c]` and `[n, c, h, w]` have c = 1 to 4 channels. What can be read in
    /// two ways is refused: `[h, w, c]` and `[c, h, w]` with a c of 1 to 4 (the latter of 2 to 4), which may be one
    /// image, and four axes whose second and last are both 1 to 4. Labels that an `.npz` archive has are skipped
    /// with a warning if they are not numbers or one-hot rows, one an image; those of `labels` are then an error.
    Npy,
}

impl DataKind {
    /// The name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Synthetic => "synthetic",
            Self::Folder => "folder",
            Self::Zip => "zip",
            Self::Idx => "idx",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Npy => "npy",
        }
    }
}

/// How an image is brought to another size. Resampling is Lanczos with three lobes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Cut the middle to the aspect ratio asked for and resize it: the short side fits, nothing is distorted.
    #[default]
    Crop,
    /// Resize until the long side fits and fill the rest with the background.
    Pad,
    /// Resize each side by itself, whatever that does to the aspect ratio.
    Stretch,
}

/// What to do with an image that cannot be read, decoded or trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// Stop with its path.
    #[default]
    Error,
    /// Leave it out, keep the order of the others, and list it in [`crate::Dataset::skipped`].
    Skip,
}

/// Which part of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The training part.
    #[default]
    Train,
    /// The test part.
    Test,
    /// The training part, then the validation part, if it is one of its own, then the test part.
    All,
}

/// Height and width in pixels; in a configuration one number for a square, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawSize", into = "RawSize")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// A square.
    #[must_use]
    pub fn square(side: usize) -> Self {
        Self {
            height: side,
            width: side,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a size: one number of pixels, or [height, width]"
)]
enum RawSize {
    Square(usize),
    Sides([usize; 2]),
}

impl From<RawSize> for Size {
    fn from(raw: RawSize) -> Self {
        match raw {
            RawSize::Square(side) => Self::square(side),
            RawSize::Sides([height, width]) => Self { height, width },
        }
    }
}

impl From<Size> for RawSize {
    fn from(size: Size) -> Self {
        if size.height == size.width {
            Self::Square(size.height)
        } else {
            Self::Sides([size.height, size.width])
        }
    }
}

/// A colour; in a configuration `"#rrggbb"` or `[r, g, b]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawRgb", into = "RawRgb")]
pub struct Rgb(
    /// Red, green and blue, 0..255.
    pub [u8; 3],
);

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a colour: \"#rrggbb\" or [red, green, blue]")]
enum RawRgb {
    Hex(String),
    Parts([u8; 3]),
}

impl TryFrom<RawRgb> for Rgb {
    type Error = String;

    fn try_from(raw: RawRgb) -> Result<Self, String> {
        match raw {
            RawRgb::Parts(parts) => Ok(Self(parts)),
            RawRgb::Hex(text) => parse_hex(&text)
                .ok_or_else(|| format!("`{text}` is not a colour; write \"#rrggbb\" or [r, g, b]")),
        }
    }
}

impl From<Rgb> for RawRgb {
    fn from(Rgb([red, green, blue]): Rgb) -> Self {
        Self::Hex(format!("#{red:02x}{green:02x}{blue:02x}"))
    }
}

fn parse_hex(text: &str) -> Option<Rgb> {
    let digits = text.strip_prefix('#')?;
    if digits.len() != 6 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(Rgb([red, green, blue]))
}
