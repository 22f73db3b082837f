use std::io::{Read, Seek};
use std::path::Path;

use super::arrays::{Arrays, Encoding, Float, Layout, Part, check_pixels, spans};
use super::npy_header::{self, Header, PRELUDE_BYTES};
use super::{Listing, Source};
use crate::blob::{Blob, open_file, read_head};
use crate::classes::Classes;
use crate::config::{DataConfig, FloatRange, MAX_CHANNELS, Split};
use crate::error::{DataError, excerpt};
use crate::zipfile::{self, Entry};

const ZIP_MAGIC: &[u8; 2] = b"PK";
/// A class number above this is a mistake: embedding tables of that size do not fit anywhere.
const MAX_CLASS: u64 = 1 << 20;

/// An array in a file: what its header says, and its bytes.
struct Array {
    header: Header,
    blob: Blob,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let path = config.required_path()?;
    let (mut file, _) = open_file(path, "a .npy or .npz file")?;
    let start =
        read_head(&mut file, ZIP_MAGIC.len()).map_err(|error| DataError::io(path, error))?;
    drop(file);
    let (images, labels) = if start == ZIP_MAGIC {
        open_npz(path, config)?
    } else {
        if config.split.is_some() {
            return Err(DataError::config(
                "split",
                "needs an .npz file with arrays for each split; remove it",
            ));
        }
        let images = read_npy(path, config)?;
        let labels = match &config.labels {
            Some(labels) => Some(read_npy(labels, config)?),
            None => None,
        };
        (images, labels)
    };
    let arrays = to_arrays(images, config)?;
    let classes = match labels {
        Some(labels) => Classes::numbered(read_labels(&labels, arrays.len())?),
        None => Classes::default(),
    };
    Ok(Listing {
        source: Source::Arrays(arrays),
        classes,
    })
}

/// Images, and labels where the archive has any, by the names that people give them.
fn open_npz(path: &Path, config: &DataConfig) -> Result<(Array, Option<Array>), DataError> {
    if config.labels.is_some() {
        return Err(DataError::config(
            "labels",
            "goes with a .npy file; an .npz file brings its own labels, remove it",
        ));
    }
    let split = match config.split.unwrap_or_default() {
        Split::Train => "train",
        Split::Test => "test",
        Split::All => {
            return Err(DataError::config(
                "split",
                "cannot be \"all\" for an .npz file; set \"train\" or \"test\"",
            ));
        }
    };
    let archive = zipfile::open(path, config)?;
    let entries: Vec<Entry> = zipfile::entries(&archive).collect();
    let find = |names: &[String]| {
        names.iter().find_map(|name| {
            entries
                .iter()
                .find(|entry| entry.name.strip_suffix(".npy") == Some(name.as_str()))
        })
    };
    let candidates = |in_split: [String; 2], plain: &[&str]| -> Vec<String> {
        // an explicit split must not fall back on an array that has none
        let plain = if config.split.is_some() { &[] } else { plain };
        in_split
            .into_iter()
            .chain(plain.iter().map(|&name| name.to_owned()))
            .collect()
    };
    let image_names = candidates(
        [format!("{split}_images"), format!("x_{split}")],
        &["images", "x", "data", "arr_0"],
    );
    let label_names = candidates(
        [format!("{split}_labels"), format!("y_{split}")],
        &["labels", "y", "arr_1"],
    );
    let only = match entries.as_slice() {
        [only] if config.split.is_none() => Some(only),
        _ => None,
    };
    let images = find(&image_names).or(only).ok_or_else(|| {
        let names: Vec<&str> = entries
            .iter()
            .take(20)
            .map(|entry| entry.name.as_str())
            .collect();
        DataError::format(
            path,
            format!("an array named {}", image_names.join(", ")),
            names.join(", "),
        )
    })?;
    let labels = find(&label_names)
        .map(|entry| read_npz(path, &archive, entry, config))
        .transpose()?;
    Ok((read_npz(path, &archive, images, config)?, labels))
}

fn read_npy(path: &Path, config: &DataConfig) -> Result<Array, DataError> {
    let failed = |error| DataError::io(path, error);
    let (mut file, length) = open_file(path, "a .npy file")?;
    let head = read_header(&mut file).map_err(|error| error.at(path))?;
    let header = npy_header::parse(&head).map_err(|got| not_npy(path, got))?;
    check_length(path, &header, length)?;
    file.rewind().map_err(failed)?;
    let blob = Blob::from_file(path, file, length, config)?;
    Ok(Array { header, blob })
}

