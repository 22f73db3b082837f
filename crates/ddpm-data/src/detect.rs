//! What kind of source lies at a path, by what is in it.

mod missing;
mod within;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::blob::{open_file, read_head};
use crate::config::{DataConfig, DataKind};
use crate::decode::{has_image_extension, looks_like_image};
use crate::error::{DataError, excerpt};
use crate::kinds::{self, HEAD_BYTES, PYTORCH, is_hidden};
use crate::source;
use crate::zipfile;

/// What kind of source lies at a path: its kind and path, and of MNIST's files the split and whether they are stored
/// transposed; all else is the default. Contents decide; names do where contents say nothing (CIFAR's, MNIST's and
/// EMNIST's files in a folder).
///
/// The path of the result may lie below `path`: torchvision's `MNIST/raw`, or the folder that CIFAR's archive unpacks
/// to.
///
/// # Errors   [`DataError::Unread`] saying what lies there and what to do with it, if it is no set that can be read;
/// [`DataError::Empty`] if there is nothing of the sort; [`DataError::Io`], with a similar name where there is one
pub fn detect(path: &Path) -> Result<DataConfig, DataError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing::error(path)),
        Err(error) => return Err(DataError::io(path, error)),
    };
    if metadata.is_dir() {
        return within::folder(path);
    }
    match file(path)? {
        What::Set(config) => Ok(config),
        What::Image => Err(one_image(path)),
        What::Known { what, remedy } | What::Odd { what, remedy } => Err(unread(path, what, remedy)),
        What::Unknown => Err(unread(
            path,
            "is no set of images that is known".into(),
            "give a folder or zip archive of images, a .npy or .npz file, or MNIST's or CIFAR's files".into(),
        )),
    }
}

/// What a file is.
enum What {
    /// A set that can be read.
    Set(DataConfig),
    Image,
    /// Of a kind that is known and not read.
    Known {
        what: String,
        remedy: String,
    },
    /// Of a kind that is read, but not what was wanted, which the reader of that kind says too.
    Odd {
        what: String,
        remedy: String,
    },
    Unknown,
}

