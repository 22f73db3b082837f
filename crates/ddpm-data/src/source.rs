//! Where images come from: one file a source, one `match` over the kinds.

mod arrange;
mod arrays;
mod cifar;
mod digits;
mod folder;
mod idx;
mod metadata;
mod npy;
mod npy_header;
mod synthetic;
mod walk;
mod zip_images;

use std::path::{Path, PathBuf};

use crate::classes::Classes;
use crate::columns::Columns;
use crate::config::{DataConfig, DataKind};
use crate::detect::explain;
use crate::error::{DataError, Fault};
use crate::kinds::PassedOver;
use crate::raster::Raster;

use arrays::Arrays;
use digits::Digits;
use folder::Folder;
use zip_images::ZipImages;

pub(crate) use cifar::{detect_file as cifar_file, detect_in as cifar_in};
pub(crate) use folder::read_file;
pub(crate) use idx::{detect_in as idx_in, is_idx, is_other_idx, is_transposed, unpacked_head};
pub(crate) use npy::read_numbers;
pub(crate) use synthetic::Synthetic;

/// An opened source and what is known of its classes.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) source: Source,
    pub(crate) classes: Classes,
    pub(crate) columns: Columns,
}

/// What a search for images found beside them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    pub(crate) passed_over: PassedOver,
    /// What a person should know of how splits and classes were read.
    pub(crate) notes: Vec<String>,
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
    let opened = match config.kind {
        DataKind::Digits => digits::open(),
        DataKind::Synthetic => Ok(Listing {
            columns: Columns::default(),
            source: Source::Synthetic(Synthetic::new(config, seed)),
            classes: Classes::default(),
        }),
        DataKind::Folder => folder::open(config),
        DataKind::Zip => zip_images::open(config),
        DataKind::Idx => idx::open(config),
        DataKind::Cifar10 => cifar::open(config, cifar::Form::TEN),
        DataKind::Cifar100 => cifar::open(config, cifar::Form::HUNDRED),
        DataKind::Npy => npy::open(config),
    };
    opened.map_err(|error| explain(config, error))
}

/// Whether the first file of an IDX source has a name of EMNIST's.
pub(crate) fn is_emnist(source: &Source) -> bool {
    let path = source.path_of(0);
    let name = path.file_name().unwrap_or_default();
    is_transposed(&name.to_string_lossy())
}

/// Whether a folder has images below it: none if so, else what is there instead.
pub(crate) fn has_images(path: &Path, max_files: u64) -> Result<Option<PassedOver>, DataError> {
    let walk = walk::Walk::through(path, max_files, true)?;
    Ok(walk.images.is_empty().then_some(walk.passed_over))
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

    /// What was found beside the images of a folder or an archive.
    pub(crate) fn beside(&self) -> Beside {
        match self {
            Self::Folder(folder) => folder.beside().clone(),
            Self::Zip(archive) => archive.beside().clone(),
            Self::Digits(_) | Self::Synthetic(_) | Self::Arrays(_) => Beside::default(),
        }
    }

    /// `[channels, height, width]` of all images, of a source whose images are alike by their nature.
    pub(crate) fn shape(&self) -> Option<[usize; 3]> {
        match self {
            Self::Digits(_) => Some(Digits::SHAPE),
            Self::Synthetic(synthetic) => Some(synthetic.shape()),
            Self::Arrays(arrays) => Some([arrays.channels, arrays.height, arrays.width]),
            Self::Folder(_) | Self::Zip(_) => None,
        }
    }

    /// The first bytes of the file of image `index`; none of a source without files of images.
    pub(crate) fn head(&self, index: usize, count: usize) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Folder(folder) => folder.head(index, count),
            Self::Zip(archive) => Ok(archive.head(index, count)),
            Self::Digits(_) | Self::Synthetic(_) | Self::Arrays(_) => Ok(Vec::new()),
        }
    }

    /// The file of image `index`; nothing of a source without files of images.
    pub(crate) fn bytes(&self, index: usize) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Folder(folder) => folder.bytes(index),
            Self::Zip(archive) => archive.bytes(index),
            Self::Digits(_) | Self::Synthetic(_) | Self::Arrays(_) => Ok(Vec::new()),
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
