//! Judging a step where it was computed: the norm of the gradient, whether it and the losses are finite, and what
//! the gradient is scaled with. The host reads the same numbers when they have come, without the GPU waiting.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use burn::tensor::DType;
use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::ServerError;

use super::optimiser::flat;
use super::tensor::{address, dense, empty, numbers};
use crate::finite::Clip;

/// What the GPU itself says of an update: what the gradient is multiplied with, and whether there is one.
pub(crate) struct Decision {
    pub(super) scale: CubeTensor,
    pub(super) found_inf: CubeTensor,
}

/// Most cubes of the pass over all gradients, and threads of each.
const CUBES: usize = 1 << 10;
const THREADS: usize = 256;

/// Σ x² of some values, one sum a cube.
#[cube(launch, address_type = "dynamic")]
fn partial_squares(x: &Tensor<f32>, sums: &mut Tensor<f32>, values: usize, threads: usize) {
    let mut shared = Shared::<[f32]>::new_slice(THREADS);
    let unit = UNIT_POS as usize;
    let mut sum = 0.0f32;
    let mut i = ABSOLUTE_POS;
    // Four at a time, so that their reads do not wait for each other.
    while i + 3 * threads < values {
        let (a, b) = (x[i], x[i + threads]);
        let (c, d) = (x[i + 2 * threads], x[i + 3 * threads]);
        sum += a * a + b * b + (c * c + d * d);
        i += 4 * threads;
    }
    while i < values {
        sum += x[i] * x[i];
        i += threads;
    }
    shared[unit] = sum;
    sync_cube();
    if unit == 0 {
        let mut all = 0.0f32;
        for k in 0..THREADS {
            all += shared[k];
        }
        sums[CUBE_POS] = all;
    }
}

/// Partial sums of x² over all tensors, `[cubes]`.
fn squares(parts: Vec<CubeTensor>) -> CubeTensor {
    let (_parts, x) = flat(parts);
    let values = x.meta.shape().num_elements();
    let cubes = values.div_ceil(THREADS).clamp(1, CUBES);
    let sums = empty(&x, [cubes], DType::F32);
    let client = x.client.clone();
    let width = address(&[&x]);
    partial_squares::launch(
        &client,
        CubeCount::new_1d(cubes as u32),
        CubeDim::new_1d(THREADS as u32),
        width,
        x.into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        values,
        cubes * THREADS,
    );
    sums
}

/// A step's losses and the partial sums of its squared gradient, on the GPU and on their way to the host.
pub(crate) struct DeviceStats {
    losses: CubeTensor,
    squares: CubeTensor,
    coming: PendingStats,
}

/// Numbers on their way to the host: the losses, and the partial sums.
pub(crate) type PendingStats =
    Pin<Box<dyn Future<Output = Result<Vec<Bytes>, ServerError>> + Send>>;

/// Measures a gradient and sends what it found, with the losses, to the host. Nothing is waited for.
///
/// # Shapes   `losses`: `[n]`, n at least 1; `grads`: at least one, `[values]` each
pub(crate) fn measure(losses: CubeTensor, grads: Vec<CubeTensor>) -> DeviceStats {
    let losses = dense(losses);
    let squares = squares(grads);
    let handles = vec![losses.handle.clone(), squares.handle.clone()];
    // The copies are queued by this call, not by the first poll: what comes after does not delay them.
    let coming = Box::pin(client(&losses).read_async(handles));
    DeviceStats {
        losses,
        squares,
        coming,
    }
}

/// A tensor's client, for good: what [`Client::read_async`] returns borrows it. There is one for each device.
fn client(x: &CubeTensor) -> &'static Client {
    static CLIENTS: Mutex<Vec<(CubeDevice, &'static Client)>> = Mutex::new(Vec::new());
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, client)) = clients.iter().find(|(device, _)| *device == x.device) {
        return client;
    }
    let client: &'static Client = Box::leak(Box::new(x.client.clone()));
    clients.push((x.device.clone(), client));
    client
}

impl DeviceStats {
    pub(crate) fn pending(self) -> PendingStats {
        self.coming
    }
}

