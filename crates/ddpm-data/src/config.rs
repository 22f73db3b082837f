mod range;
mod values;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::raster::has_alpha;

pub use range::FloatRange;
pub use values::{DataKind, Fit, OnBad, Rgb, Size, Split};

/// Largest number of pixels (width × height) an image may claim: 2²⁶, about 8192 × 8192.
pub const DEFAULT_MAX_IMAGE_PIXELS: u64 = 1 << 26;
/// Largest image file, or unpacked image in a zip, in bytes: 256 MiB.
pub const DEFAULT_MAX_FILE_BYTES: u64 = 256 << 20;
/// How many times larger than its compressed form a zip entry or gzip file may be. Deflate can reach 1032;
/// photographs reach 1.1, MNIST 5.
pub const DEFAULT_MAX_EXPANSION: u64 = 200;
/// A decoded set of at most this many bytes is kept in memory: 2 GiB.
pub const DEFAULT_CACHE_BYTES: u64 = 2 << 30;
/// Files below a folder, or in a zip archive, at most: 2²¹, half as many again as ImageNet has.
pub const DEFAULT_MAX_FILES: u64 = 1 << 21;
/// Images in the synthetic set when `count` is not given.
pub const DEFAULT_SYNTHETIC_COUNT: usize = 1000;
/// Height and width of synthetic images when `size` is not given.
pub const DEFAULT_SYNTHETIC_SIZE: usize = 64;
/// Channels of synthetic images when `channels` is not given.
pub const DEFAULT_SYNTHETIC_CHANNELS: usize = 3;
/// Most channels an image can have (RGBA).
pub const MAX_CHANNELS: usize = 4;

/// The `[data]` table: where images come from and how they are made alike.
///
/// Keys that do not apply to the kind are refused by [`DataConfig::validate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// What kind of source it is.
    pub kind: DataKind,
    /// The folder, archive or file; all kinds but `digits` and `synthetic` need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Label file of an `idx` or `.npy` image file. Without it, `idx` looks beside the images for MNIST's naming
    /// (`…images-idx3…` → `…labels-idx1…`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Height and width that every image is fitted to: `32` or `[height, width]`. Without it, the native size,
    /// which must then be the same for all images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. Without it, what the source has, which must then be the same for
    /// all images (GIF always counts as RGBA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Whether training mirrors each image left to right with probability one half.
    pub flip: bool,
    /// Colour that transparent images are laid on and that `fit = "pad"` fills with: `"#rrggbb"` or `[r, g, b]`.
    ///
    /// The rule for alpha: with `background`, alpha is laid on it and dropped. Without it, alpha is kept where
    /// `channels` is 2 or 4, or is not given; where `channels` is 1 or 3 it is laid on black. Padding without a
    /// background is black, and transparent where alpha is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Rgb>,
    /// How an image that does not have the size asked for is made to.
    pub fit: Fit,
    /// What to do with an image that cannot be used.
    pub on_bad: OnBad,
    /// How many images `synthetic` makes; 1000 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Which part of a set that comes in parts: `idx` and CIFAR directories, `.npz`, and folders and archives of images
    /// with a folder `train` beside `test` or `val` (`valid`, `validation`), which is the test part where there is no
    /// `test`. `train` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// What the floats or `uint16` numbers of an `npy` source span.
    pub range: FloatRange,
    /// Whether `idx` and `npy` exchange the rows and columns of each image as it is stored: EMNIST's lie on their
    /// side and are mirrored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub transpose: bool,
    /// Largest width × height that an image may claim.
    pub max_image_pixels: u64,
    /// Largest image file, or unpacked image in a zip, in bytes.
    pub max_file_bytes: u64,
    /// Largest unpacked size as a multiple of the compressed size, for zip entries and gzip files over 1 MiB.
    pub max_expansion: u64,
    /// Most files and folders below a folder, or files in a zip archive.
    pub max_files: u64,
    /// A decoded set of at most this many bytes is kept in memory; a larger one is decoded again each time.
    pub cache_bytes: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            kind: DataKind::Digits,
            path: None,
            labels: None,
            size: None,
            channels: None,
            flip: false,
            background: None,
            fit: Fit::Crop,
            on_bad: OnBad::Error,
            count: None,
            split: None,
            range: FloatRange::Auto,
            transpose: false,
            max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
            max_file_bytes: DEFAULT_MAX_FILE_BYTES,
            max_expansion: DEFAULT_MAX_EXPANSION,
            max_files: DEFAULT_MAX_FILES,
            cache_bytes: DEFAULT_CACHE_BYTES,
        }
    }
}

