//! Between images, `[channels, height, width]`, and blocks of channels, `[pixels][L]`.

#![allow(unsafe_code, reason = "addresses are computed from shapes")]

use super::element::Element;
use super::vector::{Vector, silu};

/// What a normalisation leaves to do per image and channel: x·scale + shift, and perhaps SiLU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affine<'a> {
    /// `[batch, channels]`
    pub(super) scale: &'a [f32],
    /// `[batch, channels]`
    pub(super) shift: &'a [f32],
    pub(super) silu: bool,
}

/// Images that are read a block of channels at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Images<'a, E> {
    /// `[batch, channels, height, width]`
    pub(super) values: &'a [E],
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Whether each pixel is seen as a square of four (nearest-neighbour doubling).
    pub(super) upsample_nearest_2x: bool,
    pub(super) affine: Option<Affine<'a>>,
}

/// A window onto an image; rows and columns outside the image read as zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) row: isize,
    pub(super) column: isize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<E: Element> Images<'_, E> {
    /// Height and width as they are seen.
    pub(super) fn seen(&self) -> (usize, usize) {
        if self.upsample_nearest_2x {
            (2 * self.height, 2 * self.width)
        } else {
            (self.height, self.width)
        }
    }

    /// Reads block `block` of the channels of image `image` to `to`: the lanes of the window's pixel i
    /// at `i·stride`.
    ///
    /// # Safety
    /// The window's pixels must be writable there, and the image and the block must exist.
    #[inline(always)]
    pub(super) unsafe fn load<V: Vector>(
        &self,
        (image, block): (usize, usize),
        window: Window,
        to: *mut f32,
        stride: usize,
    ) {
        let (height, width) = self.seen();
        let channels = (self.channels - block * V::LANES).min(V::LANES);
        let first = image * self.channels + block * V::LANES;
        let affine = if let Some(affine) = self.affine {
            let scale = &affine.scale[first..first + channels];
            let shift = &affine.shift[first..first + channels];
            // SAFETY: both slices have that many values.
            let (scale, shift) = unsafe {
                (
                    V::gather(scale.as_ptr(), channels, 1),
                    V::gather(shift.as_ptr(), channels, 1),
                )
            };
            Some((scale, shift, affine.silu))
        } else {
            None
        };
        let plane = self.height * self.width;
        // The columns of the window that lie inside the image.
        let start = window.column.min(0).unsigned_abs().min(window.columns);
        let skipped = window.column.max(0).unsigned_abs();
        let end = (start + width.saturating_sub(skipped)).min(window.columns);
        // SAFETY: rows and columns are clipped to the image, and the window lies in `to`.
        unsafe {
            let source = self.values.as_ptr().add(first * plane);
            for r in 0..window.rows {
                let line = to.add(r * window.columns * stride);
                let row = window.row + r.cast_signed();
                if row < 0 || row.unsigned_abs() >= height {
                    zero::<V>(line, 0, window.columns, stride);
                    continue;
                }
                let row = row.unsigned_abs();
                zero::<V>(line, 0, start, stride);
                zero::<V>(line, end, window.columns, stride);
                if self.upsample_nearest_2x {
                    let source = source.add(row / 2 * self.width);
                    let mut value = V::splat(0.0);
                    for i in start..end {
                        let column = skipped + i - start;
                        if i == start || column.is_multiple_of(2) {
                            value = E::gather(source.add(column / 2), channels, plane);
                            value = applied::<V>(value, affine);
                        }
                        value.store(line.add(i * stride));
                    }
                    continue;
                }
                let source = source.add(row * self.width + skipped);
                let mut i = start;
                if channels == V::LANES {
                    while i + V::LANES <= end {
                        let mut square = V::square();
                        for l in 0..V::LANES {
                            square.as_mut()[l] = E::load(source.add(l * plane + i - start));
                        }
                        V::transpose(&mut square);
                        for l in 0..V::LANES {
                            applied::<V>(square.as_ref()[l], affine)
                                .store(line.add((i + l) * stride));
                        }
                        i += V::LANES;
                    }
                }
                while i < end {
                    let value = E::gather(source.add(i - start), channels, plane);
                    applied::<V>(value, affine).store(line.add(i * stride));
                    i += 1;
                }
            }
        }
    }
}

/// act(x·scale + shift), of the scale, the shift and whether SiLU follows.
#[inline(always)]
pub(super) fn applied<V: Vector>(x: V, affine: Option<(V, V, bool)>) -> V {
    match affine {
        None => x,
        Some((scale, shift, false)) => x.mul_add(scale, shift),
        Some((scale, shift, true)) => silu(x.mul_add(scale, shift)),
    }
}

#[inline(always)]
unsafe fn zero<V: Vector>(line: *mut f32, from: usize, to: usize, stride: usize) {
    for i in from..to {
        // SAFETY: the caller's columns lie in the line.
        unsafe { V::splat(0.0).store(line.add(i * stride)) };
    }
}

/// Where a row of pixels goes: channel l of pixel i to `l·plane + i·step`.
#[derive(Clone, Copy)]
pub(super) struct Row<E> {
    pub(super) to: *mut E,
    /// Added to each value, laid out as `to`, if given.
    pub(super) add: Option<*const E>,
    pub(super) channels: usize,
    pub(super) plane: usize,
    pub(super) step: usize,
    pub(super) pixels: usize,
}

impl<E: Element> Row<E> {
    /// Writes the lanes at `from`, one pixel after the other.
    ///
    /// # Safety
    /// The pixels must be readable at `from` and `add`, and writable at `to` by this thread alone.
    #[inline(always)]
    pub(super) unsafe fn store<V: Vector>(self, from: *const f32) {
        // SAFETY: the caller vouches for the addresses, whose range is that of the row.
        unsafe {
            let mut i = 0;
            if self.channels == V::LANES && self.step == 1 {
                while i + V::LANES <= self.pixels {
                    let mut square = V::square();
                    for l in 0..V::LANES {
                        square.as_mut()[l] = V::load(from.add((i + l) * V::LANES));
                    }
                    V::transpose(&mut square);
                    for l in 0..V::LANES {
                        let at = l * self.plane + i;
                        let mut value = square.as_ref()[l];
                        if let Some(add) = self.add {
                            value = value.add(E::load(add.add(at)));
                        }
                        E::store(value, self.to.add(at));
                    }
                    i += V::LANES;
                }
            }
            while i < self.pixels {
                let mut value = V::load(from.add(i * V::LANES));
                if let Some(add) = self.add {
                    let add = add.add(i * self.step);
                    value = value.add(E::gather(add, self.channels, self.plane));
                }
                E::scatter(value, self.to.add(i * self.step), self.channels, self.plane);
                i += 1;
            }
        }
    }
}
