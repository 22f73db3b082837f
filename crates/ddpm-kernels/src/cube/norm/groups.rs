//! The groups of an image's channels: their moments, and the means that the gradient of a normalisation needs.

use cubecl::client::Client;
use cubecl::prelude::*;

/// Threads of a cube that makes groups of channels from their sums: [`CHANNELS`] at a time, [`LANES`] for each.
const CHANNELS: usize = 32;
const LANES: usize = 8;

/// How the channels of an image are shared among cubes: whole groups each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    /// Cubes an image.
    pub(super) blocks: usize,
    /// Channels of a cube.
    pub(super) block: usize,
}

impl Blocks {
    pub(super) fn new(channels: usize, group: usize) -> Self {
        let block = (CHANNELS / group).max(1) * group;
        Self {
            blocks: channels.div_ceil(block),
            block,
        }
    }

    /// Values of shared memory for the channels of a cube.
    pub(super) fn room(self) -> usize {
        self.block.next_multiple_of(CHANNELS)
    }

    pub(super) fn launch(self, client: &Client, batch: usize) -> (CubeCount, CubeDim, usize) {
        let threads = CHANNELS * LANES;
        let (cubes, dim) = (batch * self.blocks, CubeDim::new_1d(threads as u32));
        let count = cubecl::calculate_cube_count_elemwise(client, cubes * threads, dim);
        (count, dim, cubes)
    }
}

/// Adds up, for the channels of a cube, the two sums of each of an image's chunks: those of channel u are in `a[u]` and
/// `b[u]` then. `lanes` is [`CHANNELS`] · [`LANES`] values.
#[cube]
#[allow(
    clippy::too_many_arguments,
    reason = "sums of sums have that many sizes"
)]
fn add_chunks(
    sums: &Tensor<f32>,
    a: &mut Shared<[f32]>,
    b: &mut Shared<[f32]>,
    lanes_a: &mut Shared<[f32]>,
    lanes_b: &mut Shared<[f32]>,
    image: usize,
    first: usize,
    end: usize,
    channels: usize,
    chunks: usize,
) {
    let unit = UNIT_POS as usize;
    let (column, lane) = (unit % CHANNELS, unit / CHANNELS);
    let mut from = 0usize;
    // The same number of turns for all threads.
    while from < end {
        let u = from + column;
        let mut sum_a = 0.0f32;
        let mut sum_b = 0.0f32;
        if u < end {
            let mut part = lane;
            while part < chunks {
                let at = (image * chunks + part) * 2 * channels + first + u;
                sum_a += sums[at];
                sum_b += sums[at + channels];
                part += LANES;
            }
        }
        lanes_a[unit] = sum_a;
        lanes_b[unit] = sum_b;
        sync_cube();
        if lane == 0 && u < end {
            let mut all_a = 0.0f32;
            let mut all_b = 0.0f32;
            #[unroll]
            for k in 0..LANES {
                all_a += lanes_a[k * CHANNELS + column];
                all_b += lanes_b[k * CHANNELS + column];
            }
            a[u] = all_a;
            b[u] = all_b;
        }
        sync_cube();
        from += CHANNELS;
    }
}

