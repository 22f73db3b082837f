//! Which axis of an array is what.

use std::path::Path;

use crate::config::MAX_CHANNELS;
use crate::error::DataError;

use crate::source::arrays::Layout;

/// One reading of an array's axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) count: u64,
    pub(super) height: u64,
    pub(super) width: u64,
    pub(super) channels: u64,
    pub(super) layout: Layout,
}

/// The only reading of an array's axes.
///
/// `[n, h, w]` is grey images, unless its first or last axis can be the channels of one image; `[n, h, w, c]` and
/// `[n, c, h, w]` are told apart by which of the two axes can be channels, 1 to 4.
///
/// # Errors   [`DataError::Unread`] with all readings if there are several; [`DataError::Format`] if there is none
pub(super) fn read(path: &Path, shape: &[u64]) -> Result<Shape, DataError> {
    let refuse = |expected: &str| {
        let got = format!("shape {shape:?}");
        Err(DataError::format(path, expected.to_owned(), got))
    };
    if shape.first() == Some(&0) {
        return refuse("at least one image");
    }
    match readings(shape).as_slice() {
        [] => refuse("[n, h, w], [n, h, w, c] or [n, c, h, w] with c from 1 to 4"),
        [only] => Ok(*only),
        several => Err(unclear(path, shape, several)),
    }
}

fn readings(shape: &[u64]) -> Vec<Shape> {
    let is_channels = |axis: u64| (1..=MAX_CHANNELS as u64).contains(&axis);
    let last = |count, height, width, channels| Shape {
        count,
        height,
        width,
        channels,
        layout: Layout::ChannelsLast,
    };
    let first = |count, channels, height, width| Shape {
        count,
        height,
        width,
        channels,
        layout: Layout::ChannelsFirst,
    };
    let mut found = Vec::new();
    match *shape {
        [a, b, c] => {
            if is_channels(c) {
                found.push(last(1, a, b, c));
            }
            // one grey image is the same with its channel in front
            if is_channels(a) && a > 1 {
                found.push(first(1, a, b, c));
            }
            found.push(last(a, b, c, 1));
        }
        [count, a, b, c] => {
            if is_channels(c) {
                found.push(last(count, a, b, c));
            }
            if is_channels(a) {
                found.push(first(count, a, b, c));
            }
        }
        _ => {}
    }
    found
}

fn unclear(path: &Path, shape: &[u64], readings: &[Shape]) -> DataError {
    let spoken: Vec<String> = readings.iter().map(describe).collect();
    let plain: Option<Vec<String>> = readings.iter().map(plain_shape).collect();
    let remedy = match plain {
        Some(shapes) => format!("save it as {}", shapes.join(" or ")),
        None => "enlarge the images to more than 4 pixels a side".to_owned(),
    };
    DataError::Unread {
        path: path.to_path_buf(),
        what: format!("{shape:?} is either {}", spoken.join(" or ")),
        remedy,
    }
}

fn describe(reading: &Shape) -> String {
    let Shape {
        count,
        height,
        width,
        channels,
        layout,
    } = reading;
    let images = match count {
        1 => "one image".to_owned(),
        count => format!("{count} images"),
    };
    match (channels, layout) {
        (1, _) => format!("{images} of {height}x{width}"),
        (_, Layout::ChannelsLast) => format!("{images} of {height}x{width}x{channels}"),
        (_, Layout::ChannelsFirst) => {
            format!("{images} of {height}x{width} with {channels} channels first")
        }
    }
}

