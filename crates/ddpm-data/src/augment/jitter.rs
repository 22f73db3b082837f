//! Changes of colours, as torchvision's `ColorJitter` makes them.

use ddpm_schedule::noise::Stream;

use super::{Address, JitterConfig};
use crate::raster::has_alpha;
use crate::transform::GREY_WEIGHTS;

/// One change of colours, of pixels in [0, 1]; what leaves the range is cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Factor of every colour.
    Brightness(f32),
    /// Factor of the distance to the mean grey of the image.
    Contrast(f32),
    /// Factor of the distance to the grey of the pixel.
    Saturation(f32),
    /// Turns, in [-0.5, 0.5].
    Hue(f32),
}

impl JitterConfig {
    /// The changes of an image in their order, each order as often.
    pub(super) fn draw(&self, at: Address) -> Vec<Change> {
        let [order, brightness, contrast, saturation, hue] = at.uniforms(Stream::AugmentJitter);
        let factor = |reach: f64, u: f64| {
            let least = (1.0 - reach).max(0.0);
            (least + (1.0 + reach - least) * u) as f32
        };
        let mut left = vec![
            (
                self.brightness,
                Change::Brightness(factor(self.brightness, brightness)),
            ),
            (
                self.contrast,
                Change::Contrast(factor(self.contrast, contrast)),
            ),
            (
                self.saturation,
                Change::Saturation(factor(self.saturation, saturation)),
            ),
            (self.hue, Change::Hue((self.hue * (2.0 * hue - 1.0)) as f32)),
        ];
        // One of 4! orders, digit by digit.
        let mut order = ((order * 24.0) as usize).min(23);
        let mut found = Vec::new();
        while !left.is_empty() {
            let (reach, change) = left.remove(order % left.len());
            order /= left.len() + 1;
            if reach > 0.0 {
                found.push(change);
            }
        }
        found
    }
}

/// Changes the colours of an image; alpha stays as it is.
///
/// # Shapes   `pixels`: `[channels, height, width]`
/// # Units    in [-1, 1], and so is the result
pub(super) fn jitter(
    pixels: &mut [f32],
    [channels, height, width]: [usize; 3],
    changes: &[Change],
) {
    let area = height * width;
    let colours = channels - usize::from(has_alpha(channels));
    let pixels = &mut pixels[..colours * area];
    for &change in changes {
        match change {
            Change::Brightness(factor) => each(pixels, |x| factor * x),
            Change::Contrast(factor) => {
                let sum: f64 = (0..area).map(|at| f64::from(grey(pixels, area, at))).sum();
                let mean = (sum / area as f64) as f32;
                each(pixels, |x| mean + factor * (x - mean));
            }
            Change::Saturation(factor) => {
                for at in 0..area {
                    let grey = grey(pixels, area, at);
                    for plane in pixels.chunks_exact_mut(area) {
                        plane[at] = to_pixel(grey + factor * (to_unit(plane[at]) - grey));
                    }
                }
            }
            Change::Hue(turns) => {
                for at in 0..area {
                    if let [r, g, b] = [0, 1, 2].map(|channel| channel * area + at)
                        && colours == 3
                    {
                        let rgb = [r, g, b].map(|place| to_unit(pixels[place]));
                        let [red, green, blue] = turned(rgb, turns).map(to_pixel);
                        (pixels[r], pixels[g], pixels[b]) = (red, green, blue);
                    }
                }
            }
        }
    }
}

fn to_unit(pixel: f32) -> f32 {
    (pixel + 1.0) / 2.0
}

fn to_pixel(unit: f32) -> f32 {
    unit.clamp(0.0, 1.0) * 2.0 - 1.0
}

fn each(pixels: &mut [f32], change: impl Fn(f32) -> f32) {
    for pixel in pixels {
        *pixel = to_pixel(change(to_unit(*pixel)));
    }
}

/// The grey of a pixel, in [0, 1].
fn grey(pixels: &[f32], area: usize, at: usize) -> f32 {
    match pixels.len() == 3 * area {
        true => (0..3)
            .map(|channel| GREY_WEIGHTS[channel] * to_unit(pixels[channel * area + at]))
            .sum(),
        false => to_unit(pixels[at]),
    }
}