/// Losses and Σ x², the partial sums added up in f64.
///
/// # Errors   what the GPU's driver says if its work failed
pub(crate) fn wait(coming: PendingStats) -> Result<(Vec<f32>, f64), String> {
    let found = cubecl::future::block_on(coming).map_err(|error| error.to_string())?;
    let mut columns = found.iter().map(|bytes| numbers(bytes));
    let losses = columns.next().map_or_else(Vec::new, Iterator::collect);
    let squares = columns.next().map_or(0.0, |sums| sums.map(f64::from).sum());
    Ok((losses, squares))
}

/// Whether a number is infinite or none; the bits are asked, since a compiler may take arithmetic for finite.
#[cube]
fn no_number(x: f32) -> bool {
    u32::reinterpret(x) & 0x7f80_0000u32 == 0x7f80_0000u32
}

/// Units of the one cube that checks_finite.
const CHECKERS: usize = 256;

/// Halts if a loss or the gradient is not finite, and finds what the gradient is to be multiplied with: `inverse`,
/// and less if its norm is over `max_norm` after that.
#[cube(launch, address_type = "dynamic")]
fn check_finite(
    losses: &Tensor<f32>,
    squares: &Tensor<f32>,
    found_inf: &mut Tensor<f32>,
    scale: &mut Tensor<f32>,
    losses_count: usize,
    squares_count: usize,
    inverse: f32,
    max_norm: f32,
    #[comptime] units: usize,
) {
    let unit = UNIT_POS as usize;
    let mut bad = Shared::<[f32]>::new_slice(units);
    let mut largest = Shared::<[f32]>::new_slice(units);
    let mut total = Shared::<[f32]>::new_slice(units);
    let mut wrong = 0.0f32;
    let mut most = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < losses_count {
        if no_number(losses[i]) {
            wrong = 1.0f32;
        }
        i += units;
    }
    let mut j = UNIT_POS as usize;
    while j < squares_count {
        if no_number(squares[j]) {
            wrong = 1.0f32;
        } else if squares[j] > most {
            most = squares[j];
        }
        j += units;
    }
    bad[unit] = wrong;
    largest[unit] = most;
    sync_cube();
    // The same numbers in the same order for every unit.
    for k in 0..units {
        if bad[k] > wrong {
            wrong = bad[k];
        }
        if largest[k] > most {
            most = largest[k];
        }
    }
    // Divided by the largest one, so that the sum cannot overflow where the norm itself does not.
    let mut sum = 0.0f32;
    if wrong == 0.0f32 && most > 0.0f32 {
        let mut k = UNIT_POS as usize;
        while k < squares_count {
            sum += squares[k] / most;
            k += units;
        }
    }
    total[unit] = sum;
    sync_cube();
    if unit == 0 {
        let mut all = 0.0f32;
        for k in 0..units {
            all += total[k];
        }
        // The 1e-6 is PyTorch's (clip_grad_norm_).
        let norm = most.sqrt() * all.sqrt() * inverse + 1e-6f32;
        let mut clip = 1.0f32;
        if norm > max_norm {
            clip = max_norm / norm;
        }
        scale[0] = clip * inverse;
        if wrong != 0.0f32 {
            found_inf[0] = 1.0f32;
        }
    }
}

/// Lets the GPU find NaN and infinity in a step; once it has found any, `found_inf` stays, whatever comes after.
pub(crate) fn decide(
    measured: DeviceStats,
    clip: Clip,
    found_inf: CubeTensor,
) -> (Decision, PendingStats) {
    let DeviceStats {
        losses,
        squares,
        coming,
    } = measured;
    let scale = empty(&losses, [1], DType::F32);
    let client = losses.client.clone();
    let width = address(&[&losses, &squares]);
    let counts = [&losses, &squares].map(|x| x.meta.shape().num_elements());
    check_finite::launch(
        &client,
        CubeCount::new_single(),
        CubeDim::new_1d(CHECKERS as u32),
        width,
        losses.into_tensor_arg(),
        squares.into_tensor_arg(),
        found_inf.clone().into_tensor_arg(),
        scale.clone().into_tensor_arg(),
        counts[0],
        counts[1],
        (1.0 / clip.divisor) as f32,
        clip.max_norm.min(f64::from(f32::MAX)) as f32,
        CHECKERS,
    );
    (Decision { scale, found_inf }, coming)
}
