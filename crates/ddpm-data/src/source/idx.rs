mod files;

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::arrays::{Arrays, Encoding, Layout, Part, check_pixels};
use super::{Listing, Source};
use crate::blob::{Blob, open_file, read_head};
use crate::classes::Classes;
use crate::columns::Columns;
use crate::config::{DataConfig, DataKind, Split};
use crate::error::DataError;
use crate::words::some;

pub(crate) use files::is_transposed;
use files::labels_beside;

/// The format's magic: two zeros, 8 for unsigned bytes, the number of axes (LeCun's MNIST page).
const IMAGES_MAGIC: [u8; 4] = [0, 0, 8, 3];
const LABELS_MAGIC: [u8; 4] = [0, 0, 8, 1];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The magic of QMNIST's labels: 32-bit integers on two axes.
const QMNIST_LABELS_MAGIC: [u8; 4] = [0, 0, 12, 2];

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let path = config.required_path()?;
    let pairs = if path.is_dir() {
        in_directory(path, config)?
    } else {
        if config.split.is_some() {
            return Err(DataError::config(
                "split",
                "needs data.path to be a directory with MNIST's names; remove it or give the directory",
            ));
        }
        let labels = config.labels.clone().or_else(|| labels_beside(path));
        vec![(path.to_path_buf(), labels)]
    };
    read_pairs(&pairs, config)
}

/// The images and labels of the split asked for.
fn in_directory(
    path: &Path,
    config: &DataConfig,
) -> Result<Vec<(PathBuf, Option<PathBuf>)>, DataError> {
    if config.labels.is_some() {
        return Err(DataError::config(
            "labels",
            "goes with one image file; give that file as data.path or remove it",
        ));
    }
    let splits: &[Split] = match config.split.unwrap_or_default() {
        Split::Train => &[Split::Train],
        Split::Test => &[Split::Test],
        Split::All => &[Split::Train, Split::Test],
    };
    let folder = files::find(path)?.unwrap_or_else(|| files::Folder::empty(path));
    splits
        .iter()
        .map(|&split| {
            let images = folder.images(split)?;
            let labels = labels_beside(&images);
            Ok((images, labels))
        })
        .collect()
}

fn read_pairs(
    pairs: &[(PathBuf, Option<PathBuf>)],
    config: &DataConfig,
) -> Result<Listing, DataError> {
    let mut shape: Option<[u64; 2]> = None;
    let mut parts = Vec::new();
    let mut labels = Some(Vec::new());
    for (images, label_file) in pairs {
        let (part, [height, width]) = read_images(images, config)?;
        match shape {
            Some(first) if first != [height, width] => {
                return Err(DataError::format(
                    images,
                    format!("images of {}×{} like the first file's", first[0], first[1]),
                    format!("{height}×{width}"),
                ));
            }
            _ => shape = Some([height, width]),
        }
        match (&mut labels, label_file) {
            (Some(labels), Some(file)) => labels.extend(read_labels(file, part.count, config)?),
            _ => labels = None,
        }
        parts.push(part);
    }
    let [height, width] = shape.unwrap_or_default();
    Ok(Listing {
        columns: Columns::default(),
        source: Source::Arrays(Arrays {
            parts,
            // both at most max_image_pixels and backed by bytes of the file
            height: height as usize,
            width: width as usize,
            channels: 1,
            layout: Layout::ChannelsLast,
            encoding: Encoding::Bytes,
        }),
        classes: labels.map_or_else(Classes::default, Classes::numbered),
    })
}

fn read_images(path: &Path, config: &DataConfig) -> Result<(Part, [u64; 2]), DataError> {
    let mut sizes = [0; 3];
    let blob = read(path, config, IMAGES_MAGIC, |axes: [u64; 3]| {
        sizes = axes;
        check_pixels(path, axes[1], axes[2], config)
    })?;
    let [count, height, width] = sizes;
    let part = Part {
        blob,
        start: 16,
        stride: height * width,
        count: count as usize,
    };
    Ok((part, [height, width]))
}

