use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::arrays::{Arrays, Encoding, Layout, Part};
use super::walk::folders_in;
use super::{Listing, Source};
use crate::blob::{Blob, open_file, read_head};
use crate::classes::Classes;
use crate::columns::Columns;
use crate::config::{DataConfig, DataKind, Split};
use crate::error::DataError;
use crate::kinds::is_pickle;
use crate::words::some;

const SIDE: usize = 32;
const CHANNELS: usize = 3;
const IMAGE_BYTES: u64 = (SIDE * SIDE * CHANNELS) as u64;
/// A file of class names is a few hundred bytes.
const MAX_NAMES_BYTES: u64 = 64 << 10;

/// How CIFAR-10 and CIFAR-100 differ (Krizhevsky 2009; the binary versions on his page).
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    name: &'static str,
    /// The archive of the binary version, without `.tar.gz`.
    archive: &'static str,
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
        archive: "cifar-10-binary",
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
        archive: "cifar-100-binary",
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
        let directory = match find(path, form) {
            Some(directory) => directory,
            None => {
                // which says it where the version for Python is there
                detect_in(path)?;
                let first = form.train.first().copied().unwrap_or(form.test);
                return Err(DataError::format(
                    path,
                    format!("{first} and so on in it ({}, binary version)", form.name),
                    "none of them",
                ));
            }
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
        columns: Columns::default(),
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

/// The folder with the binary files: `path`, the one that the archive unpacks to, or another one below `path`.
fn find(path: &Path, form: Form) -> Option<PathBuf> {
    let holds = |folder: &Path| {
        // CIFAR-10's names say enough for a file that is cut off to be told of; CIFAR-100's are anybody's
        let named = form.names == Form::TEN.names || folder.join(form.names).is_file();
        let mut files = in_split(form, Split::All).map(|name| folder.join(name));
        files.any(|file| {
            file.metadata()
                .is_ok_and(|m| named || is_whole(m.len(), form))
        })
    };
    let folders = [path.to_path_buf(), path.join(form.folder)];
    folders
        .into_iter()
        .chain(folders_in(path))
        .find(|folder| holds(folder))
}

fn is_whole(length: u64, form: Form) -> bool {
    length > 0 && length.is_multiple_of(form.record_bytes())
}

/// A configuration for CIFAR's binary files in a folder or one level below; none if there are none.
///
/// # Errors   [`DataError::Unread`] if both sets are there, or what is there is the version for Python
pub(crate) fn detect_in(path: &Path) -> Result<Option<DataConfig>, DataError> {
    let unread = |path: &Path, what: String, remedy: &str| DataError::Unread {
        path: path.to_path_buf(),
        what,
        remedy: remedy.into(),
    };
    let of = |kind, path| DataConfig {
        kind,
        path: Some(path),
        ..DataConfig::default()
    };
    match (find(path, Form::TEN), find(path, Form::HUNDRED)) {
        (Some(ten), None) => Ok(Some(of(DataKind::Cifar10, ten))),
        (None, Some(hundred)) => Ok(Some(of(DataKind::Cifar100, hundred))),
        (Some(_), Some(_)) => Err(unread(
            path,
            "holds both CIFAR-10 and CIFAR-100".into(),
            "give the folder of one of them",
        )),
        (None, None) => {
            let here = std::iter::once(path.to_path_buf()).chain(folders_in(path));
            match here
                .into_iter()
                .find_map(|folder| Some((python(&folder)?, folder)))
            {
                None => Ok(None),
                Some((form, folder)) => Err(unread(
                    &folder,
                    format!(
                        "is {}'s version for Python, whose pickles are not read",
                        form.name
                    ),
                    &format!(
                        "download the binary version ({}.tar.gz) and unpack it",
                        form.archive
                    ),
                )),
            }
        }
    }
}

/// Whose version for Python a folder holds.
fn python(folder: &Path) -> Option<Form> {
    let holds = |names: &[&str]| names.iter().all(|name| is_pickled(&folder.join(name)));
    let ten = ["data_batch_1", "test_batch", "batches.meta"];
    if ten.iter().any(|name| holds(&[name])) {
        return Some(Form::TEN);
    }
    let hundred = holds(&["train", "meta"]) || holds(&["test", "meta"]);
    hundred.then_some(Form::HUNDRED)
}

fn is_pickled(path: &Path) -> bool {
    path.is_file()
        && File::open(path)
            .and_then(|mut file| read_head(&mut file, 4))
            .is_ok_and(|head| is_pickle(&head))
}

/// The kind of a file that consists of CIFAR's records, by its length and by classes that can be; none otherwise.
pub(crate) fn detect_file(path: &Path) -> Option<DataKind> {
    let kinds = [
        (Form::TEN, DataKind::Cifar10),
        (Form::HUNDRED, DataKind::Cifar100),
    ];
    kinds
        .into_iter()
        .find(|&(form, _)| holds_records(path, form).unwrap_or(false))
        .map(|(_, kind)| kind)
}

/// Looks at up to 1000 records.
fn holds_records(path: &Path, form: Form) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if !is_whole(length, form) {
        return Ok(false);
    }
    let record = form.record_bytes();
    for index in 0..(length / record).min(1000) {
        file.seek(SeekFrom::Start(index * record))?;
        let classes = read_head(&mut file, form.label_bytes as usize)?;
        let within = match classes.as_slice() {
            [class] => usize::from(*class) < form.classes,
            [coarse, fine] => *coarse < 20 && usize::from(*fine) < form.classes,
            _ => false,
        };
        if !within {
            return Ok(false);
        }
    }
    Ok(true)
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
                "{}, which are {} and {} over",
                some(usize::try_from(length).unwrap_or(usize::MAX), "byte"),
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
