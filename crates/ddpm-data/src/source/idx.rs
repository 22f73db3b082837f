use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::arrays::{Arrays, Encoding, Layout, Part, check_pixels};
use super::{Listing, Source};
use crate::blob::{Blob, open_file, read_head};
use crate::classes::Classes;
use crate::config::{DataConfig, Split};
use crate::error::DataError;

/// The format's magic: two zeros, 8 for unsigned bytes, the number of axes (LeCun's MNIST page).
const IMAGES_MAGIC: [u8; 4] = [0, 0, 8, 3];
const LABELS_MAGIC: [u8; 4] = [0, 0, 8, 1];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// MNIST's names: the split, with `images-idx3` or `labels-idx1` behind it.
const TRAIN: &str = "train";
const TEST: &str = "t10k";

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
    let splits: &[&str] = match config.split.unwrap_or_default() {
        Split::Train => &[TRAIN],
        Split::Test => &[TEST],
        Split::All => &[TRAIN, TEST],
    };
    splits
        .iter()
        .map(|split| {
            let images = find(path, split, "images", 3).ok_or_else(|| {
                DataError::format(
                    path,
                    format!("{split}-images-idx3-ubyte or {split}-images-idx3-ubyte.gz in it"),
                    "neither",
                )
            })?;
            Ok((images, find(path, split, "labels", 1)))
        })
        .collect()
}

fn find(directory: &Path, split: &str, what: &str, axes: u8) -> Option<PathBuf> {
    ["-", "."]
        .iter()
        .flat_map(|dash| {
            ["", ".gz"]
                .map(|end| directory.join(format!("{split}-{what}{dash}idx{axes}-ubyte{end}")))
        })
        .find(|candidate| candidate.is_file())
}

/// MNIST's name of the label file that belongs to an image file, if it is there, packed or not.
fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let labels = name
        .replace("images-idx3", "labels-idx1")
        .replace("images.idx3", "labels.idx1");
    if labels == name {
        return None;
    }
    let plain = labels.strip_suffix(".gz").unwrap_or(&labels);
    [labels.clone(), plain.to_owned(), format!("{plain}.gz")]
        .into_iter()
        .map(|candidate| images.with_file_name(candidate))
        .find(|candidate| candidate.is_file())
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
    let blob = read(path, config, LABELS_MAGIC, |[labels]: [u64; 1]| {
        if labels == count as u64 {
            return Ok(());
        }
        Err(DataError::format(
            path,
            format!("{count} labels, one an image"),
            labels.to_string(),
        ))
    })?;
    let mut bytes = vec![0; count];
    blob.read(8, &mut bytes)
        .map_err(|error| DataError::io(path, error))?;
    Ok(bytes.into_iter().map(usize::from).collect())
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
        let expected = total_bytes(path, axes)?;
        return Blob::unpack(path, head, unpacked, expected, length, config);
    }
    let head = read_head(&mut file, header_bytes).map_err(failed)?;
    let axes = parse_header(path, &head, magic)?;
    check(axes)?;
    let expected = total_bytes(path, axes)?;
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
                _ if head.len() < 4 => format!("{} bytes", head.len()),
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
    Ok(axes)
}

fn total_bytes<const AXES: usize>(path: &Path, axes: [u64; AXES]) -> Result<u64, DataError> {
    axes.iter()
        .try_fold(1u64, |product, &axis| product.checked_mul(axis))
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
