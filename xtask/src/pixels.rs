//! Which real image one is nearest to, pixel by pixel.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::Context;

/// Images of one size, each a row of pixels in [-1, 1].
pub(crate) struct Pixels(Vec<Vec<f64>>);

/// The digits that the recipes are trained on, and which each is.
pub(crate) fn digits(root: &Path) -> anyhow::Result<(Pixels, Vec<usize>)> {
    let path = root.join("crates/ddpm-data/data/digits.csv.gz");
    let file = fs::File::open(&path).with_context(|| path.display().to_string())?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    let mut images = Vec::new();
    let mut classes = Vec::new();
    for line in text.lines() {
        let mut numbers: Vec<&str> = line.split(',').collect();
        let class = numbers.pop().context("a digit without its class")?;
        let pixel = |ink: &&str| Ok(ink.parse::<f64>()? / 8.0 - 1.0);
        images.push(numbers.iter().map(pixel).collect::<anyhow::Result<_>>()?);
        classes.push(class.parse()?);
    }
    Ok((Pixels(images), classes))
}

/// All PNGs of a folder, in the order of their names.
pub(crate) fn folder(path: &Path) -> anyhow::Result<Pixels> {
    let mut images = Vec::new();
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.extension().is_some_and(|extension| extension == "png") {
            let picture = image::open(&path)?.into_luma8();
            images.push(
                picture
                    .pixels()
                    .map(|p| f64::from(p.0[0]) / 127.5 - 1.0)
                    .collect(),
            );
        }
    }
    Ok(Pixels(images))
}

impl Pixels {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Which of `real` each is nearest to.
    pub(crate) fn nearest(&self, real: &Self) -> Vec<usize> {
        let distance =
            |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum() };
        let nearest = |x: &Vec<f64>| {
            let distances = real.0.iter().map(|y| distance(x, y)).enumerate();
            distances
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map_or(0, |(index, _)| index)
        };
        self.0.iter().map(nearest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_image_is_found() {
        let images = |rows: &[[f64; 2]]| Pixels(rows.iter().map(|row| row.to_vec()).collect());
        let drawn = images(&[[0.9, 0.1], [0.0, 0.0]]);
        assert_eq!(drawn.nearest(&images(&[[0.0, 0.2], [1.0, 0.0]])), [1, 0]);
    }
}