fn read_labels(path: &Path, count: usize, config: &DataConfig) -> Result<Vec<usize>, DataError> {
    let check = |labels: u64| {
        if labels == count as u64 {
            return Ok(());
        }
        Err(DataError::format(
            path,
            format!("{}, one an image", some(count, "label")),
            labels.to_string(),
        ))
    };
    let failed = |error| DataError::io(path, error);
    if magic_of(path) == Some(QMNIST_LABELS_MAGIC) {
        let mut columns = 0;
        let blob = read(path, config, QMNIST_LABELS_MAGIC, |axes: [u64; 2]| {
            columns = axes[1];
            check(axes[0])
        })?;
        // the class is the first column; the others say who wrote the digit (Yadav & Bottou 2019)
        return (0..count as u64)
            .map(|row| {
                let mut class = [0; 4];
                blob.read(12 + 4 * columns * row, &mut class)
                    .map_err(failed)?;
                // a class number has 16 bits at most here: everything else is a damaged file
                u16::try_from(i32::from_be_bytes(class))
                    .map(usize::from)
                    .map_err(|_| {
                        let got = format!("{} in row {row}", i32::from_be_bytes(class));
                        DataError::format(path, "classes from 0 to 65535", got)
                    })
            })
            .collect();
    }
    let blob = read(path, config, LABELS_MAGIC, |[labels]: [u64; 1]| {
        check(labels)
    })?;
    let mut bytes = vec![0; count];
    blob.read(8, &mut bytes).map_err(failed)?;
    Ok(bytes.into_iter().map(usize::from).collect())
}

/// The first four bytes, unpacked.
fn magic_of(path: &Path) -> Option<[u8; 4]> {
    unpacked_head(path, 4).ok()?.first_chunk().copied()
}

/// The first bytes of a file, or of what is packed in it with gzip.
pub(crate) fn unpacked_head(path: &Path, count: usize) -> Result<Vec<u8>, DataError> {
    let failed = |error| DataError::io(path, error);
    let (mut file, _) = open_file(path, "a file")?;
    let start = read_head(&mut file, GZIP_MAGIC.len()).map_err(failed)?;
    file.rewind().map_err(failed)?;
    if start == GZIP_MAGIC {
        // the same sentence as for one that breaks later
        return read_head(&mut MultiGzDecoder::new(BufReader::new(file)), count).map_err(|error| {
            DataError::format(path, "a gzip file", format!("a damaged one ({error})"))
        });
    }
    read_head(&mut file, count).map_err(failed)
}

/// What [`detect`](crate::detect()) makes of bytes, unpacked, that an IDX file may begin with.
pub(crate) fn is_idx(head: &[u8]) -> bool {
    head.starts_with(&IMAGES_MAGIC)
}

/// Whether they begin an IDX file of something else than images.
pub(crate) fn is_other_idx(head: &[u8]) -> bool {
    matches!(head, [0, 0, 8 | 9 | 11..=14, 1..=4, 0, ..]) && !is_idx(head)
}

/// A configuration for the image files of MNIST's names in a folder or below it; none if there are none.
pub(crate) fn detect_in(path: &Path) -> Result<Option<DataConfig>, DataError> {
    let Some(folder) = files::find(path)? else {
        return Ok(None);
    };
    let of = |path: PathBuf, split| DataConfig {
        kind: DataKind::Idx,
        path: Some(path),
        split,
        transpose: folder.is_transposed(),
        ..DataConfig::default()
    };
    match (folder.images(Split::Train), folder.images(Split::Test)) {
        (Ok(_), _) => Ok(Some(of(folder.path.clone(), None))),
        (Err(DataError::Format { .. }), Ok(_)) => {
            Ok(Some(of(folder.path.clone(), Some(Split::Test))))
        }
        (Err(error), _) => folder.only().map(|file| Some(of(file, None))).ok_or(error),
    }
}

