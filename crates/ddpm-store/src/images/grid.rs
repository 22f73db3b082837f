//! Many small images as one picture that can be looked at.

use std::path::Path;

use super::ImageBatch;
use super::format::{PictureFormat, encode};
use crate::atomic;
use crate::error::{Result, StoreError};

/// How a grid is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridOptions {
    /// Images a row; `None` is the ceiling of the square root of their count.
    pub columns: Option<usize>,
    /// Pixels between the images and around them, after enlarging.
    pub padding: usize,
    /// Images smaller than this are enlarged by a whole factor until their longer side reaches it.
    pub min_tile: usize,
}

impl Default for GridOptions {
    fn default() -> Self {
        Self {
            columns: None,
            padding: 2,
            min_tile: 64,
        }
    }
}

/// A finished picture, grey or RGB.
///
/// Images with alpha lie over a checkerboard of light greys, as image editors show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Bytes, channels last: `[height, width, channels]`.
    pub pixels: Vec<u8>,
}

/// Of the gaps: dark enough to show white images, light enough to show black ones.
const GAP: u8 = 64;
/// The checkerboard's two greys, and the side of its squares before enlarging.
const CHECKERS: [u8; 2] = [255, 204];
const CHECKER_SIDE: usize = 4;
/// 2^28 pixels: more than any viewer opens with pleasure.
const MAX_PIXELS: usize = 1 << 28;

impl GridOptions {
    /// Width and height in pixels of a grid of images of `[count, channels, height, width]`; `None` beyond what a
    /// grid may have, or without images.
    #[must_use]
    pub fn size(&self, shape: [usize; 4]) -> Option<[usize; 2]> {
        let [count, _, height, width] = shape;
        let columns = self.columns_of(count)?;
        let scale = self.scale_of(height, width)?;
        let extent = |tiles: usize, tile: usize| {
            let pitch = tile.checked_mul(scale)?.checked_add(self.padding)?;
            pitch.checked_mul(tiles)?.checked_add(self.padding)
        };
        let size = [
            extent(columns, width)?,
            extent(count.div_ceil(columns), height)?,
        ];
        (size[0].checked_mul(size[1])? <= MAX_PIXELS).then_some(size)
    }

    /// How many of `count` images go into a grid of at most so many `pixels`; at least one, if there is any.
    #[must_use]
    pub fn most(&self, shape: [usize; 4], pixels: usize) -> usize {
        let [count, rest @ ..] = shape;
        let fits = |count: usize| {
            let size = self.size([count, rest[0], rest[1], rest[2]]);
            size.is_some_and(|[width, height]| width * height <= pixels)
        };
        // More images never make a smaller grid, so that halving finds the last that fits.
        let (mut most, mut too_many) = (count.min(1), count.saturating_add(1));
        while too_many - most > 1 {
            let middle = most + (too_many - most) / 2;
            match fits(middle) {
                true => most = middle,
                false => too_many = middle,
            }
        }
        most
    }

    fn columns_of(&self, count: usize) -> Option<usize> {
        let columns = self.columns.unwrap_or_else(|| ceil_sqrt(count));
        (count > 0).then(|| columns.clamp(1, count))
    }

    /// By what whole factor images are enlarged; `None` for images without pixels.
    fn scale_of(&self, height: usize, width: usize) -> Option<usize> {
        let longer = height.max(width);
        (height.min(width) > 0).then(|| self.min_tile.div_ceil(longer).max(1))
    }
}

/// A grid whose images come one after the other: it holds their small copies alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridBuilder {
    grid: Grid,
    shape: [usize; 4],
    columns: usize,
    scale: usize,
    padding: usize,
}

impl GridBuilder {
    /// A grid without its images yet.
    ///
    /// # Shapes   `shape`: `[count, channels, height, width]` of all images
    /// # Errors   [`StoreError::Image`] if there are none, or the picture would be too large
    pub fn new(shape: [usize; 4], options: GridOptions) -> Result<Self> {
        let refuse = |problem: &str| StoreError::Image {
            problem: problem.to_owned(),
        };
        let [count, channels, height, width] = shape;
        let (Some(columns), Some(scale)) =
            (options.columns_of(count), options.scale_of(height, width))
        else {
            return Err(refuse("a grid of no images"));
        };
        let [width, height] = options
            .size(shape)
            .ok_or_else(|| refuse("a grid of more than 2^28 pixels; draw fewer images at once"))?;
        let colours = if channels <= 2 { 1 } else { 3 };
        Ok(Self {
            grid: Grid {
                width,
                height,
                channels: colours,
                pixels: vec![GAP; width * height * colours],
            },
            shape,
            columns,
            scale,
            padding: options.padding,
        })
    }

