//! Images as pytorch-fid, clean-fid and torch-fidelity bring them to Inception's size: three programs, three figures.
//!
//! Each does what its program does, in the same order and precision, so that figures differ by rounding alone.

use std::borrow::Cow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::images::Images;

/// Height and width of the network's input.
const SIDE: usize = 299;
const AREA: usize = SIDE * SIDE;

/// The program whose resizing and scaling is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Bilinear between the centres of pixels, without smoothing, to [-1, 1].
    PytorchFid,
    /// Pillow's bicubic (a = -½), which smooths when it shrinks, to [-1, 0.992].
    CleanFid,
    /// Bilinear as TensorFlow 1 does it, between the corners of pixels, to [-1, 0.992].
    TorchFidelity,
}

impl Resize {
    /// Every program.
    pub const ALL: [Self; 3] = [Self::PytorchFid, Self::CleanFid, Self::TorchFidelity];

    /// The name, as in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PytorchFid => "pytorch-fid",
            Self::CleanFid => "clean-fid",
            Self::TorchFidelity => "torch-fidelity",
        }
    }

    /// What the network sees. Grey images have three equal channels, alpha lets black shine through (colour·alpha/255,
    /// rounded to a byte), and channels beyond the fourth are not seen.
    ///
    /// # Shapes   returns `[n, 3, 299, 299]`, row-major
    ///
    /// # Units   [-1, 1], as the program scales them
    #[must_use]
    pub fn input(self, images: &Images) -> Vec<f32> {
        let [count, channels, height, width] = images.shape();
        let mut input = vec![0.0; count * 3 * AREA];
        let of_images = input.par_chunks_exact_mut(3 * AREA).enumerate();
        of_images.for_each(|(index, to)| {
            let (colours, planes) = over_black(images.image(index), channels, height * width);
            let resized = self.resized(&colours, [planes, height, width]);
            let scaled = resized.iter().map(|&byte| self.scaled(byte));
            // Of a grey image each channel is the one that there is.
            for (to, from) in to.iter_mut().zip(scaled.cycle()) {
                *to = from;
            }
        });
        input
    }

    /// Each channel by itself; an image of 299×299 as it is.
    ///
    /// # Shapes   `image`: `[channels, height, width]`; returns `[channels, 299, 299]`
    ///
    /// # Units   bytes, 0 to 255; an image without pixels is 0 everywhere
    ///
    /// # Panics   if there are fewer bytes than the shape says
    #[must_use]
    pub fn resized(self, image: &[u8], [channels, height, width]: [usize; 3]) -> Vec<f32> {
        let area = height * width;
        if area == 0 {
            return vec![0.0; channels * AREA];
        }
        let planes = image[..channels * area].chunks_exact(area);
        let resize = |plane: &[u8]| -> Vec<f32> {
            match self {
                _ if [height, width] == [SIDE; 2] => {
                    plane.iter().map(|&byte| f32::from(byte)).collect()
                }
                Self::PytorchFid => bilinear(plane, [height, width], Anchor::Centre),
                Self::TorchFidelity => bilinear(plane, [height, width], Anchor::Corner),
                Self::CleanFid => bicubic(plane, [height, width]),
            }
        };
        planes.flat_map(resize).collect()
    }

    /// A byte's place in the network's input.
    fn scaled(self, byte: f32) -> f32 {
        match self {
            Self::PytorchFid => 2.0 * (byte / 255.0) - 1.0,
            Self::CleanFid | Self::TorchFidelity => (byte - 128.0) / 128.0,
        }
    }
}

/// The colours that are seen, and how many channels they have: one or three. Without channels all is black.
///
/// # Shapes   `image`: `[channels, area]`; returns `[1 or 3, area]`
fn over_black(image: &[u8], channels: usize, area: usize) -> (Cow<'_, [u8]>, usize) {
    match channels {
        0 => (Cow::Owned(vec![0; area]), 1),
        1 => (Cow::Borrowed(image), 1),
        2 | 4 => {
            let planes = channels - 1;
            let (colours, alpha) = image.split_at(planes * area);
            let seen = colours.iter().zip(alpha.iter().cycle());
            let seen = seen.map(|(&colour, &alpha)| {
                ((2 * u32::from(colour) * u32::from(alpha) + 255) / 510) as u8
            });
            let seen: Vec<u8> = seen.collect();
            (Cow::Owned(seen), planes)
        }
        _ => (Cow::Borrowed(&image[..3 * area]), 3),
    }
}

