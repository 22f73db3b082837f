//! Images as tiles read them: a tile of 16 neighbouring outputs finds what one tap reads in one piece.
//!
//! A window of an image lies row by row with zeros around it. A zero column right of a row is also left of the next one,
//! and a zero row below an image also above the next one. With a stride s the columns and rows of each remainder by s lie
//! in a plane of their own, so that outputs next to each other read next to each other.

#![allow(unsafe_code, reason = "addresses are computed from shapes")]

use super::super::blocked::{Images, applied};
use super::super::direct::Tap;
use super::super::element::Element;
use super::super::tile::SIDE;
use super::super::vector::Vector;

/// One axis of a convolution: which zeros are needed, and whether neighbours share them.
#[derive(Debug, Clone, Copy)]
struct Axis {
    /// The least and the greatest offset of a tap, in outputs.
    least: isize,
    most: isize,
    /// Places from one row (or image) to the next.
    pitch: usize,
}

impl Axis {
    /// For `out` outputs of `side` pixels.
    fn new(
        offsets: impl Iterator<Item = isize> + Clone,
        stride: usize,
        side: usize,
        out: usize,
    ) -> Self {
        let step = stride.cast_signed();
        let by_output = offsets.map(|offset| offset.div_euclid(step));
        let least = by_output.clone().min().unwrap_or(0).min(0);
        let most = by_output.max().unwrap_or(0).max(0);
        // What lies beyond the outputs is zeros if no pixel does.
        let zeros = side.div_ceil(stride) <= out;
        let apart = if zeros {
            (-least).max(most)
        } else {
            most - least
        };
        Self {
            least,
            most,
            pitch: out + apart.unsigned_abs(),
        }
    }
}

/// How the windows of a convolution lie in memory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    stride: usize,
    rows: Axis,
    columns: Axis,
    /// Height and width of an image's outputs.
    pub(super) out: (usize, usize),
    /// Where each tap reads, from where the least tap does, and in which plane.
    taps: Vec<(usize, usize)>,
}

/// Rows of outputs that are computed together: some rows of one image, or some whole images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) image: usize,
    pub(super) images: usize,
    pub(super) row: usize,
    /// Of each image.
    pub(super) rows: usize,
}

impl Layout {
    /// For a convolution of these taps and stride of images of `seen` pixels to `out` outputs.
    pub(super) fn new(
        taps: &[Tap],
        stride: usize,
        seen: (usize, usize),
        out: (usize, usize),
    ) -> Self {
        let rows = Axis::new(taps.iter().map(|tap| tap.row), stride, seen.0, out.0);
        let columns = Axis::new(taps.iter().map(|tap| tap.column), stride, seen.1, out.1);
        let step = stride.cast_signed();
        let place = |tap: &Tap| {
            let row = (tap.row.div_euclid(step) - rows.least).unsigned_abs();
            let column = (tap.column.div_euclid(step) - columns.least).unsigned_abs();
            let plane = tap.row.rem_euclid(step) * step + tap.column.rem_euclid(step);
            (plane.unsigned_abs(), row * columns.pitch + column)
        };
        Self {
            stride,
            rows,
            columns,
            out,
            taps: taps.iter().map(place).collect(),
        }
    }

    /// Cuts the outputs of `batch` images into chunks of about `pixels` outputs, at least `least` of them if there are so
    /// many rows; of `even` numbers of rows if asked.
    pub(super) fn chunks(
        &self,
        batch: usize,
        pixels: usize,
        least: usize,
        even: bool,
    ) -> Vec<Chunk> {
        let (height, width) = self.out;
        let per_image = (height * width).max(1);
        // As many outputs each as make `least` chunks, if there are so many.
        let pixels = pixels
            .min((batch * per_image).div_ceil(least.max(1)))
            .max(1);
        let mut chunks = Vec::new();
        if per_image <= pixels {
            let images = pixels / per_image;
            for image in (0..batch).step_by(images) {
                chunks.push(Chunk {
                    image,
                    images: images.min(batch - image),
                    row: 0,
                    rows: height,
                });
            }
            return chunks;
        }
        let rows = (pixels / width.max(1)).max(1);
        let rows = if even { rows.next_multiple_of(2) } else { rows };
        for image in 0..batch {
            for row in (0..height).step_by(rows) {
                chunks.push(Chunk {
                    image,
                    images: 1,
                    row,
                    rows: rows.min(height - row),
                });
            }
        }
        chunks
    }

    /// Planes of a window.
    pub(super) fn planes(&self) -> usize {
        self.stride * self.stride
    }

