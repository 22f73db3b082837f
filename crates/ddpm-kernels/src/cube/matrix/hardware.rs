//! What a device has to multiply with.

use burn::tensor::DType;
use cubecl::client::Client;
use cubecl::prelude::*;

use super::plan::{Instruction, LANES, SIDE};
use crate::cube::tensor::elem;

/// The type in which matrix units read factors of `dtype`, and the depth of one instruction.
fn factor(dtype: DType) -> (ElemType, usize) {
    match dtype {
        DType::F32 => (cubecl::tf32::elem_type_native(), 8),
        other => (elem(other), 16),
    }
}

/// Whether this device fills and multiplies registers of `dtype`.
fn fills_registers(client: &Client, dtype: DType) -> bool {
    let matmul = &client.properties().features.matmul;
    let factor = elem(dtype);
    let (side, half) = (SIDE as u32, SIDE as u32 / 2);
    matmul.ldmatrix.contains(&factor)
        && matmul.mma.iter().any(|c| {
            c.a_type == factor
                && c.b_type == factor
                && c.cd_type == elem(DType::F32)
                && (c.m, c.n, c.k) == (side, half, side)
        })
}

/// Whether this device multiplies squares of `dtype` as these kernels do.
pub(super) fn multiplies_squares(client: &Client, dtype: DType) -> bool {
    let properties = client.properties();
    let hardware = &properties.hardware;
    let (factor, step) = factor(dtype);
    let (lanes, side) = (LANES as u32, SIDE as u32);
    hardware.plane_size_min == lanes
        && hardware.plane_size_max == lanes
        && properties.features.matmul.cmma.iter().any(|c| {
            c.a_type == factor
                && c.b_type == factor
                && c.cd_type == elem(DType::F32)
                && (c.m, c.n, c.k) == (side, side, step as u32)
        })
}

/// How this device multiplies factors of `dtype` best.
pub(super) fn instruction(client: &Client, dtype: DType) -> Instruction {
    if fills_registers(client, dtype) {
        return Instruction::Registers;
    }
    match multiplies_squares(client, dtype) {
        true => Instruction::Squares {
            depth: factor(dtype).1,
        },
        false => Instruction::Units,
    }
}

/// The types in which factors of `dtype` are read from their tensors, lie in shared memory, and are multiplied.
pub(super) fn types(instruction: Instruction, dtype: DType) -> [ElemType; 3] {
    match instruction {
        Instruction::Squares { .. } => {
            let factor = factor(dtype).0;
            [elem(dtype), factor, factor]
        }
        // What only passes through a thread passes as whole words: nothing is taken apart to be put together again.
        Instruction::Registers => {
            let word = u32::elem_type_native();
            [word, word, elem(dtype)]
        }
        Instruction::Units => [elem(dtype); 3],
    }
}

/// Cubes that keep a GPU busy.
pub(in crate::cube) fn enough(client: &Client) -> usize {
    let multiprocessors = client.properties().hardware.num_streaming_multiprocessors;
    multiprocessors.map_or(64, |count| count as usize)
}