fn unread(path: &Path, what: String, remedy: String) -> DataError {
    DataError::Unread {
        path: path.to_path_buf(),
        what,
        remedy,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

fn odd(what: &str, remedy: &str) -> What {
    What::Odd {
        what: what.into(),
        remedy: remedy.into(),
    }
}

fn of_kind(kind: &kinds::Kind) -> What {
    What::Known {
        what: kind.what(),
        remedy: kind.remedy().into(),
    }
}

/// What a file is by its first bytes; by its name where they say nothing.
fn file(path: &Path) -> Result<What, DataError> {
    let (mut opened, length) = open_file(path, "a file")?;
    let head = read_head(&mut opened, HEAD_BYTES).map_err(|error| DataError::io(path, error))?;
    drop(opened);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let set = |kind| {
        Ok(What::Set(DataConfig {
            kind,
            path: Some(path.to_path_buf()),
            transpose: kind == DataKind::Idx && source::is_transposed(&name),
            ..DataConfig::default()
        }))
    };
    if length == 0 {
        return Ok(odd("is empty (0 bytes)", "copy or download it again"));
    }
    if looks_like_image(&head) && !kinds::is_raw(&name, &head) {
        return Ok(What::Image);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return archive(path);
    }
    if head.starts_with(b"\x93NUMPY") {
        return set(DataKind::Npy);
    }
    if source::is_idx(&head) {
        return set(DataKind::Idx);
    }
    if source::is_other_idx(&head) {
        return Ok(other_idx());
    }
    if head.starts_with(b"\x1f\x8b") {
        return match source::unpacked_head(path, HEAD_BYTES) {
            Ok(inner) if source::is_idx(&inner) => set(DataKind::Idx),
            Ok(inner) if source::is_other_idx(&inner) => Ok(other_idx()),
            Ok(_) => Ok(odd(
                "is packed with gzip and not one of MNIST's files",
                "unpack it (tar -xzf, or gunzip) and give what was in it",
            )),
            Err(error) => Err(error),
        };
    }
    if let Some(kind) = kinds::of_content(&head) {
        return Ok(of_kind(kind));
    }
    // before the names: .bin says nothing, and records do
    if let Some(kind) = source::cifar_file(path) {
        return set(kind);
    }
    if let Some(kind) = kinds::of_name(&name) {
        return Ok(of_kind(kind));
    }
    if has_image_extension(&name) {
        return Ok(What::Image);
    }
    Ok(What::Unknown)
}

fn other_idx() -> What {
    odd(
        "is an IDX file that holds no images of 8 bits on three axes, such as MNIST's labels",
        "give the file of images (MNIST's are named …images-idx3-ubyte)",
    )
}

/// What a zip archive holds: images, arrays, or something else.
fn archive(path: &Path) -> Result<What, DataError> {
    // how much a person trusts it is not known here: the limits are the defaults
    let limits = DataConfig::default();
    let archive = zipfile::open(path, &limits)?;
    let set = |kind| {
        Ok(What::Set(DataConfig {
            kind,
            path: Some(path.to_path_buf()),
            ..DataConfig::default()
        }))
    };
    let entries: Vec<zipfile::Entry> = zipfile::entries(&archive)
        .filter(|entry| !entry.name.split(['/', '\\']).any(is_hidden))
        .collect();
    if entries.iter().any(|entry| has_image_extension(&entry.name)) {
        return set(DataKind::Zip);
    }
    if entries.iter().any(|entry| entry.name.ends_with(".npy")) {
        return set(DataKind::Npy);
    }
    // torch.save writes an archive too
    if entries
        .iter()
        .any(|entry| entry.name.ends_with("/data.pkl"))
    {
        return Ok(of_kind(&PYTORCH));
    }
    let looked_at = entries.iter().take(within::MAX_LOOKED_AT);
    let mut kind = None;
    for entry in looked_at {
        let head = zipfile::head(&archive, entry, HEAD_BYTES);
        if looks_like_image(&head) {
            return set(DataKind::Zip);
        }
        let inner = kinds::of_content(&head).or_else(|| kinds::of_name(&entry.name));
        if kind.is_none() {
            kind = inner.map(|kind| (kind.what(), &entry.name));
        }
        if source::is_idx(&head) || head.starts_with(b"\x1f\x8b") {
            kind = Some(("has to be unpacked first".into(), &entry.name));
        }
    }
    match kind {
        Some((what, name)) => Ok(What::Known {
            what: format!("holds no images; {} in it {what}", excerpt(name)),
            remedy: "unpack it and give the folder".into(),
        }),
        // says what was looked for
        None => set(DataKind::Zip),
    }
}

/// A better reason for what could not be opened as the kind that was asked for: what really lies there. `error` itself
/// if nothing better is known.
pub(crate) fn explain(config: &DataConfig, error: DataError) -> DataError {
    let Some(path) = &config.path else {
        return error;
    };
    match &error {
        DataError::Io { path: at, source }
            if at == path && source.kind() == io::ErrorKind::NotFound =>
        {
            return missing::error(path);
        }
        DataError::Format { path: at, .. } | DataError::Empty { path: at, .. } if at == path => {}
        _ => return error,
    }
    let found = if !path.is_dir() {
        file(path)
    } else if config.kind == DataKind::Folder {
        within::folder(path).map(What::Set)
    } else {
        match within::folder(path) {
            // what else a folder without images holds does not matter here
            Err(_) if matches!(within::by_files(path), Ok(None)) => return error,
            found => found.map(What::Set),
        }
    };
    match (found, error) {
        (Ok(What::Set(found)), error) if found.kind != config.kind => {
            let expected = match error {
                DataError::Format { expected, .. } => expected,
                _ => "images".into(),
            };
            let got = format!("what data.kind = \"{}\" reads", found.kind.name());
            DataError::format(path, expected, got)
        }
        (Ok(What::Image), _) if matches!(config.kind, DataKind::Folder | DataKind::Zip) => {
            one_image(path)
        }
        (Ok(What::Known { what, remedy }), _) => unread(path, what, remedy),
        (Ok(What::Odd { what, remedy }), _) if config.kind == DataKind::Folder => {
            unread(path, what, remedy)
        }
        (Err(better @ DataError::Unread { .. }), _) => better,
        (_, error) => error,
    }
}

fn one_image(path: &Path) -> DataError {
    unread(
        path,
        "is one image and no set of images".into(),
        format!("give the folder it lies in ({})", folder_of(path).display()),
    )
}

/// The first bytes of a file, for a look from its folder.
fn head_of(path: &Path) -> Vec<u8> {
    let opened = open_file(path, "a file").ok();
    opened
        .and_then(|(mut file, _): (File, u64)| read_head(&mut file, HEAD_BYTES).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