    /// Rows from one image of a chunk to the next.
    fn image_rows(&self, chunk: &Chunk) -> usize {
        match chunk.images {
            1 => chunk.rows,
            _ => self.rows.pitch,
        }
    }

    /// Places that a plane of a chunk has: an odd number of cache lines of 16 places, against rows of a tile meeting in one
    /// set of the cache, with room for a tile that begins at the last output.
    pub(super) fn places(&self, chunk: &Chunk) -> usize {
        let rows = (chunk.images - 1) * self.image_rows(chunk) + chunk.rows;
        let reach = (self.rows.most - self.rows.least).unsigned_abs();
        let ends = 2 * (self.columns.most - self.columns.least).unsigned_abs();
        let places = (rows + reach) * self.columns.pitch + ends + 2 * SIDE;
        places.div_ceil(SIDE) / 2 * 2 * SIDE + SIDE
    }

    /// Where a row of outputs of a chunk begins to read: its least tap's place.
    pub(super) fn line(&self, chunk: &Chunk, image: usize, row: usize) -> usize {
        (image * self.image_rows(chunk) + row) * self.columns.pitch
    }

    /// The plane of each tap, and its place in it from where a row begins to read.
    pub(super) fn taps(&self) -> &[(usize, usize)] {
        &self.taps
    }
}

/// What a channel of an image goes through on its way.
#[inline(always)]
fn affine<V: Vector, E>(
    images: &Images<'_, E>,
    image: usize,
    channel: usize,
) -> Option<(V, V, bool)> {
    let at = image * images.channels + channel;
    let of = images.affine?;
    Some((V::splat(of.scale[at]), V::splat(of.shift[at]), of.silu))
}

/// Where numbers of a chunk go.
#[derive(Clone, Copy)]
pub(super) struct Room<T> {
    /// Plane 0 of the chunk.
    pub(super) to: *mut T,
    /// Places from one plane to the next.
    pub(super) plane: usize,
    /// Of a plane.
    pub(super) places: usize,
    /// For a chunk's rows of one or two channels, as they are seen.
    pub(super) line: *mut T,
}

impl Layout {
    /// Numbers of `line` that [`Layout::pairs`] and [`Layout::singles`] need for a chunk of images of this width.
    pub(super) fn line_room<E: Element>(&self, chunk: &Chunk, images: &Images<'_, E>) -> usize {
        let rows = self.stride * chunk.rows + self.reach();
        (rows.min(images.height) * images.width).next_multiple_of(2 * SIDE)
    }

    /// Rows of pixels that a row of outputs may read.
    fn reach(&self) -> usize {
        self.stride * ((self.rows.most - self.rows.least).unsigned_abs() + 1)
    }

    /// Two channels of a chunk's windows as pairs, zeros around them; the second one is zeros where there is none.
    ///
    /// # Safety
    /// `room` has [`Layout::planes`] planes of [`Layout::places`] places, and [`Layout::line_room`].
    #[inline(always)]
    pub(super) unsafe fn pairs<V: Vector, E: Element>(
        &self,
        images: &Images<'_, E>,
        chunk: &Chunk,
        channel: usize,
        room: Room<u32>,
    ) {
        // SAFETY: the caller's room, and rows that are clipped to the image.
        unsafe {
            self.clear(room);
            if channel >= images.channels {
                return;
            }
            let plane = images.height * images.width;
            let rows = self.source_rows(images, chunk);
            let count = rows.len() * images.width;
            for image in 0..chunk.images {
                let number = chunk.image + image;
                let from = (number * images.channels + channel) * plane + rows.start * images.width;
                let from = images.values.as_ptr().add(from);
                let first = affine::<V, E>(images, number, channel);
                let mut i = 0;
                if channel + 1 < images.channels {
                    let second = affine::<V, E>(images, number, channel + 1);
                    while i + V::LANES <= count {
                        let a = applied(E::load::<V>(from.add(i)), first);
                        let b = applied(E::load::<V>(from.add(plane + i)), second);
                        V::store_bf16_pairs(a, b, room.line.add(i));
                        i += V::LANES;
                    }
                    if i < count {
                        let a = applied(E::gather::<V>(from.add(i), count - i, 1), first);
                        let b = applied(E::gather::<V>(from.add(plane + i), count - i, 1), second);
                        V::store_bf16_pairs(a, b, room.line.add(i));
                    }
                } else {
                    while i < count {
                        let some = (count - i).min(V::LANES);
                        let a = applied(E::gather::<V>(from.add(i), some, 1), first);
                        V::store_bf16_pairs(a, V::splat(0.0), room.line.add(i));
                        i += V::LANES;
                    }
                }
                self.distribute(images, chunk, image, rows.clone(), room);
            }
        }
    }

