//! Files beside images that say what class each is, and give it numbers: StyleGAN's and EDM's `dataset.json`,
//! `metadata.jsonl` or `metadata.csv` as Hugging Face's `imagefolder` has them, and `labels.csv`. Where one names classes,
//! folders are none.
//!
//! A file applies to the images in its folder and below, the nearest to each. What is not of one of these forms is said
//! and has no effect; what is of one of them and broken is an error.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::columns::Columns;
use crate::error::{DataError, Fault, excerpt};

/// In the order in which they count where a folder has several.
const NAMES: [&str; 5] = [
    "dataset.json",
    "metadata.jsonl",
    "metadata.csv",
    "labels.csv",
    "metadata.parquet",
];
/// The columns that may hold the class, the first that is there.
const COLUMNS: [&str; 10] = [
    "label",
    "labels",
    "class",
    "class_label",
    "class_id",
    "class_name",
    "category",
    "category_id",
    "target",
    "y",
];
/// The columns of a table of values that may hold the image's name, the first that is there.
const IMAGES: [&str; 5] = ["file_name", "filename", "file", "image", "path"];
/// A class number above this is a mistake: embedding tables of that size do not fit anywhere.
const MAX_CLASS: u64 = 1 << 20;

/// Whether a file of this name may say what images are.
pub(super) fn is_metadata(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The class of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Number(usize),
    Name(String),
}

/// What one file says.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) path: PathBuf,
    /// The folder it lies in, as the names of images begin: empty, or with a slash behind it.
    folder: String,
    /// By name relative to the folder; none if it names no classes.
    labels: Option<HashMap<String, Label>>,
    numbers: Numbers,
}

/// Columns of numbers.
#[derive(Debug, Default, PartialEq)]
struct Numbers {
    names: Vec<String>,
    /// By name relative to the folder; NaN where there is no number, shorter than `names` where the last are missing.
    rows: HashMap<String, Vec<f64>>,
}

/// All that such files say of a set.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// By the folder they lie in.
    tables: HashMap<String, Table>,
    /// What a person should know of them.
    pub(super) notes: Vec<String>,
}

/// A file as the search has found it: its name relative to the root, with slashes, and its path for messages.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Metadata {
    /// Reads the files; `read` gives the bytes of one by its number.
    pub(super) fn read(
        files: &[Found],
        read: impl Fn(usize) -> Result<Vec<u8>, Fault>,
    ) -> Result<Self, DataError> {
        let mut all = Self::default();
        // so that the first of a folder counts
        let mut order: Vec<(usize, &Found, &str, &str)> = files
            .iter()
            .enumerate()
            .map(|(index, file)| {
                let at = file.name.rfind('/').map_or(0, |slash| slash + 1);
                let (folder, name) = file.name.split_at(at);
                (index, file, folder, name)
            })
            .collect();
        let rank = |name: &str| NAMES.iter().position(|&known| known == name);
        order.sort_by(|a, b| (a.2, rank(a.3)).cmp(&(b.2, rank(b.3))));
        for (index, file, folder, name) in order {
            if all.tables.contains_key(folder) {
                continue;
            }
            if name == "metadata.parquet" {
                return Err(DataError::Unread {
                    path: file.path.clone(),
                    what: "is of a kind that is not read (Parquet)".into(),
                    remedy:
                        "export it to metadata.csv, or remove it to take classes from the folders"
                            .into(),
                });
            }
            let bytes = read(index).map_err(|fault| fault.at(file.path.clone()))?;
            let parsed = match name {
                "dataset.json" => dataset_json(&bytes),
                "metadata.jsonl" => jsonl(&bytes),
                _ => csv(&bytes),
            };
            let parsed = parsed.map_err(|reason| DataError::Metadata {
                path: file.path.clone(),
                reason,
            })?;
            let said = |text: &str| format!("{} {text}", file.path.display());
            let (classes, numbers) = parsed;
            let labels = match classes {
                Parsed::Another(why) => {
                    all.notes.push(said(why));
                    continue;
                }
                // Numbers may be what is meant.
                Parsed::NoClasses(why) => {
                    all.notes.push(said(why));
                    None
                }
                Parsed::Unlabelled => None,
                Parsed::Labels(labels) => Some(labels),
            };
            let table = Table {
                path: file.path.clone(),
                folder: folder.to_owned(),
                labels,
                numbers,
            };
            all.tables.insert(folder.to_owned(), table);
        }
        Ok(all)
    }

    /// The numbers of images, in the columns of all files that apply to them.
    pub(super) fn columns(&self, images: &[&str]) -> Columns {
        let mut names: Vec<&String> = Vec::new();
        for image in images {
            for name in self.of(image).iter().flat_map(|table| &table.numbers.names) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let mut values = Vec::with_capacity(images.len() * names.len());
        for image in images {
            let table = self.of(image);
            values.extend(names.iter().map(|name| {
                let number = table.and_then(|table| table.number(image, name));
                number.unwrap_or(f64::NAN)
            }));
        }
        let images = match names.is_empty() {
            true => Vec::new(),
            false => images.iter().map(|&image| image.to_owned()).collect(),
        };
        Columns {
            names: names.into_iter().cloned().collect(),
            images,
            values,
        }
    }

    /// The file that applies to an image.
    pub(super) fn of(&self, image: &str) -> Option<&Table> {
        let slashes = image.match_indices('/').rev().map(|(at, _)| at + 1);
        slashes
            .chain([0])
            .find_map(|end| self.tables.get(image.get(..end)?))
    }
}