/// What lies over what where an image is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    /// The images' borders: pixels are squares around their centres.
    Centre,
    /// The first pixels; beyond the last one it is repeated.
    Corner,
}

/// Where an output lies between two inputs.
#[derive(Debug, Clone, Copy)]
struct Between {
    low: usize,
    high: usize,
    /// How far it is on the way from the lower one.
    share: f32,
}

/// All outputs along a side of `size` inputs, in f32 as both programs compute them.
fn between(size: usize, anchor: Anchor) -> Vec<Between> {
    let scale = size as f32 / SIDE as f32;
    let of = |to: usize| {
        let at = match anchor {
            // Rounded once, as PyTorch's compiled code does: in an image of hundreds of pixels it shows.
            Anchor::Centre => scale.mul_add(to as f32 + 0.5, -0.5).max(0.0),
            Anchor::Corner => scale * to as f32,
        };
        let low = (at as usize).min(size - 1);
        Between {
            low,
            high: (low + 1).min(size - 1),
            share: at - low as f32,
        }
    };
    (0..SIDE).map(of).collect()
}

/// # Shapes   `plane`: `[height, width]`, not empty; returns `[299, 299]`
fn bilinear(plane: &[u8], [height, width]: [usize; 2], anchor: Anchor) -> Vec<f32> {
    let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
    let columns = between(width, anchor);
    let mut resized = Vec::with_capacity(AREA);
    for row in between(height, anchor) {
        let line = |index: usize| &plane[index * width..][..width];
        let (upper, lower) = (line(row.low), line(row.high));
        resized.extend(columns.iter().map(|column| {
            let along = |line: &[u8]| {
                let (a, b) = (f32::from(line[column.low]), f32::from(line[column.high]));
                mix(a, b, column.share)
            };
            mix(along(upper), along(lower), row.share)
        }));
    }
    resized
}

/// The inputs of an output and their weights.
#[derive(Debug)]
struct Window {
    first: usize,
    weights: Vec<f64>,
}

/// Keys' cubic with a = -½ (Keys 1981), by Horner's rule as Pillow evaluates it.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// All outputs along a side of `size` inputs. Where there are fewer outputs than inputs the cubic is as many times wider.
fn windows(size: usize) -> Vec<Window> {
    let scale = size as f64 / SIDE as f64;
    let widened = scale.max(1.0);
    let (support, narrow) = (2.0 * widened, 1.0 / widened);
    let of = |to: usize| {
        let centre = (to as f64 + 0.5) * scale;
        // A cast takes what is below 0 to 0.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(size);
        let weight = |from: usize| cubic((from as f64 - centre + 0.5) * narrow);
        let mut weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        Window { first, weights }
    };
    (0..SIDE).map(of).collect()
}

