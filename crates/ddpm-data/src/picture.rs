//! One image by itself.

use std::path::Path;

use crate::config::DataConfig;
use crate::decode::decode;
use crate::error::{DataError, Fault};
use crate::pixels::write_chw;
use crate::source::read_file;
use crate::transform::Fitting;

/// An image as a network sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// `[channels, height, width]`, in [-1, 1].
    pub pixels: Vec<f32>,
    /// `[channels, height, width]`.
    pub shape: [usize; 3],
    /// `[height, width]` as it lies in its file.
    pub size: [usize; 2],
}

/// Reads one image of any format that sets of images may have, fitted as `config` says: its size, channels, background,
/// fit and limits. What else it says is of sets.
///
/// # Errors   [`DataError::Picture`] for what is no image, or a damaged or too large one
pub fn read_picture(path: &Path, config: &DataConfig) -> Result<Picture, DataError> {
    let bad = |reason: String| DataError::Picture {
        path: path.to_path_buf(),
        reason,
    };
    if path.is_dir() {
        return Err(bad("is a folder".into()));
    }
    let said = |fault: Fault| {
        bad(match fault {
            Fault::Limit {
                what, got, limit, ..
            } => format!("its {what} is {got}, and at most {limit} are read"),
            fault => fault.to_string(),
        })
    };
    let bytes = read_file(path, config.max_file_bytes).map_err(said)?;
    let raster = decode(&bytes, config.max_image_pixels).map_err(said)?;
    let size = [raster.height, raster.width];
    let fitted = Fitting::new(config).apply(raster).map_err(said)?;
    let shape = fitted.shape();
    let mut pixels = vec![0.0; shape.iter().product()];
    write_chw(&fitted, false, &mut pixels);
    Ok(Picture {
        pixels,
        shape,
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Fit, Size};
    use crate::fixtures;

    #[test]
    fn a_picture_is_fitted_as_those_of_sets_are() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.png");
        // 3 columns, 2 rows, grey
        let grey = image::GrayImage::from_raw(3, 2, vec![0, 255, 0, 255, 0, 255]).unwrap();
        std::fs::write(
            &path,
            fixtures::encode(&grey.into(), image::ImageFormat::Png),
        )
        .unwrap();
        let own = read_picture(&path, &DataConfig::default()).unwrap();
        assert_eq!((own.shape, own.size), ([1, 2, 3], [2, 3]));
        assert_eq!(own.pixels, [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]);
        let config = DataConfig {
            size: Some(Size {
                height: 2,
                width: 2,
            }),
            channels: Some(3),
            fit: Fit::Stretch,
            ..DataConfig::default()
        };
        let fitted = read_picture(&path, &config).unwrap();
        assert_eq!((fitted.shape, fitted.size), ([3, 2, 2], [2, 3]));
        assert_eq!(fitted.pixels[..4], fitted.pixels[4..8]);
    }

    #[test]
    fn what_is_no_picture_is_told_by_its_name() {
        let place = tempfile::tempdir().unwrap();
        let text = place.path().join("text.png");
        std::fs::write(&text, "hello").unwrap();
        let large = DataConfig {
            max_file_bytes: 4,
            ..DataConfig::default()
        };
        for (path, config, words) in [
            (text.clone(), DataConfig::default(), "holds no PNG"),
            (
                text,
                large,
                "its size in bytes is 5, and at most 4 are read",
            ),
            (
                place.path().to_owned(),
                DataConfig::default(),
                "is a folder",
            ),
            (
                place.path().join("none.png"),
                DataConfig::default(),
                "cannot be read",
            ),
        ] {
            let refused = read_picture(&path, &config).unwrap_err().to_string();
            assert!(
                refused.contains(words) && refused.contains("give another picture"),
                "{refused}"
            );
            assert!(
                refused.starts_with(&path.display().to_string()),
                "{refused}"
            );
        }
    }
}
