//! Tiles between images and the transformed domain.

#![allow(unsafe_code, reason = "addresses are computed from shapes")]

use std::ops::Range;

use super::super::blocked::{Images, Row, Window};
use super::super::element::Element;
use super::super::memory::Shared;
use super::super::vector::Vector;
use super::transform::{self, IN, OUT};

/// How an output is cut into tiles. Rows of tiles are counted through all images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    /// Of an image.
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Where the 36 values of a tile lie: lanes of value e of tile t at `e·matrix + t·tile`.
#[derive(Clone, Copy)]
pub(super) struct Matrices {
    pub(super) values: *mut f32,
    pub(super) matrix: usize,
    pub(super) tile: usize,
}

/// Where outputs go.
pub(super) struct Output<'a, E> {
    pub(super) channels: usize,
    /// Of an image before it is halved.
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) halve: bool,
    /// `[1 or batch, channels]`; nothing if empty.
    pub(super) bias: &'a [f32],
    /// Laid out as the result; nothing if empty.
    pub(super) residual: &'a [E],
    pub(super) y: Shared<E>,
}

impl<E> Output<'_, E> {
    #[inline(always)]
    fn bias<V: Vector>(&self, image: usize, block: usize) -> V {
        if self.bias.is_empty() {
            return V::splat(0.0);
        }
        let per_image = self.bias.len() > self.channels;
        let first = if per_image { image * self.channels } else { 0 } + block * V::LANES;
        let channels = (self.channels - block * V::LANES).min(V::LANES);
        let bias = &self.bias[first..first + channels];
        // SAFETY: the slice has that many values.
        unsafe { V::gather(bias.as_ptr(), channels, 1) }
    }
}

/// The part of `rows` from `at` on that lies in one image: the image, and its own rows.
#[inline(always)]
fn within(rows: &Range<usize>, at: usize, per_image: usize) -> (usize, Range<usize>) {
    let image = at / per_image;
    let first = image * per_image;
    (image, at - first..rows.end.min(first + per_image) - first)
}

impl Tiles {
    pub(super) fn new(height: usize, width: usize) -> Self {
        Self {
            rows: height.div_ceil(OUT),
            columns: width.div_ceil(OUT),
        }
    }

    /// Pixels of the largest window that `rows` rows of tiles read at once.
    #[inline(always)]
    pub(super) fn window_pixels(&self, rows: usize) -> usize {
        (OUT * rows.min(self.rows) + IN - OUT) * (OUT * self.columns + IN - OUT)
    }

    /// Bᵀ·d·B of the tiles of `rows`, one block of channels. `pixels` is room for a window.
    ///
    /// # Safety
    /// `pixels` has room for [`Tiles::window_pixels`] and `to` for the tiles.
    #[inline(always)]
    pub(super) unsafe fn input<V: Vector, E: Element>(
        &self,
        x: &Images<'_, E>,
        padding: usize,
        rows: &Range<usize>,
        block: usize,
        pixels: *mut f32,
        to: Matrices,
    ) {
        let columns = OUT * self.columns + IN - OUT;
        let (mut at, mut t) = (rows.start, 0);
        while at < rows.end {
            let (image, part) = within(rows, at, self.rows);
            let window = Window {
                row: (OUT * part.start).cast_signed() - padding.cast_signed(),
                column: -padding.cast_signed(),
                rows: OUT * part.len() + IN - OUT,
                columns,
            };
            // SAFETY: the window has the caller's room, and the tiles lie in it.
            unsafe {
                x.load::<V>((image, block), window, pixels, V::LANES);
                for i in 0..part.len() {
                    for j in 0..self.columns {
                        let corner = pixels.add((OUT * i * columns + OUT * j) * V::LANES);
                        let mut half = [[V::splat(0.0); IN]; IN];
                        for c in 0..IN {
                            let mut d = [V::splat(0.0); IN];
                            for r in 0..IN {
                                d[r] = V::load(corner.add((r * columns + c) * V::LANES));
                            }
                            let column = transform::input::<V>(d);
                            for r in 0..IN {
                                half[r][c] = column[r];
                            }
                        }
                        let to_tile = to.values.add(t * to.tile);
                        for r in 0..IN {
                            let row = transform::input::<V>(half[r]);
                            for c in 0..IN {
                                row[c].store(to_tile.add((IN * r + c) * to.matrix));
                            }
                        }
                        t += 1;
                    }
                }
            }
            at += part.len();
        }
    }