/// A shape that can only be read as `reading`; the one that its numbers already lie in, if that is one.
fn plain_shape(reading: &Shape) -> Option<String> {
    let Shape {
        count,
        height,
        width,
        channels,
        layout,
    } = *reading;
    let mut shapes = [
        [count, height, width, channels],
        [count, channels, height, width],
    ];
    if layout == Layout::ChannelsFirst {
        shapes.reverse();
    }
    shapes
        .into_iter()
        .find(|shape| readings(shape).len() == 1)
        .map(|shape| format!("{shape:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_with_one_reading_is_read() {
        use Layout::{ChannelsFirst as First, ChannelsLast as Last};
        for (shape, count, height, width, channels, layout) in [
            (vec![16, 16, 16], 16, 16, 16, 1, Last),
            (vec![60000, 28, 28], 60000, 28, 28, 1, Last),
            (vec![1, 16, 16], 1, 16, 16, 1, Last),
            (vec![5, 1, 8], 5, 1, 8, 1, Last),
            (vec![1, 16, 16, 3], 1, 16, 16, 3, Last),
            (vec![3, 16, 16, 3], 3, 16, 16, 3, Last),
            (vec![9, 16, 16, 1], 9, 16, 16, 1, Last),
            (vec![9, 16, 2, 4], 9, 16, 2, 4, Last),
            (vec![9, 1, 16, 16], 9, 16, 16, 1, First),
            (vec![2, 4, 16, 5], 2, 16, 5, 4, First),
        ] {
            let want = Shape {
                count,
                height,
                width,
                channels,
                layout,
            };
            assert_eq!(read(Path::new("a.npy"), &shape).unwrap(), want, "{shape:?}");
        }
    }

    #[test]
    fn a_shape_with_several_readings_is_refused_with_all_of_them() {
        for (shape, sentence) in [
            (
                vec![16, 16, 3],
                "[16, 16, 3] is either one image of 16x16x3 or 16 images of 16x3; save it as [1, 16, 16, 3] or [16, 16, 3, 1]",
            ),
            (
                vec![32, 48, 1],
                "[32, 48, 1] is either one image of 32x48 or 32 images of 48x1; save it as [1, 32, 48, 1] or [32, 48, 1, 1]",
            ),
            (
                vec![3, 32, 48],
                "[3, 32, 48] is either one image of 32x48 with 3 channels first or 3 images of 32x48; save it as [1, 3, 32, 48] or [3, 32, 48, 1]",
            ),
            (
                vec![4, 9, 2],
                "[4, 9, 2] is either one image of 4x9x2 or one image of 9x2 with 4 channels first or 4 images of 9x2; save it as [1, 2, 4, 9] or [1, 9, 2, 4] or [4, 9, 2, 1]",
            ),
            (
                vec![1, 16, 3],
                "[1, 16, 3] is either one image of 1x16x3 or one image of 16x3; save it as [1, 3, 1, 16] or [1, 16, 3, 1]",
            ),
            (
                vec![10, 3, 32, 3],
                "[10, 3, 32, 3] is either 10 images of 3x32x3 or 10 images of 32x3 with 3 channels first; save it as [10, 3, 3, 32] or [10, 32, 3, 3]",
            ),
            (
                vec![10, 1, 32, 1],
                "[10, 1, 32, 1] is either 10 images of 1x32 or 10 images of 32x1; save it as [10, 1, 1, 32] or [10, 32, 1, 1]",
            ),
            (
                vec![9, 4, 4, 3],
                "[9, 4, 4, 3] is either 9 images of 4x4x3 or 9 images of 4x3 with 4 channels first; enlarge the images to more than 4 pixels a side",
            ),
        ] {
            let error = read(Path::new("a.npy"), &shape).unwrap_err();
            assert_eq!(error.to_string(), format!("a.npy: {sentence}"));
        }
    }

    #[test]
    fn a_shape_with_no_reading_is_refused() {
        for (shape, hint) in [
            (vec![], "[n, h, w]"),
            (vec![2, 3], "[n, h, w]"),
            (vec![5, 32, 32, 6], "[n, h, w]"),
            (vec![1, 1, 2, 3, 1], "[n, h, w]"),
            (vec![0, 5, 5], "at least one image"),
            (vec![0, 5, 5, 3], "at least one image"),
        ] {
            let error = read(Path::new("a.npy"), &shape).unwrap_err();
            assert!(matches!(error, DataError::Format { .. }), "{error}");
            assert!(error.to_string().contains(hint), "{error}");
        }
    }
}