fn read_npz(
    path: &Path,
    archive: &zipfile::Archive,
    entry: &Entry,
    config: &DataConfig,
) -> Result<Array, DataError> {
    let path = path.join(excerpt(&entry.name));
    let mut archive = archive.clone();
    let mut file = archive.by_index(entry.index).map_err(|error| {
        DataError::format(
            &path,
            "an array",
            format!("one that cannot be unpacked ({error})"),
        )
    })?;
    let head = read_header(&mut file).map_err(|error| error.at(&path))?;
    let header = npy_header::parse(&head).map_err(|got| not_npy(&path, got))?;
    check_length(&path, &header, entry.size)?;
    let blob = Blob::unpack(&path, head, file, entry.size, entry.packed, config)?;
    Ok(Array { header, blob })
}

/// Why a header could not be had.
enum HeaderError {
    Io(std::io::Error),
    NotNpy(String),
}

impl HeaderError {
    fn at(self, path: &Path) -> DataError {
        match self {
            Self::Io(error) => DataError::io(path, error),
            Self::NotNpy(got) => not_npy(path, got),
        }
    }
}

/// The whole header, and nothing behind it.
fn read_header(reader: &mut dyn Read) -> Result<Vec<u8>, HeaderError> {
    let mut head = read_head(reader, PRELUDE_BYTES).map_err(HeaderError::Io)?;
    let length = npy_header::header_bytes(&head).map_err(HeaderError::NotNpy)?;
    let rest = length.saturating_sub(head.len());
    head.extend(read_head(reader, rest).map_err(HeaderError::Io)?);
    Ok(head)
}

fn not_npy(path: &Path, got: String) -> DataError {
    DataError::format(path, "a NumPy array in C order", got)
}

/// The file must be as long as its header says: checked before anything is set aside for its elements.
fn check_length(path: &Path, header: &Header, length: u64) -> Result<(), DataError> {
    let element = element_bytes(&header.dtype).ok_or_else(|| wrong_type(path, &header.dtype))?;
    match header.file_bytes(element) {
        Some(expected) if expected == length => Ok(()),
        Some(expected) => Err(DataError::format(
            path,
            format!("{expected} bytes, by its header"),
            length.to_string(),
        )),
        None => Err(DataError::format(
            path,
            "a size that can be",
            format!("{:?} elements, by its header", header.shape),
        )),
    }
}

fn wrong_type(path: &Path, dtype: &str) -> DataError {
    DataError::format(
        path,
        "images of uint8, float32 or float64, or labels of an integer type",
        format!("elements of type {dtype:?}"),
    )
}

fn element_bytes(dtype: &str) -> Option<usize> {
    match dtype.get(1..)? {
        "u1" | "i1" => Some(1),
        "u2" | "i2" => Some(2),
        "u4" | "i4" | "f4" => Some(4),
        "u8" | "i8" | "f8" => Some(8),
        _ => None,
    }
}

fn to_arrays(array: Array, config: &DataConfig) -> Result<Arrays, DataError> {
    let Array { header, blob } = array;
    let path = blob.path().to_path_buf();
    let float = match header.dtype.as_str() {
        "|u1" | "<u1" | ">u1" | "=u1" => None,
        "<f4" => Some(Float::F32Little),
        ">f4" => Some(Float::F32Big),
        "<f8" => Some(Float::F64Little),
        ">f8" => Some(Float::F64Big),
        other => {
            return Err(DataError::format(
                &path,
                "uint8, float32 or float64",
                format!("elements of type {other:?}"),
            ));
        }
    };
    if float.is_none() && config.range != FloatRange::Auto {
        return Err(DataError::config(
            "range",
            "is for arrays of floats and this one is uint8; remove it",
        ));
    }
    let Shape {
        count,
        height,
        width,
        channels,
        layout,
    } = image_shape(&path, &header.shape)?;
    check_pixels(&path, height, width, config)?;
    let sample_bytes = float.map_or(1, Float::bytes) as u64;
    let mut arrays = Arrays {
        parts: vec![Part {
            blob,
            start: header.data_start,
            stride: height * width * channels * sample_bytes,
            // all of them at most the length of the file
            count: count as usize,
        }],
        height: height as usize,
        width: width as usize,
        channels: channels as usize,
        layout,
        encoding: Encoding::Bytes,
    };
    if let Some(float) = float {
        arrays.encoding = Encoding::Floats {
            float,
            low: 0.0,
            high: 1.0,
        };
        let (low, high) = float_range(&path, &arrays, config.range)?;
        arrays.encoding = Encoding::Floats { float, low, high };
    }
    Ok(arrays)
}

