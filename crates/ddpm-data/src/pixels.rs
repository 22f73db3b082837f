use crate::raster::{Raster, Samples};

/// The darkest pixel value that a network sees.
pub const PIXEL_MIN: f32 = -1.0;
/// The brightest pixel value that a network sees.
pub const PIXEL_MAX: f32 = 1.0;

/// A byte as a pixel: x/127.5 - 1, so 0 is -1 and 255 is 1.
///
/// The only conversion from `u8` in the project; its inverse stands beside the writing of images.
///
/// # Units    result in [-1, 1]
#[inline]
#[must_use]
pub fn pixel_from_u8(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// A sample in [0, 1] as a pixel in [-1, 1].
#[inline]
fn pixel_from_unit(unit: f32) -> f32 {
    unit * 2.0 - 1.0
}

/// A decoded image as network input: `[height, width, channels]` samples to `[channels, height, width]` pixels.
///
/// `flip` mirrors left and right. `out` must hold exactly the image's samples.
pub(crate) fn write_chw(raster: &Raster, flip: bool, out: &mut [f32]) {
    let shape = raster.shape();
    match &raster.samples {
        Samples::U8(bytes) => write_planes(bytes, shape, flip, out, pixel_from_u8),
        Samples::Unit(units) => write_planes(units, shape, flip, out, pixel_from_unit),
    }
}

/// [`write_chw`] for one slot of a cache of bytes.
pub(crate) fn write_bytes(bytes: &[u8], shape: [usize; 3], flip: bool, out: &mut [f32]) {
    write_planes(bytes, shape, flip, out, pixel_from_u8);
}

/// [`write_chw`] for one slot of a cache of samples in [0, 1].
pub(crate) fn write_units(units: &[f32], shape: [usize; 3], flip: bool, out: &mut [f32]) {
    write_planes(units, shape, flip, out, pixel_from_unit);
}

/// `samples` is `[height, width, channels]`, `shape` is `[channels, height, width]`.
fn write_planes<T: Copy>(
    samples: &[T],
    [channels, height, width]: [usize; 3],
    flip: bool,
    out: &mut [f32],
    convert: impl Fn(T) -> f32,
) {
    for (row_index, row) in samples.chunks_exact(width * channels).enumerate() {
        for (column, pixel) in row.chunks_exact(channels).enumerate() {
            let column = if flip { width - 1 - column } else { column };
            for (channel, &sample) in pixel.iter().enumerate() {
                out[(channel * height + row_index) * width + column] = convert(sample);
            }
        }
    }
}

/// Mirrors every row of a `[rows, width]` block in place.
pub(crate) fn mirror_rows(pixels: &mut [f32], width: usize) {
    for row in pixels.chunks_exact_mut(width) {
        row.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_span_the_range_and_round_trip() {
        assert_eq!(pixel_from_u8(0), PIXEL_MIN);
        assert_eq!(pixel_from_u8(255), PIXEL_MAX);
        for byte in 0..=255u8 {
            let back = ((pixel_from_u8(byte) + 1.0) * 127.5).round() as u8;
            assert_eq!(back, byte);
        }
    }

    #[test]
    fn planes_are_separated_and_rows_mirrored() {
        // 1 row, 2 columns, 3 channels
        let raster = Raster::new(2, 1, 3, Samples::Unit(vec![0.0, 0.25, 0.5, 1.0, 0.75, 0.5]));
        let mut out = [0.0; 6];
        write_chw(&raster, false, &mut out);
        assert_eq!(out, [-1.0, 1.0, -0.5, 0.5, 0.0, 0.0]);
        write_chw(&raster, true, &mut out);
        assert_eq!(out, [1.0, -1.0, 0.5, -0.5, 0.0, 0.0]);
        mirror_rows(&mut out, 2);
        assert_eq!(out, [-1.0, 1.0, -0.5, 0.5, 0.0, 0.0]);
    }
}
