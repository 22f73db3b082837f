//! Which kernel does a convolution on a GPU: matrix units where the device has them for the type, the
//! ordinary ones otherwise.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use burn::tensor::DType;
use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubek::convolution::{AcceleratedTileKind, ConvAlgorithm};
use serde::{Deserialize, Serialize};

use super::matrix::Planes;
use super::tensor::{address, elem, empty, grid, numbers};
use crate::precision::Precision;

/// A kernel for one of a convolution's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ordinary units (`gemm.rs`); runs everywhere, f32 stays f32.
    Units,
    /// The warpgroup matrix units of NVIDIA's Hopper, by `hopper/window.cu`.
    Window,
    /// The same, by `hopper/product.cu`.
    Hopper,
    /// Matrix units, by the kernels of `matrix.rs`.
    Tiles(Planes),
    /// Matrix units, by one of cubek's ways of bringing tiles to them.
    Matrix(ConvAlgorithm, AcceleratedTileKind),
    /// Matrix units, by cubek's product of matrices.
    Product(AcceleratedTileKind),
}

impl Algorithm {
    /// Whether it is a kernel of this crate, which has one program for all sizes.
    fn is_ours(self) -> bool {
        !matches!(self, Self::Matrix(..) | Self::Product(_))
    }
}

/// What is worth trying for a convolution where there are matrix units, in this order: those for Hopper are taken where they run,
/// cubek's only if none of ours can do the work. The tiles all add in one order, so that which is the fastest today
/// changes no bit. Cubek's ways that load by TMA are left
/// out: where one of them does not compile, the runtime takes their inputs for spoilt as well.
pub(super) const CONVOLUTIONS: &[Algorithm] = {
    use AcceleratedTileKind::{Cmma, Mma};
    &[
        Algorithm::Hopper,
        Algorithm::Tiles(Planes::Four),
        Algorithm::Tiles(Planes::Eight),
        Algorithm::Matrix(ConvAlgorithm::SimpleSyncCyclic, Cmma),
        Algorithm::Matrix(ConvAlgorithm::SimpleAsyncStrided, Mma),
    ]
};

/// The same where sizes are such as [`Algorithm::Window`] wants.
pub(super) const WINDOWS: &[Algorithm] = &[
    Algorithm::Window,
    Algorithm::Hopper,
    Algorithm::Tiles(Planes::Four),
];

/// The same where there are few results, which large tiles would not spread over a GPU.
pub(super) const FEW: &[Algorithm] = &[
    Algorithm::Hopper,
    Algorithm::Tiles(Planes::Four),
    Algorithm::Matrix(ConvAlgorithm::SimpleSyncCyclic, AcceleratedTileKind::Cmma),
];

/// The same where the values of a pixel cannot be read eight at a time, as with three colours: there is little to
/// do then, and little to win.
pub(super) const UNALIGNED: &[Algorithm] = &[Algorithm::Matrix(
    ConvAlgorithm::SimpleSyncCyclic,
    AcceleratedTileKind::Cmma,
)];

/// What is worth trying for products of matrices.
pub(super) const PRODUCTS: &[Algorithm] = &[
    Algorithm::Hopper,
    Algorithm::Product(AcceleratedTileKind::Cmma),
    Algorithm::Product(AcceleratedTileKind::Mma),
];

/// What is to be done, for which a kernel is chosen.
pub(super) struct Work {
    /// What work of several sizes has in common, so that one kernel may be the fastest for all.
    pub(super) kind: String,
    /// The sizes.
    pub(super) sizes: String,
    /// What may be the fastest.
    pub(super) candidates: &'static [Algorithm],
}

/// How much of a piece of work is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The products alone: by them kernels are compared, since what is added to them may be as large, of the other
    /// sign, and leave mostly what was rounded.
    Products,
    All,
}

/// Does a piece of work by a kernel; `None` if that cannot do it.
pub(super) type Run<'a> = &'a dyn Fn(Algorithm, Part) -> Option<CubeTensor>;

/// Whether matrix units may round f32 factors to TF32.
static TF32: AtomicBool = AtomicBool::new(false);

