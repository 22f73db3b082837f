//! Where images come from: one file a source, one `match` over the kinds.

mod arrays;
mod cifar;
mod digits;
mod folder;
mod idx;
mod npy;
mod npy_header;
mod synthetic;
mod zip_images;

use std::path::PathBuf;

use crate::classes::Classes;
use crate::config::{DataConfig, DataKind};
use crate::error::{DataError, Fault};
use crate::raster::Raster;

use arrays::Arrays;
use digits::Digits;
use folder::Folder;
use zip_images::ZipImages;

pub(crate) use synthetic::Synthetic;

/// An opened source and what is known of its classes.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) source: Source,
    pub(crate) classes: Classes,
}

/// A list of images, each decoded on demand and from any thread.
#[derive(Debug)]
pub(crate) enum Source {
    Digits(Digits),
    Synthetic(Synthetic),
    Folder(Folder),
    Zip(Box<ZipImages>),
    Arrays(Arrays),
}

/// Opens the source of a validated configuration and lists its images, without decoding them.
pub(crate) fn open(config: &DataConfig, seed: u64) -> Result<Listing, DataError> {
    match config.kind {
        DataKind::Digits => digits::open(),
        DataKind::Synthetic => Ok(Listing {
            source: Source::Synthetic(Synthetic::new(config, seed)),
            classes: Classes::default(),
        }),
        DataKind::Folder => folder::open(config),
        DataKind::Zip => zip_images::open(config),
        DataKind::Idx => idx::open(config),
        DataKind::Cifar10 => cifar::open(config, cifar::Form::TEN),
        DataKind::Cifar100 => cifar::open(config, cifar::Form::HUNDRED),
        DataKind::Npy => npy::open(config),
    }
}

impl Source {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Digits(digits) => digits.len(),
            Self::Synthetic(synthetic) => synthetic.len(),
            Self::Folder(folder) => folder.len(),
            Self::Zip(archive) => archive.len(),
            Self::Arrays(arrays) => arrays.len(),
        }
    }

    /// What to call image `index` in a message.
    pub(crate) fn path_of(&self, index: usize) -> PathBuf {
        match self {
            Self::Digits(_) => PathBuf::from(format!("digits[{index}]")),
            Self::Synthetic(_) => PathBuf::from(format!("synthetic[{index}]")),
            Self::Folder(folder) => folder.path_of(index),
            Self::Zip(archive) => archive.path_of(index),
            Self::Arrays(arrays) => arrays.path_of(index),
        }
    }

    /// Image `index` as the source has it. Synthetic images are not rasters: their pixels leave [-1, 1].
    pub(crate) fn decode(&self, index: usize) -> Result<Raster, Fault> {
        match self {
            Self::Digits(digits) => Ok(digits.decode(index)),
            Self::Synthetic(_) => Err(Fault::Bad("is made, not decoded".into())),
            Self::Folder(folder) => folder.decode(index),
            Self::Zip(archive) => archive.decode(index),
            Self::Arrays(arrays) => arrays.decode(index),
        }
    }
}