    /// Puts images into their places, the first of them into place `first`, counted from 0. What has no place in
    /// the grid, or another size, is passed over.
    pub fn paste(&mut self, first: usize, images: &ImageBatch) {
        let [count, channels, tile_height, tile_width] = self.shape;
        let (scale, pad) = (self.scale, self.padding);
        if images.shape()[1..] != self.shape[1..] {
            return;
        }
        let (width, colours) = (self.grid.width, self.grid.channels);
        for index in 0..images.count().min(count.saturating_sub(first)) {
            let place = first + index;
            let left = pad + place % self.columns * (tile_width * scale + pad);
            let top = pad + place / self.columns * (tile_height * scale + pad);
            let tile = flatten(&images.interleaved(index), channels, tile_width);
            for y in 0..tile_height * scale {
                let from = &tile[y / scale * tile_width * colours..][..tile_width * colours];
                let at = ((top + y) * width + left) * colours;
                let to = &mut self.grid.pixels[at..at + tile_width * scale * colours];
                for (pixel, out) in from.chunks(colours).zip(to.chunks_mut(scale * colours)) {
                    out.chunks_mut(colours)
                        .for_each(|copy| copy.copy_from_slice(pixel));
                }
            }
        }
    }

    /// How many images have a place.
    #[must_use]
    pub fn places(&self) -> usize {
        self.shape[0]
    }

    /// The grid with the images that it was given.
    #[must_use]
    pub fn finish(self) -> Grid {
        self.grid
    }
}

impl Grid {
    /// Writes the grid as a PNG.
    ///
    /// # Errors   [`StoreError::Io`], [`StoreError::Image`]
    pub fn save_png(&self, path: &Path) -> Result<()> {
        self.save(path, PictureFormat::Png)
    }

    /// Writes the grid.
    ///
    /// # Errors   [`StoreError::Image`] if the format has no such sides, [`StoreError::Io`]
    pub fn save(&self, path: &Path, format: PictureFormat) -> Result<()> {
        let file = encode(
            format,
            &self.pixels,
            [self.width, self.height],
            self.channels,
        )?;
        atomic::write_file(path, &file)
    }
}

fn ceil_sqrt(count: usize) -> usize {
    let root = count.isqrt();
    if root * root == count { root } else { root + 1 }
}