/// Allows or forbids TF32 for the products of f32 tensors, for the whole process.
pub(crate) fn allow_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
}

pub(super) fn tf32_is_allowed() -> bool {
    TF32.load(Ordering::Relaxed)
}

/// Whether products of `dtype` may go to matrix units on this device.
pub(super) fn has_matrix_units(client: &Client, dtype: DType) -> bool {
    let matmul = &client.properties().features.matmul;
    let factor = match dtype {
        DType::F32 if tf32_is_allowed() => cubecl::tf32::elem_type_native(),
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

/// How far a kernel's result may be from that of the ordinary units, relative, over the whole tensor. Both add up in f32
/// and round once: by at most 2⁻⁹ to bf16, less to f16; rounding f32 factors to TF32 makes 2⁻¹⁰ at most. A kernel that
/// adds up in fewer bits is off by some hundredths, one that is wrong by about 1.
const TOLERANCE: f64 = 0.005;

/// Choices that were deferred: see [`deferred`].
static DEFERRED: AtomicUsize = AtomicUsize::new(0);

/// Updates of weights in this process. Between two, the same work comes to zeros again and again, in one layer after
/// the other and in one micro-batch after the other.
static UPDATES: AtomicUsize = AtomicUsize::new(0);

/// Takes note that weights were updated.
pub(super) fn updated() {
    UPDATES.fetch_add(1, Ordering::Relaxed);
}

/// How often a piece of work came to zeros when a kernel was to be chosen for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waited {
    /// After how many different updates.
    steps: usize,
    /// After which one last, and how often after that.
    update: usize,
    uses: usize,
}

impl Waited {
    pub(super) fn once_more(&mut self, update: usize) {
        if self.steps == 0 || self.update != update {
            *self = Self {
                steps: self.steps + 1,
                update,
                uses: 0,
            };
        }
        self.uses += 1;
    }

    /// Whether it is to be left to the ordinary units unless it turns out that one of ours does its kind: it would be
    /// read back for ever, and no step could be captured. So it is with a layer that no gradient reaches, and with a
    /// network that is not trained.
    pub(super) fn is_hopeless(self) -> bool {
        self.steps >= PATIENCE || self.uses >= PATIENCE_WITHOUT_UPDATES
    }
}

static WAITED: Mutex<BTreeMap<String, Waited>> = Mutex::new(BTreeMap::new());

/// Steps in which work may come to zeros. With the usual initialisation, and a learning rate of 0 in the first step, the
/// last layer to get a gradient gets it in the fifth.
const PATIENCE: usize = 8;

/// More than the layers of one shape times the micro-batches of a step.
const PATIENCE_WITHOUT_UPDATES: usize = 4096;

fn waited() -> std::sync::MutexGuard<'static, BTreeMap<String, Waited>> {
    WAITED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn defer(key: String, why: Untold) {
    DEFERRED.fetch_add(1, Ordering::Relaxed);
    if why == Untold::Zeros {
        let update = UPDATES.load(Ordering::Relaxed);
        waited().entry(key).or_default().once_more(update);
    }
}

/// How often in this process a choice was left to a later step, because the work came to zeros or to something not
/// finite. Until it is made, such work is read back whenever it is done, so it can't be captured.
pub(super) fn deferred() -> usize {
    DEFERRED.load(Ordering::Relaxed)
}

/// Does a piece of work by the kernel known for it, or by the one known for work of its kind if that does it too; or
/// else each that can do it is checked against the ordinary units and timed, once.
///
/// Zeros show nothing: with the usual initialisation, the first gradients of nearly all layers are zero, and a wrong
/// kernel would come to the same. The choice is then deferred.
pub(super) fn fastest(like: &CubeTensor, work: impl FnOnce() -> Work, run: Run) -> CubeTensor {
    if !has_matrix_units(&like.client, like.dtype) {
        return run(Algorithm::Units, Part::All)
            .unwrap_or_else(|| unreachable!("the ordinary units do all work"));
    }
    select(like, &work(), run)
}

/// The same, whatever the device has.
pub(super) fn select(like: &CubeTensor, work: &Work, run: Run) -> CubeTensor {
    let by_units = |part| {
        run(Algorithm::Units, part)
            .unwrap_or_else(|| unreachable!("the ordinary units do all work"))
    };
    let units = || by_units(Part::All);
    let device = &like.client.properties().identity.fingerprint;
    let kind = format!("{device}: {}, {:?}", work.kind, like.dtype);
    let key = format!("{kind}: {}", work.sizes);
    let known = chosen().get(&key).copied();
    if let Some(algorithm) = known {
        return run(algorithm, Part::All).unwrap_or_else(units);
    }
    let hopeless = waited()
        .get(&key)
        .is_some_and(|waited| waited.is_hopeless());
    let known = chosen().get(&kind).copied();
    let known = known.filter(|algorithm| algorithm.is_ours() || !hopeless);
    match known.map(|algorithm| (algorithm, does(algorithm, run, &by_units))) {
        Some((algorithm, Fit::Right)) => {
            if let Some(found) = run(algorithm, Part::All) {
                chosen().insert(key, algorithm);
                return found;
            }
        }
        Some((_, Fit::Unknown(why))) => {
            defer(key, why);
            return units();
        }
        Some((_, Fit::Wrong)) | None => {}
    }
    if hopeless {
        return units();
    }
    let right = by_units(Part::Products);
    let tells = norm(&right).map_or(Err(Untold::NotFinite), tells);
    if let Err(why) = tells {
        defer(key, why);
        return units();
    }
    let algorithm = choose(like, work, &right, run).unwrap_or(Algorithm::Units);
    tracing::debug!("{key}: {algorithm:?}");
    chosen().entry(kind).or_insert(algorithm);
    chosen().insert(key, algorithm);
    run(algorithm, Part::All).unwrap_or_else(units)
}

/// Why a tensor does not tell a right kernel from a wrong one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untold {
    Zeros,
    NotFinite,
}

