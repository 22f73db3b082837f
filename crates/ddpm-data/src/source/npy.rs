mod labels;
mod shape;

use std::io::{Read, Seek};
use std::path::Path;

use super::arrays::number::Number;
use super::arrays::range::{self, Range};
use super::arrays::{Arrays, Encoding, Part, check_pixels};
use super::npy_header::{self, Header, PRELUDE_BYTES};
use super::{Listing, Source};
use crate::blob::{Blob, open_file, read_head};
use crate::classes::Classes;
use crate::columns::Columns;
use crate::config::{DataConfig, FloatRange, Split};
use crate::error::{DataError, excerpt};
use crate::zipfile::{self, Entry};
use shape::Shape;

const ZIP_MAGIC: &[u8; 2] = b"PK";
/// As many bytes become numbers at once: a multiple of the bytes of any number.
const READ_BYTES: usize = 1 << 20;

/// An array of numbers in a file: what its header says, and its bytes.
struct Array {
    header: Header,
    number: Number,
    blob: Blob,
}

pub(super) fn open(config: &DataConfig) -> Result<Listing, DataError> {
    let path = config.required_path()?;
    let (mut file, _) = open_file(path, "a .npy or .npz file")?;
    let start =
        read_head(&mut file, ZIP_MAGIC.len()).map_err(|error| DataError::io(path, error))?;
    drop(file);
    if start == ZIP_MAGIC {
        return open_npz(path, config);
    }
    if config.split.is_some() {
        return Err(DataError::config(
            "split",
            "needs an .npz file with arrays for each split; remove it",
        ));
    }
    let arrays = to_arrays(read_npy(path, config)?, config)?;
    let classes = match &config.labels {
        Some(file) => labels::read(&read_npy(file, config)?, arrays.len())?,
        None => Classes::default(),
    };
    Ok(Listing {
        columns: Columns::default(),
        source: Source::Arrays(arrays),
        classes,
    })
}

/// Images, and labels where the archive has any, by the names that people give them.
fn open_npz(path: &Path, config: &DataConfig) -> Result<Listing, DataError> {
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
    let arrays = to_arrays(read_npz(path, &archive, images, config)?, config)?;
    let classes = match find(&label_names) {
        Some(entry) => labels::or_none(
            read_npz(path, &archive, entry, config)
                .and_then(|array| labels::read(&array, arrays.len())),
        )?,
        None => Classes::default(),
    };
    Ok(Listing {
        columns: Columns::default(),
        source: Source::Arrays(arrays),
        classes,
    })
}

fn read_npy(path: &Path, config: &DataConfig) -> Result<Array, DataError> {
    let failed = |error| DataError::io(path, error);
    let (mut file, length) = open_file(path, "a .npy file")?;
    let head = read_header(&mut file).map_err(|error| error.at(path))?;
    let header = npy_header::parse(&head).map_err(|got| not_npy(path, got))?;
    let number = check_length(path, &header, length)?;
    file.rewind().map_err(failed)?;
    let blob = Blob::from_file(path, file, length, config)?;
    Ok(Array {
        header,
        number,
        blob,
    })
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
    let number = check_length(&path, &header, entry.size)?;
    let blob = Blob::unpack(&path, head, file, entry.size, entry.packed, config)?;
    Ok(Array {
        header,
        number,
        blob,
    })
}

/// The shape of an array of an archive, and its numbers.
///
/// # Errors   as those of reading images: [`DataError::Format`], [`DataError::Unread`], [`DataError::Limit`],
/// [`DataError::Io`]
pub(crate) fn read_numbers(
    path: &Path,
    archive: &zipfile::Archive,
    entry: &Entry,
    config: &DataConfig,
) -> Result<(Vec<usize>, Vec<f64>), DataError> {
    let Array {
        header,
        number,
        blob,
    } = read_npz(path, archive, entry, config)?;
    // the header and the unpacked length agree, so both fit into memory
    let count = (entry.size - header.data_start) as usize / number.bytes();
    let mut values = Vec::with_capacity(count);
    let mut bytes = vec![0; READ_BYTES];
    let mut at = header.data_start;
    while at < entry.size {
        let piece = &mut bytes[..(entry.size - at).min(READ_BYTES as u64) as usize];
        blob.read(at, piece)
            .map_err(|error| DataError::io(blob.path(), error))?;
        values.extend(number.read_f64(piece));
        at += piece.len() as u64;
    }
    // an axis that is too long for memory stands beside one of length 0
    let shape = header.shape.iter().map(|&axis| axis as usize).collect();
    Ok((shape, values))
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
fn check_length(path: &Path, header: &Header, length: u64) -> Result<Number, DataError> {
    let number = Number::parse(&header.dtype).ok_or_else(|| DataError::Unread {
        path: path.to_path_buf(),
        what: format!(
            "holds elements of type {:?}, which are not plain numbers",
            header.dtype
        ),
        remedy: "save images as uint8 or float32 and labels as integers".into(),
    })?;
    match header.file_bytes(number.bytes()) {
        Some(expected) if expected == length => Ok(number),
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

fn to_arrays(array: Array, config: &DataConfig) -> Result<Arrays, DataError> {
    let Array {
        header,
        number,
        blob,
    } = array;
    let path = blob.path().to_path_buf();
    let ranged = number.is_float() || number.is_u16();
    if !ranged && !number.is_u8() && !number.is_bool() {
        return Err(DataError::Unread {
            path,
            what: format!(
                "holds numbers of type {:?}, which are not read as images",
                header.dtype
            ),
            remedy: "save it as uint8, uint16, float16, float32, float64 or bool".into(),
        });
    }
    if !ranged && config.range != FloatRange::Auto {
        return Err(DataError::config(
            "range",
            format!(
                "is for arrays of floats and uint16, and this one is {}; remove it",
                if number.is_bool() { "bool" } else { "uint8" }
            ),
        ));
    }
    let Shape {
        count,
        height,
        width,
        channels,
        layout,
    } = shape::read(&path, &header.shape)?;
    check_pixels(&path, height, width, config)?;
    let mut arrays = Arrays {
        parts: vec![Part {
            blob,
            start: header.data_start,
            stride: height * width * channels * number.bytes() as u64,
            // all of them at most the length of the file
            count: count as usize,
        }],
        height: height as usize,
        width: width as usize,
        channels: channels as usize,
        layout,
        encoding: match number.is_bool() {
            true => Encoding::Bools,
            false => Encoding::Bytes,
        },
    };
    if ranged {
        arrays.encoding = Encoding::Numbers(number, Range::new(0.0, 1.0));
        let range = range::of(
            &path,
            &arrays,
            number.is_float(),
            config.range,
            config.on_bad,
        )?;
        arrays.encoding = Encoding::Numbers(number, range);
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests;