impl DataConfig {
    /// Refuses keys that contradict each other or do not apply to the kind. Touches no file.
    ///
    /// # Errors   [`DataError::Config`] naming the key
    pub fn validate(&self) -> Result<(), DataError> {
        self.check_source_keys()?;
        self.check_shape_keys()?;
        self.check_limits()
    }

    /// The path, for kinds that [`DataConfig::validate`] has seen to have one.
    pub(crate) fn required_path(&self) -> Result<&Path, DataError> {
        self.path.as_deref().ok_or_else(|| {
            DataError::config(
                "path",
                format!("missing; kind = \"{}\" needs it", self.kind.name()),
            )
        })
    }

    fn check_source_keys(&self) -> Result<(), DataError> {
        let takes = Keys::of(self.kind);
        let refuse = |key: &'static str| {
            let kind = self.kind.name();
            Err(DataError::config(
                key,
                format!("does not apply to kind = \"{kind}\"; remove it"),
            ))
        };
        if takes.path {
            self.required_path()?;
        } else if self.path.is_some() {
            return refuse("path");
        }
        if self.labels.is_some() && !takes.labels {
            return refuse("labels");
        }
        if self.split.is_some() && !takes.split {
            return refuse("split");
        }
        if self.count.is_some() && !takes.count {
            return refuse("count");
        }
        if self.range != FloatRange::Auto && !takes.range {
            return refuse("range");
        }
        if self.transpose && !takes.transpose {
            return refuse("transpose");
        }
        if self.fit != Fit::Crop && !takes.fit {
            return refuse("fit");
        }
        if self.background.is_some() && !takes.background {
            return refuse("background");
        }
        if self.count == Some(0) {
            return Err(DataError::config("count", "is 0; ask for at least 1 image"));
        }
        Ok(())
    }

    fn check_shape_keys(&self) -> Result<(), DataError> {
        if let Some(channels) = self.channels {
            if !(1..=MAX_CHANNELS).contains(&channels) {
                return Err(DataError::config(
                    "channels",
                    format!("is {channels}; set 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)"),
                ));
            }
            if self.background.is_some() && has_alpha(channels) {
                return Err(DataError::config(
                    "background",
                    format!(
                        "removes the alpha that channels = {channels} keeps; remove it or set channels = {}",
                        channels - 1
                    ),
                ));
            }
        }
        match self.size {
            Some(Size { height, width }) => {
                if height == 0 || width == 0 {
                    return Err(DataError::config(
                        "size",
                        "has a 0; both sides need a pixel",
                    ));
                }
                let pixels = (height as u64).saturating_mul(width as u64);
                if pixels > self.max_image_pixels {
                    return Err(DataError::config(
                        "size",
                        format!(
                            "is {pixels} pixels, over max_image_pixels = {}; make it smaller",
                            self.max_image_pixels
                        ),
                    ));
                }
                Ok(())
            }
            None if self.fit != Fit::Crop => Err(DataError::config(
                "fit",
                "needs data.size; set the size to fit to",
            )),
            None => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), DataError> {
        for (key, value) in [
            ("max_image_pixels", self.max_image_pixels),
            ("max_file_bytes", self.max_file_bytes),
            ("max_expansion", self.max_expansion),
            ("max_files", self.max_files),
        ] {
            if value == 0 {
                return Err(DataError::config(
                    key,
                    "is 0, which nothing passes; set a limit",
                ));
            }
        }
        Ok(())
    }
}

impl DataKind {
    /// Whether a source of this kind has a use for a key below `[data]`.
    #[must_use]
    pub fn takes(self, key: &str) -> bool {
        let takes = Keys::of(self);
        match key {
            "path" => takes.path,
            "labels" => takes.labels,
            "split" => takes.split,
            "count" => takes.count,
            "range" => takes.range,
            "transpose" => takes.transpose,
            "fit" => takes.fit,
            "background" => takes.background,
            _ => true,
        }
    }
}

/// Which keys a kind of source takes.
struct Keys {
    path: bool,
    labels: bool,
    split: bool,
    count: bool,
    range: bool,
    transpose: bool,
    fit: bool,
    background: bool,
}

