//! Many small images as one picture that can be looked at.

use std::path::Path;

use super::{ImageBatch, write_png};
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

impl Grid {
    pub(super) fn new(batch: &ImageBatch, options: GridOptions) -> Result<Self> {
        let [count, channels, tile_height, tile_width] = batch.shape();
        let refuse = |problem: &str| {
            Err(StoreError::Image {
                problem: problem.to_owned(),
            })
        };
        if count == 0 {
            return refuse("a grid of no images");
        }
        let columns = options
            .columns
            .unwrap_or_else(|| ceil_sqrt(count))
            .clamp(1, count);
        let rows = count.div_ceil(columns);
        let scale = options
            .min_tile
            .div_ceil(tile_height.max(tile_width))
            .max(1);
        let extent = |tiles: usize, tile: usize| {
            let pitch = tile.checked_mul(scale)?.checked_add(options.padding)?;
            pitch.checked_mul(tiles)?.checked_add(options.padding)
        };
        let size = extent(columns, tile_width).zip(extent(rows, tile_height));
        let Some((width, height)) =
            size.filter(|(w, h)| w.checked_mul(*h).is_some_and(|pixels| pixels <= MAX_PIXELS))
        else {
            return refuse("a grid of more than 2^28 pixels; draw fewer images at once");
        };
        let colours = if channels <= 2 { 1 } else { 3 };
        let mut pixels = vec![GAP; width * height * colours];
        for index in 0..count {
            let left = options.padding + index % columns * (tile_width * scale + options.padding);
            let top = options.padding + index / columns * (tile_height * scale + options.padding);
            let tile = flatten(&batch.interleaved(index), channels, tile_width);
            for y in 0..tile_height * scale {
                let from = &tile[y / scale * tile_width * colours..][..tile_width * colours];
                let at = ((top + y) * width + left) * colours;
                let to = &mut pixels[at..at + tile_width * scale * colours];
                for (pixel, out) in from.chunks(colours).zip(to.chunks_mut(scale * colours)) {
                    out.chunks_mut(colours)
                        .for_each(|copy| copy.copy_from_slice(pixel));
                }
            }
        }
        Ok(Self {
            width,
            height,
            channels: colours,
            pixels,
        })
    }

    /// Writes the grid as a PNG.
    ///
    /// # Errors   [`StoreError::Io`], [`StoreError::Image`]
    pub fn save_png(&self, path: &Path) -> Result<()> {
        write_png(path, &self.pixels, self.width, self.height, self.channels)
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
