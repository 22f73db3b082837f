//! One door for bytes of any origin to every parser: the fuzz targets, the seed corpora and the rows of random
//! mutations all go through [`parse`].
//!
//! A parser may take the bytes or refuse them with one sentence that names the file. That it neither panics nor
//! takes long is for whoever calls [`parse`] to see; [`Watch`] does.

mod parsers;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use watch::{Seen, Watch};

use crate::repository;

/// What bytes are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// A safetensors file, listed and read.
    Safetensors,
    /// The `….safetensors.index.json` of weights in several files.
    ShardedIndex,
    /// The `manifest.json` of a checkpoint whose other files are there.
    Manifest,
    /// A network's `config.json` beside the weights of `tests/fixtures/tiny-unet`; evaluated once where they fit.
    Network,
    /// diffusers' `scheduler_config.json`.
    Scheduler,
    /// The TOML of `ddpm train`, checked as far as that is possible without the data.
    Configuration,
    /// MNIST's format: images, and labels.
    Idx,
    /// The same, packed.
    IdxGzip,
    /// CIFAR-10's binary form.
    Cifar10,
    /// CIFAR-100's binary form.
    Cifar100,
    /// NumPy's array file.
    Npy,
    /// NumPy's archive of arrays.
    Npz,
    /// A zip archive of images.
    Zip,
    /// An image file of any of the six formats, in a folder.
    Image,
    /// A metric log.
    Metrics,
    /// What `torch.save` or `pickle.dump` wrote, all its tensors read.
    Torch,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Safetensors,
        Self::ShardedIndex,
        Self::Manifest,
        Self::Network,
        Self::Scheduler,
        Self::Configuration,
        Self::Idx,
        Self::IdxGzip,
        Self::Cifar10,
        Self::Cifar100,
        Self::Npy,
        Self::Npz,
        Self::Zip,
        Self::Image,
        Self::Metrics,
        Self::Torch,
    ];

    /// The name of its fuzz target and of its folder below `fuzz/corpus`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::ShardedIndex => "sharded_index",
            Self::Manifest => "manifest",
            Self::Network => "network",
            Self::Scheduler => "scheduler",
            Self::Configuration => "configuration",
            Self::Idx => "idx",
            Self::IdxGzip => "idx_gzip",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Zip => "zip",
            Self::Image => "image",
            Self::Metrics => "metrics",
            Self::Torch => "torch",
        }
    }
}

/// What a parser did with the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It took them.
    Taken,
    /// It refused them, with this message.
    Refused(String),
}

/// Gives `bytes` to the parser of `format`, in a file below `scratch` where it takes a path. The same folder may be
/// used for any number of calls, one after the other.
///
/// # Errors
/// If a refusal is not one sentence that names what was refused, or the scratch folder cannot be written to.
pub fn parse(format: Format, bytes: &[u8], scratch: &Path) -> Result<Input> {
    let parsed = match format {
        Format::Safetensors => parsers::safetensors(bytes, scratch)?,
        Format::ShardedIndex => parsers::sharded_index(bytes, scratch)?,
        Format::Manifest => parsers::manifest(bytes, scratch)?,
        Format::Network => parsers::network(bytes, scratch)?,
        Format::Scheduler => parsers::scheduler(bytes, scratch)?,
        Format::Configuration => parsers::configuration(bytes),
        Format::Idx => parsers::idx(bytes, scratch, "images-idx3-ubyte")?,
        Format::IdxGzip => parsers::idx(bytes, scratch, "images-idx3-ubyte.gz")?,
        Format::Cifar10 => parsers::data(bytes, scratch, ddpm_data::DataKind::Cifar10, "a.bin")?,
        Format::Cifar100 => parsers::data(bytes, scratch, ddpm_data::DataKind::Cifar100, "a.bin")?,
        Format::Npy => parsers::data(bytes, scratch, ddpm_data::DataKind::Npy, "a.npy")?,
        Format::Npz => parsers::data(bytes, scratch, ddpm_data::DataKind::Npy, "a.npz")?,
        Format::Zip => parsers::zip(bytes, scratch)?,
        Format::Image => parsers::image(bytes, scratch)?,
        Format::Metrics => parsers::metrics(bytes, scratch)?,
        Format::Torch => parsers::torch(bytes, scratch)?,
    };
    match parsed {
        Ok(()) => Ok(Input::Taken),
        Err(refusal) => {
            refusal.check(scratch)?;
            Ok(Input::Refused(refusal.message))
        }
    }
}

/// Why a parser refused.
pub(crate) struct Refusal {
    message: String,
    /// Whether the message must name the file; a configuration's may name its key instead.
    names_file: bool,
}

impl Refusal {
    fn check(&self, scratch: &Path) -> Result<()> {
        const LONGEST: usize = 2000;
        let message = &self.message;
        if message.contains('\n') || message.ends_with('.') {
            bail!("not one sentence: {message:?}");
        }
        if message.len() > LONGEST {
            let start: String = message.chars().take(200).collect();
            bail!("a message of {} bytes: {start}…", message.len());
        }
        if self.names_file && !message.contains(&*scratch.to_string_lossy()) {
            bail!("no path in: {message:?}");
        }
        Ok(())
    }
}

/// What a parser made of the bytes.
pub(crate) type Parsed = Result<(), Refusal>;

/// A refusal that names its file.
pub(crate) fn refused(error: impl std::fmt::Display) -> Refusal {
    Refusal {
        message: error.to_string(),
        names_file: true,
    }
}

/// The files of a format's seed corpus, by name.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn corpus(format: Format) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = repository().join("fuzz/corpus").join(format.name());
    let context = || folder.display().to_string();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_file() {
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            files.push((path, bytes));
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{}: the corpus is empty", folder.display());
    }
    Ok(files)
}
