//! Pictures out of tensors: folders of PNGs, grids and animations.
//!
//! The conversion from f32 to u8 happens here and nowhere else in the program.

mod animation;
mod folder;
mod format;
mod grid;
mod row_labels;

use std::path::{Path, PathBuf};

pub use self::animation::{Animation, save_animation};
pub use self::folder::{Numbered, check_writable, is_ours, numbered_name};
pub use self::format::{AnimationFormat, PictureFormat};
pub use self::grid::{Grid, GridBuilder, GridOptions};

pub(crate) use self::format::write_png;

use crate::error::{Result, StoreError};

/// A pixel value as a byte: round((x + 1)·127.5), clamped to 0..=255.
///
/// # Units   `x` in [-1, 1]; NaN gives 0, so that a diverged image is still a picture
#[must_use]
pub fn to_u8(x: f32) -> u8 {
    // A cast saturates, and takes NaN to 0.
    ((x + 1.0) * 127.5).round() as u8
}

/// Images of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBatch {
    pixels: Vec<f32>,
    shape: [usize; 4],
}

impl ImageBatch {
    /// Images from a tensor.
    ///
    /// # Shapes   `pixels`: `[count, channels, height, width]` = `shape`, row-major; 1 channel is grey, 2
    /// grey and alpha, 3 RGB, 4 RGBA
    /// # Units    pixels in [-1, 1]; an alpha of -1 is transparent
    /// # Errors   [`StoreError::Image`] for another channel count, a zero extent or a wrong length
    pub fn new(pixels: Vec<f32>, shape: [usize; 4]) -> Result<Self> {
        let refuse = |problem: String| Err(StoreError::Image { problem });
        let [_, channels, height, width] = shape;
        if !(1..=4).contains(&channels) {
            return refuse(format!(
                "images of {channels} channels; a picture has 1 to 4"
            ));
        }
        if height == 0 || width == 0 {
            return refuse(format!("images of {height}x{width} pixels"));
        }
        let elements = shape
            .iter()
            .try_fold(1_usize, |count, &extent| count.checked_mul(extent));
        if elements != Some(pixels.len()) {
            return refuse(format!(
                "{} pixel values for the shape {shape:?}",
                pixels.len()
            ));
        }
        Ok(Self { pixels, shape })
    }

    /// `[count, channels, height, width]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// How many images there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape[0]
    }

    /// The pixels and their shape.
    #[must_use]
    pub fn into_parts(self) -> (Vec<f32>, [usize; 4]) {
        (self.pixels, self.shape)
    }

    /// One image as bytes, channels last.
    pub(crate) fn interleaved(&self, index: usize) -> Vec<u8> {
        let [_, channels, height, width] = self.shape;
        let plane = height * width;
        let image = &self.pixels[index * channels * plane..][..channels * plane];
        (0..plane)
            .flat_map(|at| (0..channels).map(move |channel| to_u8(image[channel * plane + at])))
            .collect()
    }

    /// Writes each image as `DIRECTORY/00000.png`, counting from `first_index`; returns the paths.
    ///
    /// # Errors   [`StoreError::Io`], [`StoreError::Image`]
    pub fn save_separate(&self, directory: &Path, first_index: usize) -> Result<Vec<PathBuf>> {
        let [count, channels, height, width] = self.shape;
        let mut paths = Vec::with_capacity(count);
        for index in 0..count {
            let path = directory.join(numbered_name((first_index + index) as u64));
            write_png(&path, &self.interleaved(index), width, height, channels)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Lays the images out side by side.
    ///
    /// # Errors   [`StoreError::Image`] if there are none, or the picture would be too large
    pub fn grid(&self, options: GridOptions) -> Result<Grid> {
        let mut builder = GridBuilder::new(self.shape, options)?;
        builder.paste(0, self);
        Ok(builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_the_middle_and_what_lies_beyond() {
        let cases = [
            (-1.0, 0),
            (1.0, 255),
            (0.0, 128),
            (-0.996, 1),
            (-7.0, 0),
            (1e30, 255),
            (f32::NEG_INFINITY, 0),
            (f32::INFINITY, 255),
            (f32::NAN, 0),
        ];
        for (x, expected) in cases {
            assert_eq!(to_u8(x), expected, "{x}");
        }
        // Every byte survives the way there and back.
        for byte in 0..=255_u8 {
            assert_eq!(to_u8(f32::from(byte) / 127.5 - 1.0), byte);
        }
    }

    #[test]
    fn separate_pngs_keep_every_channel_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        for channels in 1..=4_usize {
            let bytes: Vec<u8> = (0..2 * channels * 2 * 3).map(|i| (i * 5) as u8).collect();
            let pixels = bytes
                .iter()
                .map(|&byte| f32::from(byte) / 127.5 - 1.0)
                .collect();
            let batch = ImageBatch::new(pixels, [2, channels, 2, 3]).unwrap();
            let paths = batch
                .save_separate(&directory.path().join("out"), 7)
                .unwrap();
            assert!(paths[1].ends_with("out/00008.png"));
            let read = image::open(&paths[1]).unwrap();
            assert_eq!((read.width(), read.height()), (3, 2));
            assert_eq!(usize::from(read.color().channel_count()), channels);
            for (at, pixel) in read.as_bytes().chunks(channels).enumerate() {
                for (channel, &byte) in pixel.iter().enumerate() {
                    assert_eq!(byte, bytes[channels * 6 + channel * 6 + at]);
                }
            }
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        for (length, shape) in [
            (5, [1, 5, 1, 1]),
            (0, [1, 0, 1, 1]),
            (0, [1, 1, 0, 4]),
            (3, [1, 1, 2, 2]),
            (0, [usize::MAX, 4, 2, 2]),
        ] {
            let refused = ImageBatch::new(vec![0.0; length], shape);
            assert!(
                matches!(refused, Err(StoreError::Image { .. })),
                "{shape:?}"
            );
        }
    }
}
