//! Where the factors of a convolution's products lie in its tensors.

use cubecl::prelude::*;
use cubecl::std::{FastDivmod, FastDivmodExpand};

use super::plan::{Operation, Plan};

/// The sizes that a kernel is told when it is run.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Sizes {
    /// Rows, columns and depth of the product.
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) depth: usize,
    /// The depth that a cube has.
    pub(super) part: usize,
    pub(super) input: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) output: usize,
    pub(super) out_height: FastDivmod<usize>,
    pub(super) out_width: FastDivmod<usize>,
    /// Pixels of the kernel, and its width.
    pub(super) taps: usize,
    pub(super) kernel_width: FastDivmod<usize>,
    /// Zeros above and left.
    pub(super) padding: usize,
    /// Rows of the bias that is added to the results: none, one, or one for each image.
    pub(super) bias_rows: usize,
    /// Tensors like the results that are added to them: none or one.
    pub(super) residuals: usize,
}

/// The number that is divided by.
#[cube]
fn divisor(by: &FastDivmod<usize>) -> usize {
    match by {
        FastDivmod::Fast { divisor, .. } => *divisor,
        FastDivmod::Fallback { divisor } => *divisor,
    }
}

/// How far a cube has come in its depth.
#[derive(CubeType)]
pub(super) struct Place {
    /// The tap, and where it is in the kernel; only if the depth is (tap, channel).
    pub(super) tap: usize,
    pub(super) row: usize,
    pub(super) column: usize,
    /// The first channel, or the first pixel.
    pub(super) first: usize,
    /// Where channels or pixels end.
    pub(super) end: usize,
}

/// Where a cube begins.
#[cube]
pub(super) fn begin(sizes: &Sizes, #[comptime] plan: Plan) -> Place {
    let mut first = 0usize;
    let end = match comptime!(plan.operation) {
        Operation::Forward => sizes.input,
        Operation::Data => sizes.output,
        Operation::Weight => {
            first = CUBE_POS_Z as usize * sizes.part;
            let mut end = first + sizes.part;
            if end > sizes.depth {
                end = sizes.depth;
            }
            end
        }
    };
    Place {
        tap: 0usize,
        row: 0usize,
        column: 0usize,
        first,
        end,
    }
}

/// Slices from there to the end.
#[cube]
pub(super) fn slices(place: &Place, sizes: &Sizes, #[comptime] plan: Plan) -> usize {
    let each = (place.end - place.first).div_ceil(comptime!(plan.slice()));
    match comptime!(plan.through_taps()) {
        true => each * sizes.taps,
        false => each,
    }
}

/// Goes to the next slice.
#[cube]
pub(super) fn advance(place: &mut Place, sizes: &Sizes, #[comptime] plan: Plan) {
    place.first += comptime!(plan.slice());
    let taps_follow = comptime!(plan.through_taps()).runtime();
    if taps_follow && place.first >= place.end {
        place.first = 0usize;
        place.tap += 1usize;
        place.column += 1usize;
        if place.column == divisor(&sizes.kernel_width) {
            place.column = 0usize;
            place.row += 1usize;
        }
    }
}

/// A pixel that a thread reads around.
#[derive(CubeType)]
pub(super) struct Pixel {
    /// The first row of its image, counted over the batch.
    base: usize,
    row: usize,
    column: usize,
}

/// A row that no image has.
const NOWHERE: usize = 1 << 29;

/// The pixel of row `m` of the product, if its depth is (tap, channel).
#[cube]
pub(super) fn pixel(m: usize, sizes: &Sizes, #[comptime] plan: Plan) -> Pixel {
    let mut base = 0usize;
    let mut row = comptime!(NOWHERE).runtime();
    let mut column = 0usize;
    if m < sizes.m {
        match comptime!(plan.operation) {
            Operation::Forward => {
                let (rest, j) = sizes.out_width.div_mod(m);
                let (image, i) = sizes.out_height.div_mod(rest);
                column = j * comptime!(plan.stride);
                row = i * comptime!(plan.stride);
                base = image * sizes.height;
            }
            Operation::Data | Operation::Weight => {
                let rest = m / sizes.width;
                column = m % sizes.width + sizes.padding;
                row = rest % sizes.height + sizes.padding;
                base = rest / sizes.height * divisor(&sizes.out_height);
            }
        }
    }
    Pixel { base, row, column }
}

