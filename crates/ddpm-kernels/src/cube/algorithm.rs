//! Which kernel does a convolution on a card: matrix units where the device has them for the type, the
//! ordinary ones otherwise.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::DType;
use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubek::convolution::{AcceleratedTileKind, ConvAlgorithm};
use serde::{Deserialize, Serialize};

use super::tensor::elem;
use crate::precision::Precision;

/// A kernel for one of a convolution's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ordinary units (`gemm.rs`); runs everywhere, f32 stays f32.
    Units,
    /// Matrix units, by one of cubek's ways of bringing tiles to them.
    Matrix(ConvAlgorithm, AcceleratedTileKind),
}

/// What is worth trying where there are matrix units.
const MATRIX: [Algorithm; 6] = {
    use AcceleratedTileKind::{Cmma, Mma};
    [
        Algorithm::Matrix(ConvAlgorithm::SimpleSyncCyclic, Cmma),
        Algorithm::Matrix(ConvAlgorithm::SimpleSyncStrided, Mma),
        Algorithm::Matrix(ConvAlgorithm::SimpleAsyncCyclic, Cmma),
        Algorithm::Matrix(ConvAlgorithm::SimpleAsyncStrided, Mma),
        Algorithm::Matrix(ConvAlgorithm::SimpleAsyncTma, Cmma),
        Algorithm::Matrix(ConvAlgorithm::SimpleAsyncTma, Mma),
    ]
};

/// Whether matrix units may round f32 factors to TF32.
static TF32: AtomicBool = AtomicBool::new(false);

/// Allows or forbids TF32 for the products of f32 tensors, for the whole process.
pub(crate) fn allow_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
}

/// Whether products of `dtype` may go to matrix units on this device.
pub(super) fn has_matrix_units(client: &Client, dtype: DType) -> bool {
    let matmul = &client.properties().features.matmul;
    let factor = match dtype {
        DType::F32 if TF32.load(Ordering::Relaxed) => cubecl::tf32::elem_type_native(),
        DType::F16 | DType::BF16 => elem(dtype),
        _ => return false,
    };
    let mut configurations = matmul.cmma.iter().chain(&matmul.mma);
    configurations
        .any(|c| c.a_type == factor && c.b_type == factor && c.cd_type == elem(DType::F32))
}

/// Why a device cannot compute in a precision; nothing if it can.
pub(crate) fn lacks(device: &CubeDevice, precision: Precision) -> Option<String> {
    let client = device.client();
    let properties = client.properties();
    let name = &properties.identity.name;
    let has = match precision {
        Precision::F32 => true,
        Precision::Tf32 => {
            let tf32 = cubecl::tf32::elem_type_native();
            let matmul = &properties.features.matmul;
            matmul
                .cmma
                .iter()
                .chain(&matmul.mma)
                .any(|c| c.a_type == tf32)
        }
        Precision::Bf16 => properties.supports_type(elem(DType::BF16)),
        Precision::F16 => properties.supports_type(elem(DType::F16)),
    };
    (!has).then(|| match precision {
        Precision::Tf32 => format!("{name} has no TF32 matrix units"),
        other => format!("{name} has no arithmetic of type {other}"),
    })
}

/// The kernels chosen so far, by what they do.
static CHOSEN: Mutex<BTreeMap<String, Algorithm>> = Mutex::new(BTreeMap::new());

fn chosen() -> std::sync::MutexGuard<'static, BTreeMap<String, Algorithm>> {
    CHOSEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Every choice made so far in this process, by device and work.
pub(crate) fn export() -> BTreeMap<String, Algorithm> {
    chosen().clone()
}

/// Takes over the choices of an earlier process; those made here already stay.
pub(crate) fn import(choices: BTreeMap<String, Algorithm>) {
    let mut known = chosen();
    for (work, algorithm) in choices {
        known.entry(work).or_insert(algorithm);
    }
}

/// Does a piece of work by the fastest kernel: the one known for it, or else each that can do it is timed once.
///
/// `run` returns `None` for an algorithm that cannot do the work.
pub(super) fn fastest(
    like: &CubeTensor,
    work: &str,
    run: &dyn Fn(Algorithm) -> Option<CubeTensor>,
) -> CubeTensor {
    let units =
        || run(Algorithm::Units).unwrap_or_else(|| unreachable!("the ordinary units do all work"));
    if !has_matrix_units(&like.client, like.dtype) {
        return units();
    }
    let key = format!("{}: {work}", like.client.properties().identity.fingerprint);
    let known = chosen().get(&key).copied();
    if let Some(algorithm) = known {
        return run(algorithm).unwrap_or_else(units);
    }
    let mut best: Option<(f64, Algorithm)> = None;
    for algorithm in MATRIX {
        // The first run compiles.
        if run(algorithm).is_none() || !finish(&like.client) {
            continue;
        }
        let clock = std::time::Instant::now();
        for _ in 0..3 {
            run(algorithm);
        }
        if !finish(&like.client) {
            continue;
        }
        let seconds = clock.elapsed().as_secs_f64();
        if best.is_none_or(|(least, _)| seconds < least) {
            best = Some((seconds, algorithm));
        }
    }
    let algorithm = best.map_or(Algorithm::Units, |(_, algorithm)| algorithm);
    chosen().insert(key, algorithm);
    run(algorithm).unwrap_or_else(units)
}

/// Waits for a device; false if what it did went wrong.
fn finish(client: &Client) -> bool {
    cubecl::future::block_on(client.sync()).is_ok()
}
