//! A convolution's weight in the orders and the type in which kernels read it.

use std::sync::{Arc, OnceLock};

use burn::tensor::DType;
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{address, dense, dims, elem, empty, grid, is_dense};

/// Channels of the result, and of the depth, in a slice of a weight.
pub(super) const SLICE_COLUMNS: usize = 128;
pub(super) const SLICE_DEPTH: usize = 16;
/// Values of a slice, and of eight of its depth; slices for all taps.
const SLICE: usize = SLICE_COLUMNS * SLICE_DEPTH;
const EIGHT: usize = SLICE_COLUMNS * 8;
const TAPS: usize = 9;

/// A weight `[out, in, k, k]` in f32, and of what it was made so far; clones share that.
///
/// The memory of a 1×1 weight in f32 is in order already: what is computed from it, and what is not made yet, is to be
/// done with before the weight is changed in place.
#[derive(Debug, Clone)]
pub(super) struct PackedWeight(Arc<Forms>);

#[derive(Debug)]
struct Forms {
    /// None where only the rows are there.
    weight: Option<CubeTensor>,
    dtype: DType,
    rows: OnceLock<CubeTensor>,
    slices: [OnceLock<CubeTensor>; 2],
}

impl PackedWeight {
    pub(super) fn new(weight: CubeTensor, dtype: DType) -> Self {
        Self::of(Some(weight), dtype, OnceLock::new())
    }

    /// Of a weight in order.
    pub(super) fn of_rows(rows: CubeTensor) -> Self {
        Self::of(None, rows.dtype, OnceLock::from(rows))
    }

    fn of(weight: Option<CubeTensor>, dtype: DType, rows: OnceLock<CubeTensor>) -> Self {
        Self(Arc::new(Forms {
            weight,
            dtype,
            rows,
            slices: Default::default(),
        }))
    }

    pub(super) fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// `[out, k, k, in]`.
    pub(super) fn rows(&self) -> &CubeTensor {
        self.0.rows.get_or_init(|| match &self.0.weight {
            Some(weight) => rows(weight.clone(), self.0.dtype),
            None => unreachable!("without a weight there are its rows"),
        })
    }

    /// Slices as `hopper/window.cu` reads them: of 128 channels of the result, 16 of the depth, and a tap, with eight of
    /// the depth in order, then the channels of the result, then the next eight. `[out / 128, in / 16, 9, 2048]`; if
    /// `mirrored`, of the weight whose convolution is the gradient of the input.
    ///
    /// None if this is no 3×3 weight in f32, or its channels do not make whole slices.
    pub(super) fn slices(&self, mirrored: bool) -> Option<CubeTensor> {
        let weight = self.0.weight.as_ref()?;
        let [output, input, height, width] = dims(weight);
        let [n, k] = match mirrored {
            true => [input, output],
            false => [output, input],
        };
        let whole = n.is_multiple_of(SLICE_COLUMNS) && k.is_multiple_of(SLICE_DEPTH);
        let known = weight.dtype == DType::F32 && is_dense(weight) && (height, width) == (3, 3);
        (whole && known).then(|| {
            let made = || slices(weight, self.0.dtype, n, k, mirrored);
            self.0.slices[usize::from(mirrored)]
                .get_or_init(made)
                .clone()
        })
    }
}

fn rows(weight: CubeTensor, dtype: DType) -> CubeTensor {
    let [output, input, height, width] = dims(&weight);
    let taps = height * width;
    if taps > 1 && weight.dtype == DType::F32 && is_dense(&weight) {
        let packed = empty(&weight, [output, height, width, input], dtype);
        let (count, dim) = grid(&weight.client, output * input);
        pack_taps::launch(
            &weight.client,
            count,
            dim,
            address(&[&weight]),
            weight.clone().into_tensor_arg(),
            packed.clone().into_tensor_arg(),
            input,
            taps,
            output * input,
            elem(dtype),
        );
        return packed;
    }
    let weight = permute(weight, &[0, 2, 3, 1]);
    match weight.dtype == dtype {
        true => dense(weight),
        false => super::relayout::copy(weight, Some(dtype)),
    }
}

/// Dense `[out, in, taps]` to `[out, taps, in]`, a thread for all taps of a pair: what it reads lies in order, and so
/// does what neighbours write.
#[cube(launch, address_type = "dynamic")]
fn pack_taps<E: Numeric>(
    weight: &Tensor<f32>,
    packed: &mut Tensor<E>,
    input: usize,
    taps: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let o = ABSOLUTE_POS / input;
    let to = o * taps * input + ABSOLUTE_POS % input;
    let from = ABSOLUTE_POS * taps;
    for tap in 0..taps {
        packed[to + tap * input] = E::cast_from(weight[from + tap]);
    }
}

fn slices(weight: &CubeTensor, dtype: DType, n: usize, k: usize, mirrored: bool) -> CubeTensor {
    let shape = [n / SLICE_COLUMNS, k / SLICE_DEPTH, TAPS, SLICE];
    let packed = empty(weight, shape, dtype);
    let (count, dim) = grid(&weight.client, n * k);
    pack_slices::launch(
        &weight.client,
        count,
        dim,
        address(&[weight]),
        weight.clone().into_tensor_arg(),
        packed.clone().into_tensor_arg(),
        n,
        k,
        mirrored,
        elem(dtype),
    );
    packed
}

/// A thread for all taps of a pair of channels; neighbours write what lies in order.
#[cube(launch, address_type = "dynamic")]
fn pack_slices<E: Numeric>(
    weight: &Tensor<f32>,
    packed: &mut Tensor<E>,
    n: usize,
    k: usize,
    #[comptime] mirrored: bool,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= n * k {
        terminate!();
    }
    // Eight of the depth, the columns of a slice, eights of the depth, slices.
    let deep = ABSOLUTE_POS % 8;
    let column = ABSOLUTE_POS / 8 % SLICE_COLUMNS;
    let eights = k / 8;
    let eight = ABSOLUTE_POS / EIGHT % eights;
    let slice = ABSOLUTE_POS / EIGHT / eights;
    let depth = eight * 8 + deep;
    let across = slice * SLICE_COLUMNS + column;
    let first = (slice * eights + eight) / 2 * (TAPS * SLICE);
    let to = first + eight % 2 * EIGHT + column * 8 + deep;
    for tap in 0..TAPS {
        if mirrored {
            let from = (depth * n + across) * TAPS + tap;
            packed[to + (TAPS - 1 - tap) * SLICE] = E::cast_from(weight[from]);
        } else {
            let from = (across * k + depth) * TAPS + tap;
            packed[to + tap * SLICE] = E::cast_from(weight[from]);
        }
    }
}
