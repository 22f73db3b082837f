use std::path::{Path, PathBuf};

use super::arrays::{Arrays, Encoding, Layout, Part};
use super::{Listing, Source};
use crate::blob::{Blob, open_file};
use crate::classes::Classes;
use crate::config::{DataConfig, Split};
use crate::error::DataError;

const SIDE: usize = 32;
const CHANNELS: usize = 3;
const IMAGE_BYTES: u64 = (SIDE * SIDE * CHANNELS) as u64;
/// A file of class names is a few hundred bytes.
const MAX_NAMES_BYTES: u64 = 64 << 10;

/// How CIFAR-10 and CIFAR-100 differ (Krizhevsky 2009; the binary versions on his page).
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    name: &'static str,
    /// The folder in the archive as it is distributed.
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    names: &'static str,
    classes: usize,
    /// Bytes before the image; the last of them is the class.
    label_bytes: u64,
}

impl Form {
    pub(super) const TEN: Self = Self {
        name: "CIFAR-10",
        folder: "cifar-10-batches-bin",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: "test_batch.bin",
        names: "batches.meta.txt",
        classes: 10,
        label_bytes: 1,
    };
    pub(super) const HUNDRED: Self = Self {
        name: "CIFAR-100",
        folder: "cifar-100-binary",
        train: &["train.bin"],
        test: "test.bin",
        names: "fine_label_names.txt",
        classes: 100,
        label_bytes: 2,
    };

    fn record_bytes(self) -> u64 {
        self.label_bytes + IMAGE_BYTES
    }
}

pub(super) fn open(config: &DataConfig, form: Form) -> Result<Listing, DataError> {
    let path = config.required_path()?;
    let (directory, files) = if path.is_dir() {
        let inner = path.join(form.folder);
        let directory = if inner.is_dir() {
            inner
        } else {
            path.to_path_buf()
        };
        let files = in_split(form, config.split.unwrap_or_default())
            .map(|name| directory.join(name))
            .collect();
        (directory, files)
    } else {
        if config.split.is_some() {
            return Err(DataError::config(
                "split",
                format!(
                    "needs data.path to be {}'s directory; remove it or give the directory",
                    form.name
                ),
            ));
        }
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        (directory, vec![path.to_path_buf()])
    };
    let mut parts = Vec::new();
    let mut labels = Vec::new();
    for file in &files {
        let part = read_part(file, config, form)?;
        labels.extend(read_labels(&part, form)?);
        parts.push(part);
    }
    Ok(Listing {
        source: Source::Arrays(Arrays {
            parts,
            height: SIDE,
            width: SIDE,
            channels: CHANNELS,
            layout: Layout::ChannelsFirst,
            encoding: Encoding::Bytes,
        }),
        classes: Classes {
            labels: Some(labels),
            count: Some(form.classes),
            names: read_names(&directory.join(form.names), form.classes),
        },
    })
}

fn in_split(form: Form, split: Split) -> impl Iterator<Item = &'static str> {
    let train = matches!(split, Split::Train | Split::All).then_some(form.train);
    let test = matches!(split, Split::Test | Split::All).then_some(form.test);
    train.into_iter().flatten().copied().chain(test)
}

fn read_part(path: &Path, config: &DataConfig, form: Form) -> Result<Part, DataError> {
    let (file, length) = open_file(path, form.name)?;
    let record = form.record_bytes();
    if length == 0 || !length.is_multiple_of(record) {
        return Err(DataError::format(
            path,
            format!("records of {record} bytes ({}, binary version)", form.name),
            format!(
                "{length} bytes, which are {} and {} over",
                length / record,
                length % record
            ),
        ));
    }
    let blob = Blob::from_file(path, file, length, config)?;
    Ok(Part {
        blob,
        start: form.label_bytes,
        stride: record,
        count: usize::try_from(length / record).unwrap_or(usize::MAX),
    })
}

fn read_labels(part: &Part, form: Form) -> Result<Vec<usize>, DataError> {
    (0..part.count)
        .map(|index| {
            let mut label = [0];
            let at = part.stride * index as u64 + form.label_bytes - 1;
            part.blob
                .read(at, &mut label)
                .map_err(|error| DataError::io(part.blob.path(), error))?;
            let class = usize::from(label[0]);
            if class >= form.classes {
                return Err(DataError::format(
                    part.blob.path(),
                    format!("classes below {} ({})", form.classes, form.name),
                    format!("{class} in record {index}"),
                ));
            }
            Ok(class)
        })
        .collect()
}

/// The names that come with the set: one a line. They are a nicety, so anything odd about them means none.
fn read_names(path: &PathBuf, classes: usize) -> Option<Vec<String>> {
    let length = std::fs::metadata(path).ok()?.len();
    if length > MAX_NAMES_BYTES {
        return None;
    }
    let names: Vec<String> = std::fs::read_to_string(path)
        .ok()?
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    (names.len() == classes).then_some(names)
}

#[cfg(test)]
mod tests;