/// Reads the header, lets `check` see the axes, and only then the rest, which must be as long as they say.
fn read<const AXES: usize>(
    path: &Path,
    config: &DataConfig,
    magic: [u8; 4],
    check: impl FnOnce([u64; AXES]) -> Result<(), DataError>,
) -> Result<Blob, DataError> {
    let failed = |error| DataError::io(path, error);
    let (mut file, length) = open_file(path, "an IDX file")?;
    let start = read_head(&mut file, GZIP_MAGIC.len()).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let header_bytes = 4 + 4 * AXES;
    if start == GZIP_MAGIC {
        let mut unpacked = MultiGzDecoder::new(BufReader::new(file));
        let head = read_head(&mut unpacked, header_bytes).map_err(|error| {
            DataError::format(path, "a gzip file", format!("a damaged one ({error})"))
        })?;
        let axes = parse_header(path, &head, magic)?;
        check(axes)?;
        let expected = total_bytes(path, magic, axes)?;
        return Blob::unpack(path, head, unpacked, expected, length, config);
    }
    let head = read_head(&mut file, header_bytes).map_err(failed)?;
    let axes = parse_header(path, &head, magic)?;
    check(axes)?;
    let expected = total_bytes(path, magic, axes)?;
    plain(path, file, length, expected, config)
}

fn plain(
    path: &Path,
    file: File,
    length: u64,
    expected: u64,
    config: &DataConfig,
) -> Result<Blob, DataError> {
    if length != expected {
        return Err(DataError::format(
            path,
            format!("{expected} bytes, by its header"),
            length.to_string(),
        ));
    }
    Blob::from_file(path, file, length, config)
}

fn parse_header<const AXES: usize>(
    path: &Path,
    head: &[u8],
    magic: [u8; 4],
) -> Result<[u64; AXES], DataError> {
    let (words, _) = head.as_chunks::<4>();
    let got = words.first().copied().unwrap_or_default();
    if head.len() < 4 || got != magic {
        return Err(DataError::format(
            path,
            format!(
                "an IDX file of {} (magic {})",
                if magic == IMAGES_MAGIC {
                    "images"
                } else {
                    "labels"
                },
                hex(&magic)
            ),
            match got {
                _ if head.len() < 4 => some(head.len(), "byte"),
                IMAGES_MAGIC => "one of images".to_owned(),
                LABELS_MAGIC => "one of labels".to_owned(),
                _ => format!("magic {}", hex(&got)),
            },
        ));
    }
    if words.len() < 1 + AXES {
        return Err(DataError::format(
            path,
            format!("a header of {} bytes", 4 + 4 * AXES),
            format!("{} bytes", head.len()),
        ));
    }
    let mut axes = [0; AXES];
    for (axis, word) in axes.iter_mut().zip(&words[1..]) {
        *axis = u64::from(u32::from_be_bytes(*word));
    }
    if axes.first() == Some(&0) {
        return Err(DataError::format(path, "at least one element", "none"));
    }
    if magic == QMNIST_LABELS_MAGIC && axes.get(1) == Some(&0) {
        return Err(DataError::format(path, "at least one column", "none"));
    }
    Ok(axes)
}

fn total_bytes<const AXES: usize>(
    path: &Path,
    magic: [u8; 4],
    axes: [u64; AXES],
) -> Result<u64, DataError> {
    let bytes_each = if magic == QMNIST_LABELS_MAGIC { 4 } else { 1 };
    axes.iter()
        .try_fold(bytes_each, |product: u64, &axis| product.checked_mul(axis))
        .and_then(|bytes| bytes.checked_add(4 + 4 * AXES as u64))
        .ok_or_else(|| {
            DataError::format(
                path,
                "a size that can be",
                format!("{axes:?} elements, by its header"),
            )
        })
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

#[cfg(test)]
mod tests;