impl Keys {
    fn of(kind: DataKind) -> Self {
        let embedded = Self {
            path: false,
            labels: false,
            split: false,
            count: false,
            range: false,
            transpose: false,
            fit: true,
            background: true,
        };
        let file = Self {
            path: true,
            ..embedded
        };
        match kind {
            DataKind::Digits => embedded,
            DataKind::Synthetic => Self {
                count: true,
                fit: false,
                background: false,
                ..embedded
            },
            DataKind::Idx => Self {
                labels: true,
                split: true,
                transpose: true,
                ..file
            },
            DataKind::Folder | DataKind::Zip | DataKind::Cifar10 | DataKind::Cifar100 => Self {
                split: true,
                ..file
            },
            DataKind::Npy => Self {
                labels: true,
                split: true,
                range: true,
                transpose: true,
                ..file
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DataConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_field_has_a_default_and_survives_a_round_trip() {
        assert_eq!(parse("").unwrap(), DataConfig::default());
        let full = parse(
            "kind = 'npy'\npath = 'a.npz'\nlabels = 'b.npy'\nsize = [12, 34]\nchannels = 3\nflip = true\n\
             background = '#0a1bff'\nfit = 'pad'\non_bad = 'skip'\nsplit = 'all'\nrange = 'signed'\n\
             transpose = true\n\
             max_image_pixels = 1000\nmax_file_bytes = 5\nmax_expansion = 7\nmax_files = 9\n\
             cache_bytes = 0",
        )
        .unwrap();
        assert_eq!(full.background, Some(Rgb([10, 27, 255])));
        assert_eq!(
            full.size,
            Some(Size {
                height: 12,
                width: 34
            })
        );
        full.validate().unwrap();
        let again = parse(&toml::to_string(&full).unwrap()).unwrap();
        assert_eq!(again, full);
    }

    #[test]
    fn short_forms() {
        assert_eq!(parse("size = 32").unwrap().size, Some(Size::square(32)));
        let config = parse("background = [1, 2, 3]").unwrap();
        assert_eq!(config.background, Some(Rgb([1, 2, 3])));
    }

    #[test]
    fn wrong_types_and_unknown_keys_are_refused_with_a_hint() {
        for (text, hint) in [
            ("pth = 'x'", "unknown field `pth`"),
            (
                "size = 'big'",
                "a size: one number of pixels, or [height, width]",
            ),
            ("background = 'red'", "`red` is not a colour"),
            ("background = '#12345'", "is not a colour"),
            ("background = '#+12345'", "is not a colour"),
            ("background = [1, 2, 256]", "a colour: \"#rrggbb\""),
            ("kind = 'mnist'", "unknown variant `mnist`"),
            ("count = -1", "expected usize"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(hint), "{text}: {message}");
        }
    }

    #[test]
    fn keys_that_do_not_apply_are_refused() {
        for (text, key) in [
            ("path = 'x'", "path"),
            ("kind = 'synthetic'\npath = 'x'", "path"),
            ("kind = 'folder'", "path"),
            ("kind = 'zip'", "path"),
            ("kind = 'idx'", "path"),
            ("kind = 'cifar10'", "path"),
            ("kind = 'cifar100'", "path"),
            ("kind = 'npy'", "path"),
            ("kind = 'folder'\npath = 'x'\nlabels = 'y'", "labels"),
            ("split = 'train'", "split"),
            ("count = 5", "count"),
            ("kind = 'synthetic'\ncount = 0", "count"),
            ("range = 'unit'", "range"),
            ("transpose = true", "transpose"),
            ("kind = 'folder'\npath = 'x'\ntranspose = true", "transpose"),
            ("kind = 'synthetic'\nfit = 'pad'\nsize = 8", "fit"),
            ("fit = 'pad'", "fit"),
            ("kind = 'synthetic'\nbackground = '#000000'", "background"),
            ("channels = 0", "channels"),
            ("channels = 5", "channels"),
            ("channels = 4\nbackground = '#ffffff'", "background"),
            ("size = 0", "size"),
            ("size = [8, 0]", "size"),
            ("size = 100000", "size"),
            ("max_image_pixels = 0", "max_image_pixels"),
            ("max_file_bytes = 0", "max_file_bytes"),
            ("max_expansion = 0", "max_expansion"),
            ("max_files = 0", "max_files"),
        ] {
            let error = parse(text).unwrap().validate().unwrap_err();
            assert!(
                matches!(&error, DataError::Config { key: got, .. } if *got == key),
                "{text}: {error}"
            );
            assert!(error.to_string().starts_with(&format!("data.{key}: ")));
        }
    }

    #[test]
    fn kind_names_are_those_of_the_configuration() {
        for kind in [
            DataKind::Digits,
            DataKind::Synthetic,
            DataKind::Folder,
            DataKind::Zip,
            DataKind::Idx,
            DataKind::Cifar10,
            DataKind::Cifar100,
            DataKind::Npy,
        ] {
            let config = parse(&format!("kind = '{}'", kind.name())).unwrap();
            assert_eq!(config.kind, kind);
        }
    }
}