/// Mean and reciprocal deviation of each group from its channels' sums (Chan et al. 1983).
#[cube(launch, address_type = "dynamic")]
pub(super) fn moments_of_groups<E: Numeric>(
    x: &Tensor<E>,
    sums: &Tensor<f32>,
    moments: &mut Tensor<f32>,
    pixels: usize,
    channels: usize,
    chunks: usize,
    group: usize,
    block: usize,
    blocks: usize,
    cubes: usize,
    eps: f32,
    #[comptime] room: usize,
    #[define(E)] _type: ElemType,
) {
    let mut means = Shared::<[f32]>::new_slice(room);
    let mut squares_left = Shared::<[f32]>::new_slice(room);
    let mut lanes_a = Shared::<[f32]>::new_slice(CHANNELS * LANES);
    let mut lanes_b = Shared::<[f32]>::new_slice(CHANNELS * LANES);
    // The same for all threads of a cube.
    if CUBE_POS >= cubes {
        terminate!();
    }
    let image = CUBE_POS / blocks;
    let first = (CUBE_POS % blocks) * block;
    let mut end = block;
    if first + end > channels {
        end = channels - first;
    }
    add_chunks(
        sums,
        &mut means,
        &mut squares_left,
        &mut lanes_a,
        &mut lanes_b,
        image,
        first,
        end,
        channels,
        chunks,
    );
    let n = f32::cast_from(pixels as u32);
    let mut unit = UNIT_POS as usize;
    while unit < end {
        let (sum, squares) = (means[unit], squares_left[unit]);
        means[unit] = f32::cast_from(x[image * pixels * channels + first + unit]) + sum / n;
        squares_left[unit] = squares - sum * sum / n;
        unit += CHANNELS * LANES;
    }
    sync_cube();
    let mut unit = UNIT_POS as usize;
    while unit < end {
        let from = unit - unit % group;
        let mut mean = 0.0f32;
        let mut m2 = 0.0f32;
        for i in 0..group {
            let step = means[from + i] - mean;
            let seen = f32::cast_from(i as u32);
            mean += step / (seen + 1.0f32);
            m2 += squares_left[from + i] + step * step * n * seen / (seen + 1.0f32);
        }
        let variance = m2 / (n * f32::cast_from(group as u32));
        let at = image * 2 * channels + first + unit;
        moments[at] = mean;
        moments[at + channels] = 1.0f32 / (variance + eps).sqrt();
        unit += CHANNELS * LANES;
    }
}

/// Σdz and Σdz·x̂ of each image's channels from the sums of [`partial_gradients`], and the means over each group of
/// weight·Σdz and weight·Σdz·x̂, repeated for each channel.
#[cube(launch, address_type = "dynamic")]
pub(super) fn means_of_groups(
    sums: &Tensor<f32>,
    weight: &Tensor<f32>,
    by_image: &mut Tensor<f32>,
    means: &mut Tensor<f32>,
    pixels: usize,
    channels: usize,
    chunks: usize,
    rows: usize,
    group: usize,
    block: usize,
    blocks: usize,
    cubes: usize,
    #[comptime] room: usize,
) {
    let mut plains = Shared::<[f32]>::new_slice(room);
    let mut weighteds = Shared::<[f32]>::new_slice(room);
    let mut lanes_a = Shared::<[f32]>::new_slice(CHANNELS * LANES);
    let mut lanes_b = Shared::<[f32]>::new_slice(CHANNELS * LANES);
    if CUBE_POS >= cubes {
        terminate!();
    }
    let image = CUBE_POS / blocks;
    let first = (CUBE_POS % blocks) * block;
    let mut end = block;
    if first + end > channels {
        end = channels - first;
    }
    add_chunks(
        sums,
        &mut plains,
        &mut weighteds,
        &mut lanes_a,
        &mut lanes_b,
        image,
        first,
        end,
        channels,
        chunks,
    );
    let mut unit = UNIT_POS as usize;
    while unit < end {
        let c = first + unit;
        let to = image * 2 * channels + c;
        let (plain, weighted) = (plains[unit], weighteds[unit]);
        by_image[to] = plain;
        by_image[to + channels] = weighted;
        let w = weight[(image % rows) * channels + c];
        plains[unit] = w * plain;
        weighteds[unit] = w * weighted;
        unit += CHANNELS * LANES;
    }
    sync_cube();
    let mut unit = UNIT_POS as usize;
    while unit < end {
        let to = image * 2 * channels + first + unit;
        let from = unit - unit % group;
        let mut plain = 0.0f32;
        let mut weighted = 0.0f32;
        for i in 0..group {
            plain += plains[from + i];
            weighted += weighteds[from + i];
        }
        let n = f32::cast_from(pixels as u32) * f32::cast_from(group as u32);
        means[to] = plain / n;
        means[to + channels] = weighted / n;
        unit += CHANNELS * LANES;
    }
}