impl Table {
    /// Whether it names classes.
    pub(super) fn has_classes(&self) -> bool {
        self.labels.is_some()
    }

    /// The class of an image that the file applies to.
    pub(super) fn label(&self, image: &str) -> Option<&Label> {
        let name = image.strip_prefix(&self.folder)?;
        self.labels.as_ref()?.get(name)
    }

    fn number(&self, image: &str, column: &str) -> Option<f64> {
        let name = image.strip_prefix(&self.folder)?;
        let place = self.numbers.names.iter().position(|name| name == column)?;
        self.numbers.rows.get(name)?.get(place).copied()
    }

    /// One more than the largest class number.
    pub(super) fn count(&self) -> usize {
        let labels = self.labels.iter().flat_map(HashMap::values);
        labels
            .map(|label| match label {
                Label::Number(number) => number + 1,
                Label::Name(_) => 0,
            })
            .max()
            .unwrap_or_default()
    }
}

impl Numbers {
    /// Notes a number of an image; the table's rows come one after the other.
    fn add(&mut self, image: &str, column: &str, number: Option<f64>) {
        let Some(number) = number.filter(|number| number.is_finite()) else {
            return;
        };
        let known = self.names.iter().position(|name| name == column);
        let place = known.unwrap_or_else(|| {
            self.names.push(column.to_owned());
            self.names.len() - 1
        });
        let row = self.rows.entry(plain(image)).or_default();
        row.resize(row.len().max(place + 1), f64::NAN);
        row[place] = number;
    }
}

/// What a file turned out to be, and the numbers that it has.
type Read = Result<(Parsed, Numbers), String>;