/// Whether a tensor of this norm tells a right kernel from a wrong one.
fn tells(norm: f64) -> Result<(), Untold> {
    match norm {
        0.0 => Err(Untold::Zeros),
        norm if norm.is_finite() => Ok(()),
        _ => Err(Untold::NotFinite),
    }
}

/// What became of a kernel on work of another size than the one it was chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Right,
    Wrong,
    /// The work does not tell.
    Unknown(Untold),
}

/// Whether a kernel that was right for work of its kind does work of this size as well. Ours have one program for all
/// sizes, so it is enough that it runs; cubek's depend on them, and some sizes they round away.
pub(super) fn does(algorithm: Algorithm, run: Run, by_units: &dyn Fn(Part) -> CubeTensor) -> Fit {
    let Some(found) = run(algorithm, Part::Products) else {
        return Fit::Wrong;
    };
    let right = match algorithm {
        algorithm if algorithm.is_ours() => found.clone(),
        _ => by_units(Part::Products),
    };
    let Ok((difference, norm)) = lengths(&found, &right) else {
        return Fit::Wrong;
    };
    match (algorithm, tells(norm)) {
        (algorithm, _) if algorithm.is_ours() => Fit::Right,
        (_, Err(why)) => Fit::Unknown(why),
        (_, Ok(())) if difference <= TOLERANCE * norm => Fit::Right,
        _ => Fit::Wrong,
    }
}