/// A colour whose hue goes around by so many turns, its saturation and value (HSV) staying as they are.
fn turned(rgb: [f32; 3], turns: f32) -> [f32; 3] {
    let [r, g, b] = rgb;
    let value = r.max(g).max(b);
    let chroma = value - r.min(g).min(b);
    if chroma <= 0.0 {
        return rgb;
    }
    // In sixths of a turn, from red.
    let hue = if value == r {
        (g - b) / chroma
    } else if value == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    let hue = hue + 6.0 * turns;
    [5.0f32, 3.0, 1.0].map(|offset| {
        let k = (offset + hue).rem_euclid(6.0);
        value - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed<const N: usize>(units: [f32; N], shape: [usize; 3], change: Change) -> Vec<f32> {
        let mut pixels: Vec<f32> = units.iter().map(|x| x * 2.0 - 1.0).collect();
        jitter(&mut pixels, shape, &[change]);
        pixels.into_iter().map(to_unit).collect()
    }

    fn close(got: &[f32], expected: &[f32]) {
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        let all = got.len() == expected.len() && got.iter().zip(expected).all(near);
        assert!(all, "{got:?} is not {expected:?}");
    }

    #[test]
    fn brightness_multiplies_and_stays_in_range() {
        let got = changed([0.0, 0.2, 0.5, 0.9], [1, 1, 4], Change::Brightness(1.5));
        close(&got, &[0.0, 0.3, 0.75, 1.0]);
    }

    #[test]
    fn contrast_is_about_the_mean_grey_of_the_image() {
        let got = changed([0.2, 0.6], [1, 1, 2], Change::Contrast(0.5));
        close(&got, &[0.3, 0.5]);
        // Red: a mean grey of 0.299.
        let got = changed([1.0, 0.0, 0.0], [3, 1, 1], Change::Contrast(0.5));
        close(&got, &[0.6495, 0.1495, 0.1495]);
    }

    #[test]
    fn saturation_is_about_the_grey_of_the_pixel() {
        let image = [0.0, 0.5, 1.0, 0.5, 0.0, 0.5];
        let got = changed(image, [3, 1, 2], Change::Saturation(0.0));
        close(&got, &[0.587, 0.5, 0.587, 0.5, 0.587, 0.5]);
        let got = changed([0.2, 0.4, 0.2], [3, 1, 1], Change::Saturation(1.5));
        // A grey of 0.3174.
        close(&got, &[0.1413, 0.4413, 0.1413]);
    }

    #[test]
    fn hue_goes_around_and_grey_has_none() {
        let third = Change::Hue(1.0 / 3.0);
        close(
            &changed([1.0, 0.0, 0.0], [3, 1, 1], third),
            &[0.0, 1.0, 0.0],
        );
        close(
            &changed([0.1, 0.7, 0.4], [3, 1, 1], third),
            &[0.4, 0.1, 0.7],
        );
        let half = Change::Hue(-0.5);
        close(&changed([0.8, 0.2, 0.2], [3, 1, 1], half), &[0.2, 0.8, 0.8]);
        close(&changed([0.4; 3], [3, 1, 1], half), &[0.4; 3]);
    }

    #[test]
    fn alpha_stays() {
        for (shape, change) in [
            ([2, 1, 1], Change::Brightness(0.5)),
            ([2, 1, 1], Change::Contrast(0.0)),
            ([4, 1, 1], Change::Saturation(0.2)),
            ([4, 1, 1], Change::Hue(0.3)),
        ] {
            let mut pixels = vec![0.3; shape[0]];
            pixels[0] = 0.7;
            let alpha = pixels.last().copied();
            jitter(&mut pixels, shape, &[change]);
            assert_eq!(pixels.last().copied(), alpha);
        }
    }

    #[test]
    fn factors_and_orders_are_even_and_zeros_change_nothing() {
        let config = JitterConfig {
            brightness: 0.2,
            contrast: 2.0,
            hue: 0.1,
            ..JitterConfig::default()
        };
        let (mut sums, mut first) = ([0.0f64; 3], [0; 3]);
        for image in 0..6000 {
            let at = Address {
                seed: 1,
                epoch: 0,
                image,
            };
            let changes = config.draw(at);
            assert_eq!(changes.len(), 3, "saturation is not asked for");
            for (place, change) in changes.into_iter().enumerate() {
                let (which, value, range) = match change {
                    Change::Brightness(x) => (0, x, 0.8..1.2),
                    Change::Contrast(x) => (1, x, 0.0..3.0),
                    Change::Hue(x) => (2, x, -0.1..0.1),
                    Change::Saturation(_) => unreachable!("not asked for"),
                };
                assert!(range.contains(&value), "{value}");
                sums[which] += f64::from(value) / 6000.0;
                first[which] += usize::from(place == 0);
            }
        }
        for (mean, expected) in sums.iter().zip([1.0, 1.5, 0.0]) {
            assert!((mean - expected).abs() < 0.05, "{sums:?}");
        }
        assert!(
            first.iter().all(|count| (1850..2150).contains(count)),
            "{first:?}"
        );
        let at = Address {
            seed: 1,
            epoch: 0,
            image: 0,
        };
        assert_eq!(JitterConfig::default().draw(at), []);
    }
}
