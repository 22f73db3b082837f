//! Affine maps of images without aliasing.
//!
//! The image is padded by reflection, enlarged twice by a wavelet's filter, read at the places that the map says, and made
//! smaller by the same filter (Karras et al. 2020, "Training generative adversarial networks with limited data", appendix
//! B; the padding and the filter are those of Karras et al. 2022's training).

/// The low-pass filter of the symlet of 12 taps (Daubechies 1992, table 6.3).
const SYM6: [f32; 12] = [
    0.015_404_109,
    0.003_490_712,
    -0.117_990_11,
    -0.048_311_743,
    0.491_055_94,
    0.787_641_1,
    0.337_929_42,
    -0.072_637_52,
    -0.021_060_292,
    0.044_724_9,
    0.001_767_712,
    -0.007_800_708_3,
];
/// Pixels around the image that its own filtering reads.
const REACH: usize = SYM6.len() / 4;

/// `[[a, b, tx], [c, d, ty]]`: x' = a·x + b·y + tx, y' = c·x + d·y + ty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine(pub(super) [[f64; 3]; 2]);

impl Affine {
    pub(super) const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);

    pub(super) fn scale(x: f64, y: f64) -> Self {
        Self([[x, 0.0, 0.0], [0.0, y, 0.0]])
    }

    /// By so many radians from the x axis to the y axis.
    pub(super) fn rotate(angle: f64) -> Self {
        let (sin, cos) = libm::sincos(angle);
        Self([[cos, -sin, 0.0], [sin, cos, 0.0]])
    }

    pub(super) fn translate(x: f64, y: f64) -> Self {
        Self([[1.0, 0.0, x], [0.0, 1.0, y]])
    }

    /// This map after `first`.
    pub(super) fn after(&self, first: &Self) -> Self {
        let row = |[a, b, t]: [f64; 3]| {
            let [[fa, fb, fx], [fc, fd, fy]] = first.0;
            [a * fa + b * fc, a * fb + b * fd, a * fx + b * fy + t]
        };
        Self(self.0.map(row))
    }

    pub(super) fn at(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        self.0.map(|[a, b, t]| a * x + b * y + t)
    }
}

/// Maps an image in place. `inverse` leads from a place of the result to the one that is read there, in pixels from the
/// image's centre, x to the right, y down.
///
/// Beyond the reflections, which are at most as wide as the image, all is 0, mid grey. The filter rings beside edges,
/// beyond [-1, 1] too, and nothing is cut off, as in Karras et al.'s program. What they pad for all images of a batch is
/// padded here for each by itself, so that an image does not depend on those beside it; that is their batch of one. Sides
/// of less than 7 pixels have too few reflections for the filter, and fade at the edges.
///
/// # Shapes   `pixels`: `[channels, height, width]`
pub(super) fn warp(pixels: &mut [f32], [_, height, width]: [usize; 3], inverse: &Affine) {
    let [cx, cy] = centre(height, width);
    let margins = margins(height, width, inverse);
    let [[left, _], [top, _]] = margins;
    for plane in pixels.chunks_exact_mut(height * width) {
        let (padded, padded_width) = reflected(plane, [height, width], margins);
        let padded_height = padded.len() / padded_width;
        // [h, w] -> [2w, h] -> [2h, 2w]
        let large = twice(&twice(&padded, padded_width), padded_height);
        let read = read(&large, 2 * padded_width, [height, width], |[x, y]| {
            let [x, y] = inverse.at([x - cx, y - cy]);
            [x + cx + left as f64, y + cy + top as f64]
        });
        // [2h + 10, 2w + 10] -> [w, 2h + 10] -> [h, w]
        let small = halve(&halve(&read, 2 * width + EXTRA), 2 * height + EXTRA);
        plane.copy_from_slice(&small);
    }
}

/// What making smaller reads beyond twice the image.
const EXTRA: usize = SYM6.len() - 2;

/// The centre of an image, `[x, y]`, from that of its first pixel.
fn centre(height: usize, width: usize) -> [f64; 2] {
    [width, height].map(|side| (side as f64 - 1.0) / 2.0)
}

