//! Sums in a fixed order, without atomics: a thread adds up some pixels of its channels, and these sums are added up then.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{address, empty, grid, vector_size};

/// Threads that keep a GPU busy.
const THREADS: usize = 1 << 18;

/// How pixels are shared among threads: `chunks` times `chunk` pixels an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    pub(super) chunks: usize,
    pub(super) chunk: usize,
}

impl Chunks {
    /// For sums: at least 16 pixels each.
    pub(super) fn new(batch: usize, pixels: usize, vectors: usize) -> Self {
        Self::of(16, batch, pixels, vectors)
    }

    /// At least `least` pixels each.
    pub(super) fn of(least: usize, batch: usize, pixels: usize, vectors: usize) -> Self {
        let wanted = THREADS
            .div_ceil(batch * vectors)
            .clamp(1, pixels.div_ceil(least).max(1));
        let chunk = pixels.div_ceil(wanted);
        Self {
            chunks: pixels.div_ceil(chunk),
            chunk,
        }
    }
}

/// `[images, parts, width]` -> `[images, width]`, by a thread for some columns of an image.
#[cube(launch, address_type = "dynamic")]
fn add_up<N: Size>(
    sums: &Tensor<Vector<f32, N>>,
    total: &mut Tensor<Vector<f32, N>>,
    parts: usize,
    vectors: usize,
    threads: usize,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let image = ABSOLUTE_POS / vectors;
    let v = ABSOLUTE_POS % vectors;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for part in 0..parts {
        sum += sums[(image * parts + part) * vectors + v];
    }
    total[ABSOLUTE_POS] = sum;
}

/// Columns that are enough to keep a GPU busy.
const TALL: usize = 1 << 14;

/// More cubes in one direction some graphics interfaces do not start.
const MOST_CUBES: usize = 1 << 16;

/// Columns that a cube of [`add_tall`] adds up, and threads for each.
const COLUMNS: usize = 16;
const ROWS: usize = 16;

/// `[images, parts, width]` -> `[images, width]`, by a cube for some columns of an image: parts are many where a thread
/// for each column would be slow and leave a GPU idle.
#[cube(launch, address_type = "dynamic")]
fn add_tall(sums: &Tensor<f32>, total: &mut Tensor<f32>, parts: usize, width: usize) {
    let mut shares = Shared::<[f32]>::new_slice(COLUMNS * ROWS);
    let unit = UNIT_POS as usize;
    let image = CUBE_POS_Y as usize;
    let c = CUBE_POS_X as usize * COLUMNS + unit % COLUMNS;
    let mut sum = 0.0f32;
    if c < width {
        let mut part = unit / COLUMNS;
        while part < parts {
            sum += sums[(image * parts + part) * width + c];
            part += ROWS;
        }
    }
    shares[unit] = sum;
    sync_cube();
    if unit < COLUMNS && c < width {
        let mut all = 0.0f32;
        #[unroll]
        for row in 0..ROWS {
            all += shares[row * COLUMNS + unit];
        }
        total[image * width + c] = all;
    }
}

/// `[images, parts, width]` summed to `[images, width]`, in order.
pub(super) fn totals(sums: &CubeTensor, images: usize, parts: usize, width: usize) -> CubeTensor {
    let total = empty(sums, [images, width], DType::F32);
    // A thread for each column where there are columns enough.
    if parts > ROWS && width < TALL && images < MOST_CUBES {
        add_tall::launch(
            &sums.client,
            CubeCount::new_2d(width.div_ceil(COLUMNS) as u32, images as u32),
            CubeDim::new_1d((COLUMNS * ROWS) as u32),
            address(&[sums]),
            sums.clone().into_tensor_arg(),
            total.clone().into_tensor_arg(),
            parts,
            width,
        );
        return total;
    }
    // Several columns a thread only where that leaves threads enough.
    let size = match images * width >= 4 * TALL {
        true => vector_size(width),
        false => 1,
    };
    let threads = images * width / size;
    let (count, dim) = grid(&sums.client, threads);
    add_up::launch(
        &sums.client,
        count,
        dim,
        address(&[sums]),
        size,
        sums.clone().into_tensor_arg(),
        total.clone().into_tensor_arg(),
        parts,
        width / size,
        threads,
    );
    total
}