    /// A·dy·Aᵀ of the 4×4 tiles of a gradient, one block of channels.
    ///
    /// # Safety
    /// As for [`Tiles::input`].
    #[inline(always)]
    pub(super) unsafe fn gradient<V: Vector, E: Element>(
        &self,
        dy: &Images<'_, E>,
        rows: &Range<usize>,
        block: usize,
        pixels: *mut f32,
        to: Matrices,
    ) {
        let columns = OUT * self.columns;
        let (mut at, mut t) = (rows.start, 0);
        while at < rows.end {
            let (image, part) = within(rows, at, self.rows);
            let window = Window {
                row: (OUT * part.start).cast_signed(),
                column: 0,
                rows: OUT * part.len(),
                columns,
            };
            // SAFETY: as in `input`.
            unsafe {
                dy.load::<V>((image, block), window, pixels, V::LANES);
                for i in 0..part.len() {
                    for j in 0..self.columns {
                        let corner = pixels.add((OUT * i * columns + OUT * j) * V::LANES);
                        let mut half = [[V::splat(0.0); OUT]; IN];
                        for c in 0..OUT {
                            let mut d = [V::splat(0.0); OUT];
                            for r in 0..OUT {
                                d[r] = V::load(corner.add((r * columns + c) * V::LANES));
                            }
                            let column = transform::output_gradient::<V>(d);
                            for r in 0..IN {
                                half[r][c] = column[r];
                            }
                        }
                        let to_tile = to.values.add(t * to.tile);
                        for r in 0..IN {
                            let row = transform::output_gradient::<V>(half[r]);
                            for c in 0..IN {
                                row[c].store(to_tile.add((IN * r + c) * to.matrix));
                            }
                        }
                        t += 1;
                    }
                }
            }
            at += part.len();
        }
    }

    /// Aᵀ·m·A of the tiles of `rows`, one block of channels, with bias and residual, to the images.
    ///
    /// # Safety
    /// `pixels` has room for [`Tiles::window_pixels`], `from` holds the tiles, and no other thread
    /// writes these rows of these channels.
    #[inline(always)]
    pub(super) unsafe fn output<V: Vector, E: Element>(
        &self,
        output: &Output<'_, E>,
        rows: &Range<usize>,
        block: usize,
        pixels: *mut f32,
        from: Matrices,
    ) {
        let columns = OUT * self.columns;
        let channels = (output.channels - block * V::LANES).min(V::LANES);
        let (height, width, step) = if output.halve {
            (output.height / 2, output.width / 2, OUT / 2)
        } else {
            (output.height, output.width, OUT)
        };
        let (mut at, mut t) = (rows.start, 0);
        while at < rows.end {
            let (image, part) = within(rows, at, self.rows);
            let bias = output.bias::<V>(image, block);
            for i in part.clone() {
                // SAFETY: the tiles are the caller's, four lines of pixels are less than a window, and
                // rows beyond the image are not written.
                unsafe {
                    for j in 0..self.columns {
                        let y = back::<V>(from.values.add(t * from.tile), from.matrix);
                        if output.halve {
                            for r in 0..OUT / 2 {
                                for c in 0..OUT / 2 {
                                    let above = y[2 * r][2 * c].add(y[2 * r][2 * c + 1]);
                                    let below = y[2 * r + 1][2 * c].add(y[2 * r + 1][2 * c + 1]);
                                    let to = pixels.add((r * columns + OUT / 2 * j + c) * V::LANES);
                                    above.add(below).add(bias).store(to);
                                }
                            }
                        } else {
                            for r in 0..OUT {
                                for c in 0..OUT {
                                    let to = pixels.add((r * columns + OUT * j + c) * V::LANES);
                                    y[r][c].add(bias).store(to);
                                }
                            }
                        }
                        t += 1;
                    }
                    for r in 0..step {
                        let row = step * i + r;
                        if row >= height {
                            break;
                        }
                        let first =
                            ((image * output.channels + block * V::LANES) * height + row) * width;
                        let line = Row {
                            to: output.y.pointer().add(first),
                            add: (!output.residual.is_empty())
                                .then_some(output.residual.as_ptr().wrapping_add(first)),
                            channels,
                            plane: height * width,
                            step: 1,
                            pixels: width,
                        };
                        line.store::<V>(pixels.add(r * columns * V::LANES));
                    }
                }
            }
            at += part.len();
        }
    }
}

/// Aᵀ·m·A of one tile.
#[inline(always)]
unsafe fn back<V: Vector>(tile: *const f32, matrix: usize) -> [[V; OUT]; OUT] {
    let mut half = [[V::splat(0.0); IN]; OUT];
    for c in 0..IN {
        let mut m = [V::splat(0.0); IN];
        for r in 0..IN {
            // SAFETY: the caller's tile has 36 values.
            m[r] = unsafe { V::load(tile.add((IN * r + c) * matrix)) };
        }
        let column = transform::output::<V>(m);
        for r in 0..OUT {
            half[r][c] = column[r];
        }
    }
    let mut y = [[V::splat(0.0); OUT]; OUT];
    for r in 0..OUT {
        y[r] = transform::output::<V>(half[r]);
    }
    y
}
