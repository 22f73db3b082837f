//! Labels from arrays: whole numbers of any type, or one-hot rows.

use super::{Array, READ_BYTES};
use crate::classes::Classes;
use crate::error::DataError;

/// A class number above this is a mistake: embedding tables of that size do not fit anywhere.
const MAX_CLASS: f32 = (1 << 20) as f32;

/// The classes of `count` images: `[n]` or `[n, 1]` of whole numbers or bools, or `[n, k]` of one-hot rows.
///
/// # Errors   [`DataError::Unread`] for anything else
pub(super) fn read(array: &Array, count: usize) -> Result<Classes, DataError> {
    let path = array.blob.path();
    let refuse = |what: String| DataError::Unread {
        path: path.to_path_buf(),
        what,
        remedy: "save one whole number from 0 on an image, or one-hot rows".into(),
    };
    let shape = &array.header.shape;
    let columns = match *shape.as_slice() {
        [rows] if rows == count as u64 => 1,
        [rows, columns] if rows == count as u64 && columns > 0 => columns,
        _ => {
            return Err(refuse(format!(
                "holds labels of shape {shape:?} for {count} images"
            )));
        }
    };
    // at most the length of the file
    let row_bytes = columns as usize * array.number.bytes();
    let rows_at_once = (READ_BYTES / row_bytes).max(1);
    let mut labels = Vec::with_capacity(count);
    while labels.len() < count {
        let rows = rows_at_once.min(count - labels.len());
        let mut bytes = vec![0; rows * row_bytes];
        let start = array.header.data_start + (labels.len() * row_bytes) as u64;
        array
            .blob
            .read(start, &mut bytes)
            .map_err(|error| DataError::io(path, error))?;
        for row in array.number.read(&bytes).chunks_exact(columns as usize) {
            let index = labels.len();
            labels.push(label(row).ok_or_else(|| refuse(describe(row, index)))?);
        }
    }
    let mut classes = Classes::numbered(labels);
    if columns > 1 {
        classes.count = Some(columns as usize);
    }
    Ok(classes)
}

fn label(row: &[f32]) -> Option<usize> {
    if let &[value] = row {
        let whole = value.fract() == 0.0 && (0.0..=MAX_CLASS).contains(&value);
        return whole.then_some(value as usize);
    }
    let one_hot = row.iter().all(|&value| value == 0.0 || value == 1.0)
        && row.iter().filter(|&&value| value == 1.0).count() == 1;
    row.iter()
        .position(|&value| value == 1.0)
        .filter(|_| one_hot)
}

fn describe(row: &[f32], index: usize) -> String {
    match row {
        &[value] => format!(
            "holds the label {value} at {index}, and labels are whole numbers from 0 to {MAX_CLASS}"
        ),
        _ => format!(
            "holds rows of {} numbers, and row {index} is not one 1 among zeros",
            row.len()
        ),
    }
}

/// Labels that nobody asked for: those that cannot be read are skipped with a warning, since training needs none.
///
/// # Errors   those of reading the file
pub(super) fn or_none(labels: Result<Classes, DataError>) -> Result<Classes, DataError> {
    match labels {
        Err(error @ DataError::Io { .. }) => Err(error),
        Err(error) => {
            tracing::warn!("the labels are skipped: {error}");
            Ok(Classes::default())
        }
        read => read,
    }
}