/// What a file turned out to be.
enum Parsed {
    /// Not of the form that its name stands for, and why it is thought so.
    Another(&'static str),
    /// Of that form, with something in the place of classes that are none.
    NoClasses(&'static str),
    /// Of that form, and without classes.
    Unlabelled,
    Labels(HashMap<String, Label>),
}

/// A class as it is written: a whole number, or a text.
#[derive(Clone, Debug, PartialEq)]
enum Raw {
    Number(u64),
    Text(String),
}

/// Every image with the class it is given, if any.
type Rows = Vec<(String, Option<Raw>)>;

fn to_labels(rows: Rows) -> Result<Parsed, String> {
    if rows.iter().all(|(_, raw)| raw.is_none()) {
        return Ok(Parsed::Unlabelled);
    }
    let named = rows
        .iter()
        .any(|(_, raw)| matches!(raw, Some(Raw::Text(_))));
    let mut labels = HashMap::with_capacity(rows.len());
    for (image, raw) in rows {
        let label = match raw {
            None => continue,
            Some(Raw::Number(number)) if number > MAX_CLASS => {
                return Err(format!(
                    "gives {} the class {number}, and classes go up to {MAX_CLASS}",
                    excerpt(&image)
                ));
            }
            Some(Raw::Number(number)) if named => Label::Name(number.to_string()),
            Some(Raw::Number(number)) => Label::Number(number as usize),
            Some(Raw::Text(name)) => Label::Name(name),
        };
        let image = plain(&image);
        if labels.get(&image).is_some_and(|other| *other != label) {
            return Err(format!("gives {} two different classes", excerpt(&image)));
        }
        labels.insert(image, label);
    }
    Ok(Parsed::Labels(labels))
}

/// A name with slashes and without `./` in front, as images are named here.
fn plain(name: &str) -> String {
    let name = name.replace('\\', "/");
    match name.strip_prefix("./") {
        Some(rest) => rest.to_owned(),
        None => name,
    }
}

/// StyleGAN's: `{"labels": [["00000/img00000000.png", 6], …]}`, or null for a set without (Karras et al. 2020,
/// `dataset_tool.py`).
///
/// The columns of vectors that are no classes are called 0, 1 and so on.
fn dataset_json(bytes: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct File {
        #[serde(default, deserialize_with = "present")]
        labels: Option<Option<Vec<(String, Value)>>>,
    }
    /// Tells null from nothing.
    fn present<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
    where
        D: serde::Deserializer<'de>,
        T: Deserialize<'de>,
    {
        T::deserialize(from).map(Some)
    }
    let another = Parsed::Another("has no labels as StyleGAN's has: it has no effect");
    match serde_json::from_slice::<File>(bytes) {
        Ok(File { labels: None }) => Ok((another, Numbers::default())),
        Ok(File { labels: Some(None) }) => Ok((Parsed::Unlabelled, Numbers::default())),
        Ok(File {
            labels: Some(Some(labels)),
        }) => {
            let mut rows = Rows::with_capacity(labels.len());
            let is_class = |value: &Value| match value {
                Value::Array(vector) => one_hot(vector).is_some(),
                _ => true,
            };
            if !labels.iter().all(|(_, value)| is_class(value)) {
                let why = "has vectors for labels, which are no classes: the set has none";
                let mut numbers = Numbers::default();
                for (image, value) in &labels {
                    for (place, value) in value.as_array().into_iter().flatten().enumerate() {
                        numbers.add(image, &place.to_string(), value.as_f64());
                    }
                }
                return Ok((Parsed::NoClasses(why), numbers));
            }
            for (image, value) in labels {
                let value = match value {
                    Value::Array(vector) => one_hot(&vector).map(Raw::Number),
                    value => match raw(&value) {
                        Ok(value) => value,
                        Err(()) => return Err(no_class(&image, &value)),
                    },
                };
                rows.push((image, value));
            }
            Ok((to_labels(rows)?, Numbers::default()))
        }
        Err(error) if error.is_data() => {
            let keys: Result<HashMap<String, IgnoredAny>, _> = serde_json::from_slice(bytes);
            match keys {
                Ok(keys) if keys.contains_key("labels") => Err(format!(
                    "does not list labels as [[\"image.png\", 0], …] ({error})"
                )),
                _ => Ok((another, Numbers::default())),
            }
        }
        Err(error) => Err(format!("is not JSON ({error})")),
    }
}

/// The place of the only one among zeros.
fn one_hot(vector: &[Value]) -> Option<u64> {
    let numbers: Option<Vec<f64>> = vector.iter().map(Value::as_f64).collect();
    let numbers = numbers?;
    let place = numbers.iter().position(|&number| number == 1.0)?;
    let zeros = numbers.iter().filter(|&&number| number == 0.0).count();
    (zeros + 1 == numbers.len()).then_some(place as u64)
}

/// A class in JSON; none for null, and for -1, which stands for no class.
fn raw(value: &Value) -> Result<Option<Raw>, ()> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(Raw::Number(u64::from(*flag)))),
        Value::Number(number) => match text(&number.to_string()) {
            Some(Raw::Text(_)) => Err(()),
            raw => Ok(raw),
        },
        Value::String(string) => Ok(text(string)),
        Value::Array(_) | Value::Object(_) => Err(()),
    }
}