/// The fastest of the candidates that run here and come to `right`.
pub(super) fn choose(
    like: &CubeTensor,
    work: &Work,
    right: &CubeTensor,
    run: Run,
) -> Option<Algorithm> {
    let mut best: Option<(f64, Algorithm)> = None;
    let mut failed = None;
    for &algorithm in work.candidates {
        let enough = match best {
            Some((_, Algorithm::Window | Algorithm::Hopper)) => true,
            Some((_, Algorithm::Tiles(_))) => !matches!(algorithm, Algorithm::Tiles(_)),
            _ => false,
        };
        if enough {
            break;
        }
        let Some(found) = run(algorithm, Part::Products) else {
            continue;
        };
        match distance(&found, right) {
            Ok(distance) if distance <= TOLERANCE => {}
            Ok(distance) => {
                let Work { kind, sizes, .. } = work;
                tracing::debug!(
                    "{kind}, {sizes}: {algorithm:?} is off by {distance:.2e} and is not used"
                );
                continue;
            }
            Err(error) => {
                tracing::debug!("{}, {}: {algorithm:?}: {error}", work.kind, work.sizes);
                failed = failed.or(Some(error));
                continue;
            }
        }
        // The first run compiles.
        run(algorithm, Part::All);
        if !finish(&like.client) {
            continue;
        }
        let clock = std::time::Instant::now();
        for _ in 0..3 {
            run(algorithm, Part::All);
        }
        if !finish(&like.client) {
            continue;
        }
        let seconds = clock.elapsed().as_secs_f64();
        if best.is_none_or(|(least, _)| seconds < least) {
            best = Some((seconds, algorithm));
        }
    }
    if let (None, Some(error)) = (&best, failed) {
        warn_of_failure(&error);
    }
    best.map(|(_, algorithm)| algorithm)
}

/// Says, once in a process, why the matrix units are not used though they are there.
fn warn_of_failure(error: &str) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    // What a compiler says, not the program that it says it of.
    let said = error.split("[Source]").next().unwrap_or_default();
    let said: Vec<&str> = said.split_whitespace().collect();
    tracing::warn!(
        "no kernel for matrix units works here, so convolutions are many times slower: {}",
        said.join(" ")
    );
}

/// Threads that compare two tensors.
const SUMS: usize = 1 << 12;

/// Σ (a-b)² and Σ b² of every `threads`-th value.
#[cube(launch, address_type = "dynamic")]
fn partial_differences<E: Numeric>(
    a: &Tensor<E>,
    b: &Tensor<E>,
    sums: &mut Tensor<f32>,
    values: usize,
    threads: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let mut difference = 0.0f32;
    let mut size = 0.0f32;
    let mut i = ABSOLUTE_POS;
    while i < values {
        let right = f32::cast_from(b[i]);
        let by = f32::cast_from(a[i]) - right;
        difference += by * by;
        size += right * right;
        i += threads;
    }
    sums[ABSOLUTE_POS] = difference;
    sums[threads + ABSOLUTE_POS] = size;
}

/// ‖a-b‖ / ‖b‖ of two dense tensors, 0 if both norms are.
///
/// # Errors   what the device says if it could not compute one of them
pub(super) fn distance(a: &CubeTensor, b: &CubeTensor) -> Result<f64, String> {
    let (difference, norm) = lengths(a, b)?;
    Ok(match difference == 0.0 && norm.is_finite() {
        true => 0.0,
        false => difference / norm,
    })
}

/// ‖x‖ of a dense tensor.
///
/// # Errors   what the device says if it could not compute it
fn norm(x: &CubeTensor) -> Result<f64, String> {
    lengths(x, x).map(|(_, norm)| norm)
}

/// ‖a-b‖ and ‖b‖ of two dense tensors.
///
/// # Errors   what the device says if it could not compute one of them
fn lengths(a: &CubeTensor, b: &CubeTensor) -> Result<(f64, f64), String> {
    let values = b.meta.shape().num_elements();
    let threads = SUMS.min(values);
    let sums = empty(b, [2, threads], DType::F32);
    let (count, dim) = grid(&b.client, threads);
    partial_differences::launch(
        &b.client,
        count,
        dim,
        address(&[a, b]),
        a.clone().into_tensor_arg(),
        b.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        values,
        threads,
        elem(b.dtype),
    );
    let bytes = b.client.read_one(sums.handle);
    let bytes = bytes.map_err(|error| error.to_string())?;
    let sum = |bytes| -> f64 { numbers(bytes).map(f64::from).sum() };
    let (differences, sizes) = bytes.split_at(threads * 4);
    Ok((sum(differences).sqrt(), sum(sizes).sqrt()))
}

/// Waits for a device; false if what it did went wrong.
fn finish(client: &Client) -> bool {
    cubecl::future::block_on(client.sync()).is_ok()
}
