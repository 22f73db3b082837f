//! A random part of an image, brought to the image's size.

use ddpm_schedule::noise::Stream;

use super::Address;
use crate::raster::has_alpha;

/// A part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Window {
    /// A part of the image's own proportions, to whole pixels: its area is evenly between `least` and 1 of the image's,
    /// its place evenly among all.
    ///
    /// torchvision's `RandomResizedCrop(scale=(least, 1))` with `ratio` that of the image.
    pub(super) fn draw(least: f64, [height, width]: [usize; 2], at: Address) -> Self {
        let [area, top, left] = at.uniforms(Stream::AugmentCrop);
        let share = (least + (1.0 - least) * area).sqrt();
        let side = |side: usize| ((side as f64 * share).round() as usize).clamp(1, side.max(1));
        let (inner_height, inner_width) = (side(height), side(width));
        let place = |u: f64, room: usize| ((u * (room + 1) as f64) as usize).min(room);
        Self {
            top: place(top, height - inner_height),
            left: place(left, width - inner_width),
            height: inner_height,
            width: inner_width,
        }
    }
}

/// Puts a part of an image in the place of the whole, by bilinear interpolation between the centres of pixels
/// (`align_corners = false`). The whole stays as it is, bit for bit.
///
/// Colours count as much as their alpha, so that those of transparent pixels do not bleed.
///
/// # Shapes   `pixels`: `[channels, height, width]`
pub(super) fn crop(pixels: &mut [f32], shape: [usize; 3], window: Window) {
    let [channels, height, width] = shape;
    if (window.height, window.width) == (height, width) {
        return;
    }
    let from = pixels.to_vec();
    let rows = taps(window.top, window.height, height);
    let columns = taps(window.left, window.width, width);
    let area = height * width;
    let alpha = has_alpha(channels).then(|| &from[(channels - 1) * area..]);
    for (channel, plane) in pixels.chunks_exact_mut(area).enumerate() {
        let source = &from[channel * area..(channel + 1) * area];
        let alpha = alpha.filter(|_| channel + 1 < channels);
        for (out, place) in plane.iter_mut().zip(0..) {
            let (row, column) = (&rows[place / width], &columns[place % width]);
            *out = match alpha {
                None => interpolate(row, column, |at| source[at], width),
                Some(alpha) => {
                    let opacity = |at: usize| (alpha[at] + 1.0) / 2.0;
                    let weight = interpolate(row, column, opacity, width);
                    let colour =
                        interpolate(row, column, |at| opacity(at) * (source[at] + 1.0), width);
                    match weight > 0.0 {
                        true => (colour / weight).min(2.0) - 1.0,
                        false => -1.0,
                    }
                }
            };
        }
    }
}

/// Two neighbours, and how much the second counts.
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

/// What each of `outer` places reads of the `inner` ones from `start` on.
fn taps(start: usize, inner: usize, outer: usize) -> Vec<Tap> {
    let step = inner as f64 / outer as f64;
    let tap = |place: usize| {
        let at = ((place as f64 + 0.5) * step - 0.5).max(0.0);
        let first = (at as usize).min(inner - 1);
        Tap {
            first: start + first,
            second: start + (first + 1).min(inner - 1),
            share: (at - first as f64) as f32,
        }
    };
    (0..outer).map(tap).collect()
}

fn interpolate(row: &Tap, column: &Tap, value: impl Fn(usize) -> f32, width: usize) -> f32 {
    let along = |row: usize| {
        let (a, b) = (
            value(row * width + column.first),
            value(row * width + column.second),
        );
        a + (b - a) * column.share
    };
    let (a, b) = (along(row.first), along(row.second));
    a + (b - a) * row.share
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn window(top: usize, left: usize, height: usize, width: usize) -> Window {
        Window {
            top,
            left,
            height,
            width,
        }
    }

    #[test]
    fn the_whole_stays_bit_for_bit() {
        let image = [0.1, -0.7, 0.3, 1.0, -1.0, 0.123_456];
        let mut pixels = image;
        crop(&mut pixels, [1, 2, 3], window(0, 0, 2, 3));
        assert_eq!(pixels, image);
    }

    #[test]
    fn a_part_is_stretched_between_the_centres_of_pixels() {
        // The lower right 1x2 of 2x4: places read at -0.25, 0.25, 0.75 and 1.25 of [0, 1].
        let mut pixels = [9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 0.0, 1.0];
        crop(&mut pixels, [1, 2, 4], window(1, 2, 1, 2));
        assert_eq!(pixels, [0.0, 0.25, 0.75, 1.0, 0.0, 0.25, 0.75, 1.0]);
        // 3x3 of 4x4, a slope that stays one: places read at -0.125, 0.625, 1.375 and 2.125.
        let mut pixels: Vec<f32> = (0..16).map(|place| (place % 4) as f32).collect();
        crop(&mut pixels, [1, 4, 4], window(1, 1, 3, 3));
        assert_eq!(pixels[..4], [1.0, 1.625, 2.375, 3.0]);
        assert_eq!(pixels[12..], pixels[..4]);
    }

    #[test]
    fn transparent_colours_do_not_bleed() {
        // White beside transparent black: 1x2 of 1x4 in grey and alpha.
        let mut pixels = [1.0, -1.0, -1.0, -1.0, 1.0, -1.0, -1.0, -1.0];
        crop(&mut pixels, [2, 1, 4], window(0, 0, 1, 2));
        assert_eq!(pixels, [1.0, 1.0, 1.0, -1.0, 1.0, 0.5, -0.5, -1.0]);
    }

    #[test]
    fn windows_have_the_images_proportions_and_at_least_the_area() {
        let mut shares = Vec::new();
        let mut corners = [0; 2];
        for image in 0..2000 {
            let at = Address {
                seed: 3,
                epoch: 1,
                image,
            };
            let found = Window::draw(0.25, [100, 200], at);
            assert!(found.top + found.height <= 100 && found.left + found.width <= 200);
            assert!((2 * found.height).abs_diff(found.width) <= 1);
            shares.push((found.height * found.width) as f64 / 20_000.0);
            corners[0] += usize::from(found.top == 0);
            corners[1] += usize::from(found.top + found.height == 100);
        }
        let mean = shares.iter().sum::<f64>() / 2000.0;
        assert!((mean - 0.625).abs() < 0.02, "{mean}");
        let least = shares.iter().copied().fold(1.0, f64::min);
        assert!((0.24..0.28).contains(&least), "{least}");
        assert!(corners.iter().all(|&count| count > 20), "{corners:?}");
        // All of it is the whole.
        let at = Address {
            seed: 3,
            epoch: 1,
            image: 0,
        };
        assert_eq!(Window::draw(1.0, [7, 5], at), window(0, 0, 7, 5));
        assert_eq!(Window::draw(1e-9, [1, 1], at), window(0, 0, 1, 1));
    }
}