/// A class in a text: a whole number, also as `3.0`, or a name.
fn text(text: &str) -> Option<Raw> {
    let text = text.trim();
    let whole = text.strip_suffix(".0").unwrap_or(text);
    match whole.parse() {
        Ok(number) => Some(Raw::Number(number)),
        Err(_) if text.is_empty() || whole == "-1" => None,
        Err(_) => Some(Raw::Text(text.to_owned())),
    }
}

fn no_class(image: &str, value: &Value) -> String {
    format!(
        "gives {} the label {}, which is no class: a whole number from 0 on or a name",
        excerpt(image),
        excerpt(&value.to_string())
    )
}

fn not_imagefolders() -> Read {
    let why = "has no column file_name: it has no effect";
    Ok((Parsed::Another(why), Numbers::default()))
}

/// One JSON object a line, of which `file_name` is the image.
fn jsonl(bytes: &[u8]) -> Read {
    let (mut rows, mut numbers) = (Rows::new(), Numbers::default());
    let mut several = false;
    let mut column = None;
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let number = number + 1;
        let row: serde_json::Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| format!("has no JSON object in line {number} ({error})"))?;
        let Some(Value::String(image)) = row.get("file_name") else {
            match rows.is_empty() {
                true => return not_imagefolders(),
                false => return Err(format!("has no file_name in line {number}")),
            }
        };
        column = column.or_else(|| COLUMNS.into_iter().find(|&name| row.contains_key(name)));
        let class = match column.and_then(|column| row.get(column)) {
            None => None,
            Some(Value::Array(_) | Value::Object(_)) => {
                several = true;
                None
            }
            Some(value) => raw(value).map_err(|()| no_class(image, value))?,
        };
        for (heading, value) in &row {
            let number = match value {
                Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
                value => value.as_f64(),
            };
            numbers.add(image, heading, number);
        }
        rows.push((image.clone(), class));
    }
    let classes = match several {
        true => Parsed::NoClasses(
            "has more than one label an image, which are no classes: the set has none",
        ),
        false => to_labels(rows)?,
    };
    Ok((classes, numbers))
}

/// A table with headings, whose column [`IMAGES`] is the image.
fn csv(bytes: &[u8]) -> Read {
    let broken = |error: csv::Error| format!("is not a table of comma-separated values ({error})");
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .from_reader(bytes);
    let headings = reader.headers().map_err(broken)?.clone();
    let place = |name: &str| {
        headings
            .iter()
            .position(|heading| heading.trim_start_matches('\u{feff}') == name)
    };
    let Some(images) = IMAGES.into_iter().find_map(place) else {
        return not_imagefolders();
    };
    let classes = COLUMNS.into_iter().find_map(place);
    let (mut rows, mut numbers) = (Rows::new(), Numbers::default());
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let image = record.get(images).unwrap_or_default();
        let class = classes.and_then(|column| record.get(column));
        let class = class.and_then(text);
        for (place, (heading, value)) in headings.iter().zip(&record).enumerate() {
            if place != images {
                numbers.add(
                    image,
                    heading.trim_start_matches('\u{feff}'),
                    value.trim().parse().ok(),
                );
            }
        }
        rows.push((image.to_owned(), class));
    }
    Ok((to_labels(rows)?, numbers))
}

#[cfg(test)]
mod tests;