/// Lays an image with alpha over the checkerboard; one without passes.
fn flatten(bytes: &[u8], channels: usize, width: usize) -> Vec<u8> {
    if channels % 2 == 1 {
        return bytes.to_vec();
    }
    let mut flat = Vec::with_capacity(bytes.len());
    for (at, pixel) in bytes.chunks(channels).enumerate() {
        let square = at / width / CHECKER_SIDE + at % width / CHECKER_SIDE;
        let background = u32::from(CHECKERS[square % 2]);
        let (colours, alpha) = pixel.split_at(channels - 1);
        let alpha = u32::from(alpha[0]);
        flat.extend(colours.iter().map(|&colour| {
            let mixed = u32::from(colour) * alpha + background * (255 - alpha);
            ((mixed + 127) / 255) as u8
        }));
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: GridOptions = GridOptions {
        columns: None,
        padding: 1,
        min_tile: 1,
    };

    fn batch(bytes: &[u8], shape: [usize; 4]) -> ImageBatch {
        let pixels = bytes
            .iter()
            .map(|&byte| f32::from(byte) / 127.5 - 1.0)
            .collect();
        ImageBatch::new(pixels, shape).unwrap()
    }

    #[test]
    fn three_grey_images_stand_in_two_columns() {
        let grid = batch(&[10, 20, 30, 40, 50, 60], [3, 1, 1, 2])
            .grid(PLAIN)
            .unwrap();
        assert_eq!((grid.width, grid.height, grid.channels), (7, 5, 1));
        let g = GAP;
        #[rustfmt::skip]
        let expected = [
            g, g,  g,  g, g,  g,  g,
            g, 10, 20, g, 30, 40, g,
            g, g,  g,  g, g,  g,  g,
            g, 50, 60, g, g,  g,  g,
            g, g,  g,  g, g,  g,  g,
        ];
        assert_eq!(grid.pixels, expected);
    }

    #[test]
    fn colours_are_interleaved_and_small_images_enlarged() {
        let options = GridOptions {
            columns: None,
            padding: 0,
            min_tile: 3,
        };
        let grid = batch(&[1, 2, 3, 4, 5, 6], [1, 3, 1, 2])
            .grid(options)
            .unwrap();
        assert_eq!((grid.width, grid.height), (4, 2));
        let row = [1, 3, 5, 1, 3, 5, 2, 4, 6, 2, 4, 6];
        assert_eq!(grid.pixels, [row, row].concat());
        for (side, expected) in [(8, 64), (28, 84), (32, 64), (64, 64), (65, 65)] {
            let image = batch(&vec![0; side * side], [1, 1, side, side]);
            let grid = image.grid(GridOptions::default()).unwrap();
            assert_eq!(grid.width, expected + 4, "side {side}");
        }
    }

    #[test]
    fn transparency_shows_the_checkerboard() {
        // One grey+alpha image, 1x8: opaque black, half, then transparent.
        let mut bytes = vec![0; 8];
        bytes.extend([255, 128, 0, 0, 0, 0, 0, 0]);
        let options = GridOptions {
            padding: 0,
            ..PLAIN
        };
        let grid = batch(&bytes, [1, 2, 1, 8]).grid(options).unwrap();
        assert_eq!(grid.channels, 1);
        assert_eq!(grid.pixels, [0, 127, 255, 255, 204, 204, 204, 204]);
        let rgba = batch(&[200, 100, 50, 255], [1, 4, 1, 1])
            .grid(options)
            .unwrap();
        assert_eq!((rgba.channels, rgba.pixels), (3, vec![200, 100, 50]));
    }

    #[test]
    fn columns_follow_the_count_and_limits_hold() {
        for (count, columns) in [(1, 1), (2, 2), (4, 2), (5, 3), (64, 8), (65, 9)] {
            let grid = batch(&vec![0; count], [count, 1, 1, 1])
                .grid(PLAIN)
                .unwrap();
            assert_eq!(grid.width, columns * 2 + 1, "{count} images");
        }
        let wide = GridOptions {
            columns: Some(9),
            ..PLAIN
        };
        assert_eq!(batch(&[0; 3], [3, 1, 1, 1]).grid(wide).unwrap().width, 7);
        assert!(batch(&[], [0, 1, 1, 1]).grid(PLAIN).is_err());
        let huge = GridOptions {
            padding: usize::MAX,
            ..PLAIN
        };
        assert!(batch(&[0], [1, 1, 1, 1]).grid(huge).is_err());
    }

    #[test]
    fn images_that_come_one_by_one_make_the_same_grid() {
        let all = batch(&(0..60).collect::<Vec<u8>>(), [5, 3, 2, 2]);
        let whole = all.grid(GridOptions::default()).unwrap();
        let mut builder = GridBuilder::new([5, 3, 2, 2], GridOptions::default()).unwrap();
        for first in [4, 0, 2] {
            let bytes: Vec<u8> = (0..60).skip(first * 12).take(24).collect();
            let count = bytes.len() / 12;
            builder.paste(first, &batch(&bytes, [count, 3, 2, 2]));
        }
        // No place is left for these, and this one has another size.
        builder.paste(5, &all);
        builder.paste(usize::MAX, &all);
        builder.paste(0, &batch(&[9; 4], [1, 1, 2, 2]));
        assert_eq!(builder.finish(), whole);
    }

    #[test]
    fn as_many_fit_as_there_are_pixels_for() {
        // Tiles of 64 with gaps of 2: 4 images are 134 pixels a side, 5 are 200 x 134.
        let options = GridOptions::default();
        assert_eq!(options.size([4, 3, 32, 32]), Some([134, 134]));
        assert_eq!(options.size([5, 3, 32, 32]), Some([200, 134]));
        for (count, pixels, expected) in [
            (10, 134 * 134, 4),
            (10, 200 * 134 - 1, 4),
            (10, 200 * 134, 6),
            (3, usize::MAX, 3),
            (1_000_000, 1 << 26, 15_376),
            (7, 0, 1),
            (0, 100, 0),
        ] {
            assert_eq!(
                options.most([count, 3, 32, 32], pixels),
                expected,
                "{count}, {pixels}"
            );
        }
        assert_eq!(options.size([1, 3, 16_384, 16_384]), None);
        assert_eq!(options.most([5, 3, usize::MAX, 9], 100), 1);
        assert_eq!(options.size([1, 3, 0, 9]), None);
    }

    #[test]
    fn a_saved_grid_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grid.png");
        let grid = batch(&[0, 90, 180, 255], [4, 1, 1, 1])
            .grid(GridOptions::default())
            .unwrap();
        grid.save_png(&path).unwrap();
        let read = image::open(&path).unwrap().into_luma8();
        assert_eq!(read.into_raw(), grid.pixels);
    }
}
