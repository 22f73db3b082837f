//! Images of several folders side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage, Rgba, RgbaImage};

use crate::gallery::beside;

/// Images of a folder, in rows of so many.
const COLUMNS: u32 = 8;
const ROWS: u32 = 6;
/// Pixels that an image is enlarged to, at least.
const SIDE: u32 = 32;
/// Pixels between images.
const GAP: u32 = 2;

/// Draws the first images of each folder, by name, as one block beside the others; transparency lies over white.
///
/// # Errors
/// If an image cannot be read, or there are too few of them.
pub(super) fn draw(folders: &[PathBuf], picture: &Path) -> anyhow::Result<()> {
    let mut blocks = Vec::new();
    for folder in folders {
        blocks.push(block(folder)?);
    }
    let said = || picture.display().to_string();
    beside(&blocks)?.save(picture).with_context(said)
}

fn block(folder: &Path) -> anyhow::Result<RgbImage> {
    let said = || folder.display().to_string();
    let entries = std::fs::read_dir(folder).with_context(said)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
    paths.sort();
    let count = COLUMNS * ROWS;
    ensure!(paths.len() >= count as usize, "{}: too few images", said());
    let mut block: Option<RgbaImage> = None;
    for (i, path) in (0..count).zip(&paths) {
        let read = image::open(path).with_context(|| path.display().to_string())?;
        let rgba = read.into_rgba8();
        let scale = SIDE.div_ceil(rgba.width());
        let (width, height) = (scale * rgba.width(), scale * rgba.height());
        let rgba = imageops::resize(&rgba, width, height, FilterType::Nearest);
        let block = block.get_or_insert_with(|| {
            let across = |side: u32, of: u32| of * (side + GAP) - GAP;
            let white = Rgba([255; 4]);
            RgbaImage::from_pixel(across(width, COLUMNS), across(height, ROWS), white)
        });
        let (left, top) = (i % COLUMNS * (width + GAP), i / COLUMNS * (height + GAP));
        imageops::overlay(block, &rgba, left.into(), top.into());
    }
    let block = block.context("no image")?;
    Ok(DynamicImage::from(block).into_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stand_side_by_side_and_transparency_is_white() {
        let folder = tempfile::tempdir().unwrap();
        let pixels = image::RgbaImage::from_pixel(4, 4, image::Rgba([10, 20, 30, 0]));
        for i in 0..COLUMNS * ROWS {
            pixels
                .save(folder.path().join(format!("{i:05}.png")))
                .unwrap();
        }
        let picture = folder.path().join("sheet.png");
        let twice = [folder.path().to_owned(), folder.path().to_owned()];
        draw(&twice, &picture).unwrap();
        let sheet = image::open(&picture).unwrap().into_rgb8();
        assert_eq!(sheet.height(), ROWS * (SIDE + GAP) - GAP);
        assert!(sheet.width() > 2 * (COLUMNS * (SIDE + GAP) - GAP));
        assert!(sheet.pixels().all(|pixel| pixel.0 == [255; 3]));
    }
}