/// Rows first, then columns, with f32 between them and clipped to bytes, not rounded: Pillow's mode "F" as clean-fid uses
/// it. (Pillow 13 begins with columns where that is less work, which rounds otherwise in the last bit.)
///
/// # Shapes   `plane`: `[height, width]`, not empty; returns `[299, 299]`
fn bicubic(plane: &[u8], [height, width]: [usize; 2]) -> Vec<f32> {
    let columns = windows(width);
    let mut narrow = Vec::with_capacity(height * SIDE);
    for line in plane.chunks_exact(width) {
        narrow.extend(columns.iter().map(|window| {
            let pairs = line[window.first..].iter().zip(&window.weights);
            let sum: f64 = pairs.map(|(&byte, weight)| f64::from(byte) * weight).sum();
            sum as f32
        }));
    }
    let mut resized = Vec::with_capacity(AREA);
    for window in windows(height) {
        let mut sums = [0.0f64; SIDE];
        let lines = narrow[window.first * SIDE..].chunks_exact(SIDE);
        for (line, weight) in lines.zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(line) {
                *sum += f64::from(value) * weight;
            }
        }
        resized.extend(sums.iter().map(|&sum| (sum as f32).clamp(0.0, 255.0)));
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern.
    fn bytes(count: usize) -> Vec<u8> {
        let byte = |at: usize| ((at * 7919 + at / 7) % 251) as u8;
        (0..count).map(byte).collect()
    }

    #[test]
    fn a_constant_image_stays_constant() {
        for resize in Resize::ALL {
            for [height, width] in [[1, 1], [5, 7], [32, 32], [299, 31], [310, 700]] {
                let resized = resize.resized(&vec![201; height * width], [1, height, width]);
                assert_eq!(resized.len(), AREA);
                let constant = resized.iter().all(|&byte| byte == 201.0);
                assert!(constant, "{} {height}×{width}", resize.name());
            }
        }
    }

    #[test]
    fn an_image_of_the_network_s_size_passes_unchanged() {
        let image = bytes(3 * AREA);
        let expected: Vec<f32> = image.iter().map(|&byte| f32::from(byte)).collect();
        for resize in Resize::ALL {
            let resized = resize.resized(&image, [3, SIDE, SIDE]);
            assert!(resized == expected, "{}", resize.name());
        }
        // The formulas say so, too.
        let plane = &image[..AREA];
        for resized in [
            bilinear(plane, [SIDE; 2], Anchor::Centre),
            bilinear(plane, [SIDE; 2], Anchor::Corner),
            bicubic(plane, [SIDE; 2]),
        ] {
            assert!(resized == expected[..AREA]);
        }
    }

    #[test]
    fn grey_images_are_those_of_three_equal_channels() {
        let grey = bytes(2 * 6 * 9);
        let (first, second) = grey.split_at(54);
        let colour = [first, first, first, second, second, second].concat();
        let white = [255_u8; 54];
        let white = white.as_slice();
        // White that is as transparent as grey is dark, and grey that is opaque.
        let transparent = [white, first, white, second].concat();
        let opaque = [first, white, second, white].concat();
        let images = |bytes: Vec<u8>, channels| Images::new(bytes, [2, channels, 6, 9]).unwrap();
        for resize in Resize::ALL {
            let expected = resize.input(&images(grey.clone(), 1));
            assert_eq!(expected.len(), 2 * 3 * AREA);
            assert!(expected[..AREA] == expected[2 * AREA..3 * AREA]);
            assert!(expected[..AREA] != expected[3 * AREA..4 * AREA]);
            for (bytes, channels) in [(&colour, 3), (&transparent, 2), (&opaque, 2)] {
                let seen = resize.input(&images(bytes.clone(), channels));
                assert!(seen == expected, "{} {channels}", resize.name());
            }
        }
    }

    #[test]
    fn alpha_lets_black_through() {
        let image = [200, 10, 255, 0, 255, 128];
        let (seen, planes) = over_black(&image, 2, 3);
        // 200·0/255, 10·255/255, 255·128/255
        assert_eq!((&*seen, planes), (&[0, 10, 128][..], 1));
        let (seen, planes) = over_black(&[3, 100, 200, 51], 4, 1);
        assert_eq!((&*seen, planes), (&[1, 20, 40][..], 3));
    }

    #[test]
    fn white_is_scaled_as_each_program_does() {
        let images = Images::new(vec![255; 4], [1, 1, 2, 2]).unwrap();
        let expected = [1.0, 127.0 / 128.0, 127.0 / 128.0];
        for (resize, white) in Resize::ALL.into_iter().zip(expected) {
            assert!(resize.input(&images).iter().all(|&x| x == white));
        }
    }

    #[test]
    fn names_are_those_of_configurations() {
        for resize in Resize::ALL {
            let written = serde_json::to_value(resize).unwrap();
            assert_eq!(written, resize.name());
        }
    }

    #[test]
    fn images_without_pixels_are_black() {
        for shape in [[1, 3, 0, 4], [1, 0, 4, 4]] {
            let images = Images::new(Vec::new(), shape).unwrap();
            let input = Resize::CleanFid.input(&images);
            assert!(input.len() == 3 * AREA && input.iter().all(|&x| x == -1.0));
        }
    }
}
