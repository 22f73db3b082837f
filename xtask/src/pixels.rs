//! How near images are to real ones, pixel by pixel.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::Context;

/// Images of one size, each a row of pixels in [-1, 1].
pub(crate) struct Pixels(Vec<Vec<f64>>);

/// How near some images are to others.
pub(crate) struct Cost {
    /// The unbiased squared discrepancy of the kernel (x·y/d + 1)³ (Bińkowski et al. 2018, section 4), of pixels.
    pub(crate) kernel: f64,
    /// The root of the mean squared difference of a pixel to the nearest image, averaged.
    pub(crate) nearest: f64,
}

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
    /// Every second image, and the others.
    pub(crate) fn halves(&self) -> (Self, Self) {
        let every_second = |first| Self(self.0.iter().skip(first).step_by(2).cloned().collect());
        (every_second(0), every_second(1))
    }

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

    /// How near these are to `real`.
    pub(crate) fn beside(&self, real: &Self) -> Cost {
        let squares = |x: &[f64], y: &[f64]| {
            let squares = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y));
            squares.sum::<f64>() / x.len() as f64
        };
        let nearest = self.0.iter().map(|x| {
            let distances = real.0.iter().map(|y| squares(x, y));
            distances.fold(f64::INFINITY, f64::min).sqrt()
        });
        let own = |images: &Self| {
            let n = images.0.len() as f64;
            let all = mean(images, images) * n * n;
            let same: f64 = images.0.iter().map(|x| kernel(x, x)).sum();
            (all - same) / (n * (n - 1.0))
        };
        Cost {
            kernel: own(self) + own(real) - 2.0 * mean(self, real),
            nearest: nearest.sum::<f64>() / self.0.len() as f64,
        }
    }
}

fn mean(a: &Pixels, b: &Pixels) -> f64 {
    let sums =
        a.0.iter()
            .map(|x| b.0.iter().map(|y| kernel(x, y)).sum::<f64>());
    sums.sum::<f64>() / (a.0.len() * b.0.len()) as f64
}

fn kernel(x: &[f64], y: &[f64]) -> f64 {
    let dot: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
    (dot / x.len() as f64 + 1.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_images_are_near() {
        let images = |rows: &[[f64; 2]]| Pixels(rows.iter().map(|row| row.to_vec()).collect());
        let a = images(&[[0.0, 0.0], [1.0, 1.0]]);
        let found = a.beside(&images(&[[0.0, 0.0], [1.0, 0.0]]));
        // Kernels of a: 1, 1 and 8, of b: 1, 1 and 3.375, between them 1, 1, 1 and 3.375.
        assert!((found.kernel - (1.0 + 1.0 - 2.0 * 6.375 / 4.0)).abs() < 1e-12);
        assert!((found.nearest - 0.5 * 0.5f64.sqrt()).abs() < 1e-12);
    }
}