/// How far the result reads beyond the image: `[[left, right], [top, bottom]]`.
fn margins(height: usize, width: usize, inverse: &Affine) -> [[usize; 2]; 2] {
    let centre = centre(height, width);
    let [cx, cy] = centre;
    let corners = [[-cx, -cy], [cx, -cy], [cx, cy], [-cx, cy]].map(|corner| inverse.at(corner));
    [0, 1].map(|axis| {
        let most = (2.0 * centre[axis]).max(0.0);
        let margin = |sign: f64| {
            let furthest = corners.iter().map(|corner| sign * corner[axis]);
            let furthest = furthest.fold(f64::NEG_INFINITY, f64::max);
            let beyond = furthest + (2 * REACH) as f64 - centre[axis];
            beyond.clamp(0.0, most).ceil() as usize
        };
        [margin(-1.0), margin(1.0)]
    })
}

/// The image with its reflections around it, edges not repeated, and the width of that.
fn reflected(
    plane: &[f32],
    [height, width]: [usize; 2],
    [[left, right], [top, bottom]]: [[usize; 2]; 2],
) -> (Vec<f32>, usize) {
    let source = |place: usize, before: usize, side: usize| {
        let at = place.abs_diff(before);
        if at < side { at } else { 2 * (side - 1) - at }
    };
    let wide = left + width + right;
    let mut out = Vec::with_capacity(wide * (top + height + bottom));
    for row in 0..top + height + bottom {
        let row = source(row, top, height) * width;
        out.extend((0..wide).map(|column| plane[row + source(column, left, width)]));
    }
    (out, wide)
}

/// Twice as many columns by the mirrored filter between zeros, and rows for columns: `[h, w]` to `[2w, h]`.
fn twice(from: &[f32], width: usize) -> Vec<f32> {
    let height = from.len() / width;
    let mut out = vec![0.0; 2 * from.len()];
    for (row, line) in from.chunks_exact(width).enumerate() {
        for column in 0..width {
            let (mut even, mut odd) = (0.0, 0.0);
            for tap in 0..SYM6.len() / 2 {
                let at = |shift: usize| line.get((column + tap).wrapping_sub(shift));
                even += SYM6[11 - 2 * tap] * at(3).copied().unwrap_or_default();
                odd += SYM6[10 - 2 * tap] * at(2).copied().unwrap_or_default();
            }
            out[2 * column * height + row] = even;
            out[(2 * column + 1) * height + row] = odd;
        }
    }
    out
}

/// Reads the enlarged image bilinearly where `at` says, from pixels of the result to pixels of the padded image; 0 beyond
/// its edges. Number i of an enlarged row lies at pixel i/2, and what is made smaller begins 2.5 pixels before the first.
fn read(
    large: &[f32],
    columns: usize,
    [height, width]: [usize; 2],
    at: impl Fn([f64; 2]) -> [f64; 2],
) -> Vec<f32> {
    let rows = large.len() / columns;
    let value = |row: i64, column: i64| match (usize::try_from(row), usize::try_from(column)) {
        (Ok(row), Ok(column)) if row < rows && column < columns => large[row * columns + column],
        _ => 0.0,
    };
    let pixel = |place: usize| (place as f64 + 1.0) / 2.0 - REACH as f64;
    let mut out = Vec::with_capacity((2 * height + EXTRA) * (2 * width + EXTRA));
    for row in 0..2 * height + EXTRA {
        for column in 0..2 * width + EXTRA {
            let [x, y] = at([pixel(column), pixel(row)]).map(|pixel| 2.0 * pixel);
            let (left, top) = (x.floor(), y.floor());
            let (right_share, lower_share) = ((x - left) as f32, (y - top) as f32);
            let (left, top) = (left as i64, top as i64);
            let along = |row: i64| {
                let (a, b) = (value(row, left), value(row, left.saturating_add(1)));
                a + (b - a) * right_share
            };
            let (a, b) = (along(top), along(top.saturating_add(1)));
            out.push(a + (b - a) * lower_share);
        }
    }
    out
}

/// Every second column by the filter, and rows for columns: `[h, 2w + 10]` to `[w, h]`.
fn halve(from: &[f32], width: usize) -> Vec<f32> {
    let height = from.len() / width;
    let columns = (width - EXTRA) / 2;
    let mut out = vec![0.0; columns * height];
    for (row, line) in from.chunks_exact(width).enumerate() {
        for column in 0..columns {
            let read = &line[2 * column..];
            out[column * height + row] = read.iter().zip(SYM6).map(|(x, tap)| x * tap).sum();
        }
    }
    out
}

#[cfg(test)]
mod tests;