    /// One channel of a chunk's windows, zeros around it.
    ///
    /// # Safety
    /// As for [`Layout::pairs`].
    #[inline(always)]
    pub(super) unsafe fn singles<V: Vector, E: Element>(
        &self,
        images: &Images<'_, E>,
        chunk: &Chunk,
        channel: usize,
        room: Room<u16>,
    ) {
        // SAFETY: the caller's room, and rows that are clipped to the image.
        unsafe {
            self.clear(room);
            if channel >= images.channels {
                return;
            }
            let plane = images.height * images.width;
            let rows = self.source_rows(images, chunk);
            let count = rows.len() * images.width;
            for image in 0..chunk.images {
                let number = chunk.image + image;
                let from = (number * images.channels + channel) * plane + rows.start * images.width;
                let from = images.values.as_ptr().add(from);
                let line = affine::<V, E>(images, number, channel);
                let mut i = 0;
                while i + V::LANES <= count {
                    let a = applied(E::load::<V>(from.add(i)), line);
                    a.store_bf16(room.line.add(i));
                    i += V::LANES;
                }
                if i < count {
                    let a = applied(E::gather::<V>(from.add(i), count - i, 1), line);
                    a.store_bf16(room.line.add(i));
                }
                self.distribute(images, chunk, image, rows.clone(), room);
            }
        }
    }

    /// Zeros in all planes.
    unsafe fn clear<T>(&self, room: Room<T>) {
        for plane in 0..self.planes() {
            // SAFETY: the caller's room.
            unsafe { std::ptr::write_bytes(room.to.add(plane * room.plane), 0, room.places) };
        }
    }

    /// Rows of an image that a chunk reads.
    #[inline(always)]
    fn source_rows<E: Element>(
        &self,
        images: &Images<'_, E>,
        chunk: &Chunk,
    ) -> std::ops::Range<usize> {
        let (height, _) = images.seen();
        let seen = |row: isize| row.clamp(0, height.cast_signed()).unsigned_abs();
        let step = self.stride.cast_signed();
        let start = seen(step * (chunk.row.cast_signed() + self.rows.least));
        let end = seen(step * ((chunk.row + chunk.rows).cast_signed() + self.rows.most));
        match images.upsample_nearest_2x {
            true => start / 2..end.div_ceil(2),
            false => start..end,
        }
    }

    /// From a chunk's rows of one image, one after the other, to their places.
    #[inline(always)]
    unsafe fn distribute<E: Element, T: Copy>(
        &self,
        images: &Images<'_, E>,
        chunk: &Chunk,
        image: usize,
        rows: std::ops::Range<usize>,
        room: Room<T>,
    ) {
        let (stride, width) = (self.stride, images.width);
        // The place of the pixel that output (0, 0) of the chunk would be.
        let origin = (image * self.image_rows(chunk)).cast_signed()
            - self.rows.least
            - chunk.row.cast_signed();
        let left = self.columns.least.unsigned_abs();
        let place = |row: usize| {
            let row = (row / stride).cast_signed() + origin;
            row.unsigned_abs() * self.columns.pitch + left
        };
        for (i, row) in rows.enumerate() {
            // SAFETY: the rows that a chunk reads lie in its window, and their columns in a row of it.
            unsafe {
                let from = room.line.add(i * width);
                if images.upsample_nearest_2x {
                    for seen in [2 * row, 2 * row + 1] {
                        let at = (seen / stride).cast_signed() + origin;
                        let last = (chunk.rows.cast_signed() + self.rows.most - self.rows.least)
                            + (image * self.image_rows(chunk)).cast_signed();
                        if at < (image * self.image_rows(chunk)).cast_signed() || at >= last {
                            continue;
                        }
                        let to = room.to.add(place(seen));
                        for c in 0..width {
                            *to.add(2 * c) = *from.add(c);
                            *to.add(2 * c + 1) = *from.add(c);
                        }
                    }
                } else if stride == 1 {
                    std::ptr::copy_nonoverlapping(from, room.to.add(place(row)), width);
                } else {
                    for odd in 0..stride.min(width) {
                        let plane = row % stride * stride + odd;
                        let to = room.to.add(plane * room.plane + place(row));
                        for (at, c) in (odd..width).step_by(stride).enumerate() {
                            *to.add(at) = *from.add(c);
                        }
                    }
                }
            }
        }
    }
}