struct Shape {
    count: u64,
    height: u64,
    width: u64,
    channels: u64,
    layout: Layout,
}

fn image_shape(path: &Path, shape: &[u64]) -> Result<Shape, DataError> {
    let is_channels = |axis: u64| (1..=MAX_CHANNELS as u64).contains(&axis);
    let refuse = |expected: &str| {
        Err(DataError::format(
            path,
            expected.to_owned(),
            format!("shape {shape:?}"),
        ))
    };
    let found = match *shape {
        [count, height, width] => Shape {
            count,
            height,
            width,
            channels: 1,
            layout: Layout::ChannelsLast,
        },
        [_, first, _, last] if is_channels(first) && is_channels(last) => {
            return refuse(
                "only one of the second and fourth axis to be 1 to 4, so that it is the channels",
            );
        }
        [count, height, width, channels] if is_channels(channels) => Shape {
            count,
            height,
            width,
            channels,
            layout: Layout::ChannelsLast,
        },
        [count, channels, height, width] if is_channels(channels) => Shape {
            count,
            height,
            width,
            channels,
            layout: Layout::ChannelsFirst,
        },
        _ => return refuse("[n, h, w], [n, h, w, c] or [n, c, h, w] with c from 1 to 4"),
    };
    if found.count == 0 {
        return refuse("at least one image");
    }
    Ok(found)
}

const SIGNED: (f32, f32) = (-1.0, 1.0);
const UNIT: (f32, f32) = (0.0, 1.0);
const BYTES: (f32, f32) = (0.0, 255.0);

fn float_range(path: &Path, arrays: &Arrays, range: FloatRange) -> Result<(f32, f32), DataError> {
    match range {
        FloatRange::Signed => return Ok(SIGNED),
        FloatRange::Unit => return Ok(UNIT),
        FloatRange::Bytes => return Ok(BYTES),
        FloatRange::Auto => {}
    }
    let refuse = |got: String| {
        DataError::format(
            path,
            "floats within [-1, 1], [0, 1] or [0, 255] (set data.range if one of them is meant)",
            got,
        )
    };
    let extent = arrays
        .float_extent()?
        .ok_or_else(|| refuse("no finite number".into()))?;
    // [0, 1] first: a negative rounding error is within its tolerance and must not make it [-1, 1]
    [UNIT, SIGNED, BYTES]
        .into_iter()
        .find(|&(low, high)| spans(extent, low, high))
        .ok_or_else(|| refuse(format!("{}..{}", extent.0, extent.1)))
}

fn read_labels(array: &Array, count: usize) -> Result<Vec<usize>, DataError> {
    let path = array.blob.path();
    let (header, refuse) = (&array.header, |expected: String, got: String| {
        DataError::format(path, expected, got)
    });
    // [n] or [n, 1]
    let counted = match *header.shape {
        [labels] | [labels, 1] => labels == count as u64,
        _ => false,
    };
    if !counted {
        return Err(refuse(
            format!("{count} labels, one an image"),
            format!("shape {:?}", header.shape),
        ));
    }
    let dtype = header.dtype.as_str();
    let element = match element_bytes(dtype) {
        Some(bytes) if matches!(dtype.as_bytes().get(1), Some(b'u' | b'i')) => bytes,
        _ => return Err(refuse("labels of an integer type".into(), dtype.to_owned())),
    };
    let (big, signed) = (dtype.starts_with('>'), dtype.as_bytes()[1] == b'i');
    let mut bytes = vec![0; count * element];
    array
        .blob
        .read(header.data_start, &mut bytes)
        .map_err(|error| DataError::io(path, error))?;
    bytes
        .chunks_exact_mut(element)
        .enumerate()
        .map(|(index, number)| {
            if big {
                number.reverse();
            }
            let negative = signed && number.last().is_some_and(|byte| byte & 0x80 != 0);
            let value = number
                .iter()
                .rev()
                .fold(0u64, |value, &byte| (value << 8) | u64::from(byte));
            if negative || value > MAX_CLASS {
                return Err(refuse(
                    format!("labels from 0 to {MAX_CLASS}"),
                    format!("another at {index}"),
                ));
            }
            Ok(value as usize)
        })
        .collect()
}

#[cfg(test)]
mod tests;
