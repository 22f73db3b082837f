//! Convolutions and their gradients on the warpgroup matrix units of NVIDIA's Hopper (`wgmma`), which CubeCL does not
//! know: its kernels are CUDA C++. `product.cu` does all of them; `window.cu` does those of 3×3 of stride 1, and the
//! gradients of their inputs, faster where sizes are round.

mod text;
pub(super) mod window;

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;

use super::gemm::Geometry;
use super::matrix::{Addends, enough};
use super::tensor::{dims, empty, reshaped};
use text::Program;

const TEXT: &str = include_str!("product.cu");

/// Threads of a block.
const THREADS: u32 = 128;

/// Depth of a slice.
const DEPTH: usize = 32;

/// How the factors of a product lie: what is one after the other in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lie {
    /// The depth of both: rows of the result are pixels, around which lie taps, columns are rows of values.
    Along,
    /// The depth of the left one as before, the columns of the right one.
    AlongAcross,
    /// The rows of the left one, the columns of the right one: the depth is pixels.
    Across,
}

/// A program of `product.cu`.
#[derive(Debug, Clone, Copy)]
struct Kind {
    lie: Lie,
    /// Results of a block, down and across.
    block: (usize, usize),
    dtype: DType,
    /// The results are f32, otherwise of the type of the factors.
    wide: bool,
    /// The depth goes through the taps first, 32 channels at a time.
    taps_within: bool,
}

impl Kind {
    fn program(self) -> Program {
        let (left, right) = match self.lie {
            Lie::Along => (1, 1),
            Lie::AlongAcross => (1, 0),
            Lie::Across => (0, 0),
        };
        let result = if self.wide { "float" } else { "VALUE" };
        let (rows, columns) = self.block;
        Program {
            name: "hopper_product",
            text: TEXT,
            threads: THREADS,
            dtype: self.dtype,
            defines: vec![
                ("RESULT", result.to_owned()),
                ("ROWS", rows.to_string()),
                ("COLUMNS", columns.to_string()),
                ("LEFT_ALONG", left.to_string()),
                ("RIGHT_ALONG", right.to_string()),
                ("TAPS_WITHIN", u32::from(self.taps_within).to_string()),
            ],
        }
    }
}

/// Where the matrices of a factor or of the results lie, in values.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Place {
    /// From one pixel or row to the next.
    pub(super) pitch: usize,
    pub(super) start: usize,
    /// From one image to the next, and from one head of it to the next.
    pub(super) image: usize,
    pub(super) head: usize,
}

impl Place {
    fn dense(pitch: usize) -> Self {
        Self {
            pitch,
            ..Self::default()
        }
    }

    /// Whether the kernel can be told of it.
    pub(super) fn fits(self) -> bool {
        let sizes = [self.pitch, self.start, self.image, self.head];
        sizes.into_iter().all(|size| size < VALUES)
    }

    fn words(self) -> [u32; 4] {
        [self.pitch, self.start, self.image, self.head].map(|size| size as u32)
    }
}

/// The images that are read around a pixel, and where.
#[derive(Debug, Clone, Copy)]
struct Around {
    channels: usize,
    height: usize,
    width: usize,
    /// Of the images whose pixels are the rows of the result, or the depth.
    out_height: usize,
    out_width: usize,
    kernel: (usize, usize),
    /// The row that is read is stride · row - padding + sign · tap.
    stride: usize,
    padding: i32,
    sign: i32,
}

impl Around {
    /// What a convolution reads.
    fn convolved(g: &Geometry) -> Self {
        Self {
            channels: g.input,
            height: g.height,
            width: g.width,
            out_height: g.out_height,
            out_width: g.out_width,
            kernel: g.kernel,
            stride: g.stride,
            padding: g.padding as i32,
            sign: 1,
        }
    }

    /// A matrix of so many rows of `channels` values.
    fn matrix(rows: usize, channels: usize) -> Self {
        Self {
            channels,
            height: rows,
            width: 1,
            out_height: rows,
            out_width: 1,
            kernel: (1, 1),
            stride: 1,
            padding: 0,
            sign: 1,
        }
    }

    fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }
}

/// What the kernel is told, as `Sizes` in `product.cu`.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Results down and across, the depth, and that of one part of it.
    m: usize,
    n: usize,
    depth: usize,
    part: usize,
    left: Place,
    right: Place,
    out: Place,
    images: usize,
    heads: usize,
    around: Around,
    bias_rows: usize,
    residual: bool,
}

impl Sizes {
    /// The words of the struct, with `columns` blocks across.
    fn words(&self, columns: usize) -> Vec<u32> {
        let around = &self.around;
        let pixels = around.out_height * around.out_width;
        let [width, image] = [around.out_width, pixels].map(magic);
        let sizes = [self.m, self.n, self.depth, self.part].map(|size| size as u32);
        let mut words = sizes.to_vec();
        for place in [self.left, self.right, self.out] {
            words.extend(place.words());
        }
        words.extend(
            [
                self.heads,
                columns,
                around.channels,
                around.height,
                around.width,
                around.out_width,
                pixels,
                around.kernel.1,
                around.taps(),
                around.stride,
            ]
            .map(|size| size as u32),
        );
        words.extend([around.padding, around.sign].map(i32::cast_unsigned));
        words.extend([self.bias_rows as u32, u32::from(self.residual)]);
        words.extend(width);
        words.extend(image);
        words
    }
}