/// Channels of x from `channel` on, at `row` and `column` of the padded image.
#[cube]
fn read_x<E: Numeric, N: Size>(
    x: &Tensor<Vector<E, N>>,
    at: &Pixel,
    channel: usize,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> Vector<E, N> {
    let mut value = Vector::<E, N>::new(E::from_int(0));
    if at.row >= sizes.padding
        && at.row < sizes.height + sizes.padding
        && at.column >= sizes.padding
        && at.column < sizes.width + sizes.padding
        && channel < sizes.input
    {
        let pixel = (at.base + at.row - sizes.padding) * sizes.width + at.column - sizes.padding;
        value = x[(pixel * sizes.input + channel) / comptime!(plan.size)];
    }
    value
}

/// Channels of dy from `channel` on that the tap at hand brings to a pixel of dx.
#[cube]
fn read_dy<E: Numeric, N: Size>(
    dy: &Tensor<Vector<E, N>>,
    pixel: &Pixel,
    place: &Place,
    channel: usize,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> Vector<E, N> {
    let mut value = Vector::<E, N>::new(E::from_int(0));
    if pixel.row >= place.row && pixel.column >= place.column && channel < sizes.output {
        let (row, column) = (pixel.row - place.row, pixel.column - place.column);
        let (i, j) = (
            row / comptime!(plan.stride),
            column / comptime!(plan.stride),
        );
        if row % comptime!(plan.stride) == 0
            && column % comptime!(plan.stride) == 0
            && i < divisor(&sizes.out_height)
            && j < divisor(&sizes.out_width)
        {
            let at = (pixel.base + i) * divisor(&sizes.out_width) + j;
            value = dy[(at * sizes.output + channel) / comptime!(plan.size)];
        }
    }
    value
}

/// A vector of the left factor whose rows are pixels: at `deep` values from where the cube has come.
#[cube]
pub(super) fn around<E: Numeric, N: Size>(
    a: &Tensor<Vector<E, N>>,
    pixel: &Pixel,
    deep: usize,
    place: &Place,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> Vector<E, N> {
    let channel = place.first + deep;
    match comptime!(plan.operation) {
        Operation::Forward => {
            let at = Pixel {
                base: pixel.base,
                row: pixel.row + place.row,
                column: pixel.column + place.column,
            };
            read_x::<E, N>(a, &at, channel, sizes, plan)
        }
        Operation::Data | Operation::Weight => {
            read_dy::<E, N>(a, pixel, place, channel, sizes, plan)
        }
    }
}

/// A vector of the left factor of a weight's gradient: channels of dy from `m` on at pixel `k`.
#[cube]
pub(super) fn of_pixel<E: Numeric, N: Size>(
    dy: &Tensor<Vector<E, N>>,
    k: usize,
    m: usize,
    place: &Place,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> Vector<E, N> {
    let mut value = Vector::<E, N>::new(E::from_int(0));
    if k < place.end && m < sizes.m {
        value = dy[(k * sizes.output + m) / comptime!(plan.size)];
    }
    value
}

/// A tap of the kernel, and a channel of x.
#[derive(CubeType)]
pub(super) struct TapChannel {
    /// The column of a weight's gradient that they are.
    n: usize,
    row: usize,
    column: usize,
    channel: usize,
}

/// Those of column `n` of a weight's gradient.
#[cube]
pub(super) fn tap_channel(n: usize, sizes: &Sizes) -> TapChannel {
    let (row, column) = sizes.kernel_width.div_mod(n / sizes.input);
    TapChannel {
        n,
        row,
        column,
        channel: n % sizes.input,
    }
}

/// A vector of the right factor: at row `row` of the slice if that goes across the depth, else at row `row` of the
/// columns from `first_n` on, and `along` values along it.
#[cube]
#[allow(
    clippy::too_many_arguments,
    reason = "a convolution has that many sizes"
)]
pub(super) fn right<E: Numeric, N: Size>(
    b: &Tensor<Vector<E, N>>,
    row: usize,
    along: usize,
    first_n: usize,
    tap_channel: &TapChannel,
    place: &Place,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> Vector<E, N> {
    let mut value = Vector::<E, N>::new(E::from_int(0));
    match comptime!(plan.operation) {
        Operation::Forward => {
            let (n, channel) = (first_n + row, place.first + along);
            if n < sizes.n && channel < place.end {
                let tap = n * sizes.taps + place.tap;
                value = b[(tap * sizes.input + channel) / comptime!(plan.size)];
            }
        }
        Operation::Data => {
            let (channel, n) = (place.first + row, first_n + along);
            if channel < place.end && n < sizes.n {
                let tap = channel * sizes.taps + place.tap;
                value = b[(tap * sizes.input + n) / comptime!(plan.size)];
            }
        }
        Operation::Weight => {
            let k = place.first + row;
            if k < place.end && tap_channel.n < sizes.n {
                let (rest, j) = sizes.out_width.div_mod(k);
                let (image, i) = sizes.out_height.div_mod(rest);
                let at = Pixel {
                    base: image * sizes.height,
                    row: i * comptime!(plan.stride) + tap_channel.row,
                    column: j * comptime!(plan.stride) + tap_channel.column,
                };
                value = read_x::<E, N>(b, &at, tap_channel.channel, sizes, plan);
            }
        }
    }
    value
}