/// Multiplier and shift with which x / d is the upper half of x times the one, shifted by the other, for all x below
/// 2³¹ (Granlund & Montgomery 1994); zeros for d = 1.
fn magic(d: usize) -> [u32; 2] {
    let d = d as u64;
    if d == 1 {
        return [0; 2];
    }
    let log = 64 - (d - 1).leading_zeros();
    [((1u64 << (31 + log)).div_ceil(d)) as u32, log - 1]
}

/// Whether this is a device that `product.cu` is for, and a type.
fn is_hopper(x: &CubeTensor) -> bool {
    cfg!(feature = "nvrtc")
        && matches!(x.dtype, DType::BF16 | DType::F16)
        && x.client.properties().identity.fingerprint == "ptx_sm90"
}

/// The most values of a tensor: the kernel counts them in 32 bits.
const VALUES: usize = 1 << 31;

/// Whether the kernel does a convolution of this geometry here: channels are read 16 bytes at a time, and a bit says of
/// each tap whether it is inside.
pub(super) fn can(x: &CubeTensor, g: &Geometry) -> bool {
    let [batch, ..] = dims(x);
    let pixels = batch * (g.height * g.width).max(g.out_height * g.out_width);
    let largest = pixels.max(g.kernel.0 * g.kernel.1 * g.output) * g.input.max(g.output);
    is_hopper(x)
        && g.input.is_multiple_of(8)
        && g.output.is_multiple_of(8)
        && g.kernel.0 * g.kernel.1 <= 32
        && largest < VALUES
}

fn launch(
    kind: Kind,
    [a, b]: [&CubeTensor; 2],
    out: &CubeTensor,
    added: Option<Addends>,
    sizes: Sizes,
) {
    let (rows, columns) = kind.block;
    let columns = sizes.n.div_ceil(columns);
    let blocks = [
        columns * sizes.m.div_ceil(rows),
        sizes.depth.div_ceil(sizes.part),
        sizes.images * sizes.heads,
    ];
    // What is not added stands for nothing, but something has to stand there.
    let bias = added.map_or(a, |added| added.bias);
    let residual = added.and_then(|added| added.residual).unwrap_or(a);
    let read = [a, b, bias, residual];
    kind.program()
        .launch(&read, (2, out), &sizes.words(columns), blocks);
}

/// Blocks that a multiprocessor holds of the largest kind.
const RESIDENT: usize = 3;

/// The largest block of which there are enough for three multiprocessors in four: smaller ones read more.
fn block(x: &CubeTensor, m: usize, n: usize, matrices: usize) -> (usize, usize) {
    let count = |(rows, columns)| m.div_ceil(rows) * n.div_ceil(columns) * matrices;
    let enough = |block: &(usize, usize)| 4 * count(*block) >= 3 * enough(&x.client);
    match n <= 64 {
        true => (64, 64),
        false => [(128, 128), (64, 128)]
            .into_iter()
            .find(enough)
            .unwrap_or((64, 64)),
    }
}

/// x ∗ w and what is added, dense; x and w have a multiple of 8 channels.
pub(super) fn forward(
    x: &CubeTensor,
    w: &CubeTensor,
    added: Option<Addends>,
    g: &Geometry,
) -> CubeTensor {
    let [batch, ..] = dims(x);
    let y = empty(x, [batch, g.out_height, g.out_width, g.output], x.dtype);
    rows_of_pixels(Lie::Along, [x, w], added, &y, Around::convolved(g));
    y
}

/// The gradient of x, dense, if the stride is 1: the convolution of dy by the mirrored weight.
pub(super) fn data_gradient(dy: &CubeTensor, w: &CubeTensor, g: &Geometry) -> CubeTensor {
    let [batch, ..] = dims(dy);
    let dx = empty(dy, [batch, g.height, g.width, g.input], dy.dtype);
    let around = Around {
        channels: g.output,
        height: g.out_height,
        width: g.out_width,
        out_height: g.height,
        out_width: g.width,
        kernel: g.kernel,
        stride: 1,
        padding: -(g.padding as i32),
        sign: -1,
    };
    rows_of_pixels(Lie::AlongAcross, [dy, w], None, &dx, around);
    dx
}

fn rows_of_pixels(
    lie: Lie,
    [x, w]: [&CubeTensor; 2],
    added: Option<Addends>,
    out: &CubeTensor,
    around: Around,
) {
    let [batch, height, width, n] = dims(out);
    let m = batch * height * width;
    let depth = around.taps() * around.channels;
    let kind = Kind {
        lie,
        block: block(x, m, n, 1),
        dtype: x.dtype,
        wide: false,
        taps_within: around.channels.is_multiple_of(DEPTH),
    };
    let sizes = Sizes {
        m,
        n,
        depth,
        part: depth,
        left: Place::dense(around.channels),
        right: Place::dense(match lie {
            Lie::Along => depth,
            Lie::AlongAcross | Lie::Across => around.taps() * n,
        }),
        out: Place::dense(n),
        images: 1,
        heads: 1,
        around,
        bias_rows: added.map_or(0, |added| added.bias.meta.shape()[0]),
        residual: added.is_some_and(|added| added.residual.is_some()),
    };
    launch(kind, [x, w], out, added, sizes);
}

/// The gradient of the weight, `[out, k, k, in]` in f32. The depth, all pixels of the batch, is divided among blocks.
pub(super) fn weight_gradient(x: &CubeTensor, dy: &CubeTensor, g: &Geometry) -> CubeTensor {
    let [batch, ..] = dims(dy);
    let depth = batch * g.out_height * g.out_width;
    let (m, n) = (g.output, g.kernel.0 * g.kernel.1 * g.input);
    let block = match m.min(n) <= 64 {
        true => (64, 64),
        false => (128, 128),
    };
    let tiles = m.div_ceil(block.0) * n.div_ceil(block.1);
    let parts = (RESIDENT * enough(&x.client) / tiles).clamp(1, depth.div_ceil(8 * DEPTH));
    let part = depth.div_ceil(parts).next_multiple_of(DEPTH);
    let parts = depth.div_ceil(part);
    let sums = empty(x, [parts, m, n], DType::F32);
    let sizes = Sizes {
        m,
        n,
        depth,
        part,
        left: Place::dense(m),
        right: Place::dense(g.input),
        out: Place::dense(n),
        images: 1,
        heads: 1,
        around: Around::convolved(g),
        bias_rows: 0,
        residual: false,
    };
    let kind = Kind {
        lie: Lie::Across,
        block,
        dtype: x.dtype,
        wide: true,
        taps_within: false,
    };
    launch(kind, [dy, x], &sums, None, sizes);
    let shape = [g.output, g.kernel.0, g.kernel.1, g.input];
    match parts {
        1 => reshaped(sums, shape),
        _ => reshaped(super::sums::totals(&sums, 1, parts, m * n), shape),
    }
}

/// A factor of the products of attention, or what they are written to: matrices with their rows in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrices<'a> {
    pub(super) tensor: &'a CubeTensor,
    pub(super) place: Place,
    /// The matrix is taken transposed.
    pub(super) transposed: bool,
}

/// More matrices CUDA does not start the blocks of at once.
const MATRICES: usize = 1 << 16;

/// Whether the kernel does so many products of matrices of these sizes here.
pub(super) fn multiplies(x: &CubeTensor, matrices: usize, sizes: [usize; 3]) -> bool {
    is_hopper(x) && matrices < MATRICES && sizes.iter().all(|size| size.is_multiple_of(DEPTH))
}

/// a·b for each head of each image, `[m, depth]` × `[depth, n]`, written to `out`. Where a is transposed, b is not.
pub(super) fn products(
    a: Matrices,
    b: Matrices,
    out: Matrices,
    [images, heads]: [usize; 2],
    [m, depth, n]: [usize; 3],
) {
    let (lie, around) = match (a.transposed, b.transposed) {
        (false, true) => (Lie::Along, Around::matrix(m, depth)),
        (false, false) => (Lie::AlongAcross, Around::matrix(m, depth)),
        (true, _) => (Lie::Across, Around::matrix(depth, n)),
    };
    let kind = Kind {
        lie,
        block: match lie {
            Lie::Along => block(a.tensor, m, n, images * heads),
            // Fewer programs: these are few products.
            Lie::AlongAcross | Lie::Across => match n <= 64 {
                true => (64, 64),
                false => (128, 128),
            },
        },
        dtype: a.tensor.dtype,
        wide: out.tensor.dtype == DType::F32,
        taps_within: lie != Lie::Across,
    };
    let sizes = Sizes {
        m,
        n,
        depth,
        part: depth,
        left: a.place,
        right: b.place,
        out: out.place,
        images,
        heads,
        around,
        bias_rows: 0,
        residual: false,
    };
    launch(kind, [a.tensor, b.tensor], out.tensor, None, sizes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel divides.
    #[test]
    fn dividing_by_multiplying_is_exact() {
        for d in (1..300).chain([512, 1000, 1024, 4095, 65_536, 262_144, 1 << 20]) {
            let [multiplier, shift] = magic(d);
            let d = d as u64;
            let near = [0, 1, d - 1, d, d + 1, 77 * d - 1, 77 * d, (1 << 31) - 1];
            let last = ((1u64 << 31) - 1) / d * d;
            for x in near.into_iter().chain([last - 1, last]) {
                let x = x.min((1 << 31) - 1);
                let found = match multiplier {
                    0 => x,
                    m => ((x * u64::from(m)) >> 32) >> shift,
                };
                assert_eq!(found, x / d, "{x} / {d}");
            }
        }
    }
}
