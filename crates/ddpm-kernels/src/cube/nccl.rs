//! Tensors that NVIDIA's GPUs of several processes exchange, by NCCL.
//!
//! CubeCL joins GPUs of one process alone, so this communicator is ours, and the memory is CubeCL's. What is relied on,
//! as read in CubeCL 0.11.3, cudarc 0.19 and NCCL 2.30:
//!
//! - CubeCL works in a GPU's primary context, which `CudaContext` retains and makes that of the calling thread.
//! - Memory that `Client::get_resource` gave is not moved, freed or given to anybody else as long as what it gave lives.
//! - CubeCL's streams and NCCL's, which is this file's, do not know of each other. The host stands between: CubeCL's
//!   has come to its end before NCCL begins, and NCCL's before a call returns.
//! - The communicator does not block: a call may return `ncclInProgress`, after which the communicator is asked until
//!   it has taken the call. So no call waits longer for the others than it may.
//! - Whoever aborts a communicator waits for what it was doing, after which it touches no memory any more.

#![expect(unsafe_code, reason = "NCCL is a C interface")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};
// The only way to name CUDA's server, which knows where memory is.
use cubecl::__private::Runtime;
use cubecl_cuda::CudaRuntime;
use cudarc::driver::{CudaContext, CudaStream, DriverError, result as driver, sys as cuda};
use cudarc::nccl::{result, sys};

use super::extension::{of_dimensions, primitive};
use super::tensor::dense;
use crate::collective::{GpuTransport, NcclError};

/// The first version whose communicators need not block.
const NON_BLOCKING: c_int = 21_400;

/// How long the end of a communicator may take.
const GOODBYE: Duration = Duration::from_secs(5);

fn failed(call: &'static str, problem: impl ToString) -> NcclError {
    NcclError::Failed {
        call,
        problem: problem.to_string(),
    }
}

/// Which of CUDA's devices this is.
fn index(device: &Device) -> Result<usize, NcclError> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(cubecl::Device::Cuda(gpu)) => Ok(gpu.index),
        // Reached by other GPUs, and where another backend is compiled in as well.
        #[allow(unreachable_patterns)]
        _ => Err(NcclError::NoGpu),
    }
}

/// See [`crate::nccl_gpu`].
pub(crate) fn gpu(device: &Device) -> Result<[u8; 16], NcclError> {
    let index = index(device)?;
    let absent = |found: &str| NcclError::Library {
        found: found.to_owned(),
    };
    // SAFETY: it only tries to load the library under each of its names.
    if !unsafe { sys::is_culib_present() } {
        return Err(absent("is not there"));
    }
    let version =
        result::get_nccl_version().map_err(|error| failed("ncclGetVersion", explained(error.0)))?;
    if version < NON_BLOCKING {
        return Err(absent(&format!("is too old, its version is {version}")));
    }
    let uuid = || -> Result<_, DriverError> {
        driver::init()?;
        driver::device::get_uuid(driver::device::get(index as c_int)?)
    };
    let uuid = uuid().map_err(|error| failed("cuDeviceGetUuid", error))?;
    Ok(uuid.bytes.map(|byte| byte as u8))
}

/// See [`crate::nccl_id`].
pub(crate) fn mint() -> Result<Vec<u8>, NcclError> {
    let id = result::get_uniqueid();
    let id = id.map_err(|error| failed("ncclGetUniqueId", explained(error.0)))?;
    Ok(id.internal.map(|byte| byte as u8).to_vec())
}

/// What NCCL calls a result.
fn explained(result: sys::ncclResult_t) -> String {
    // SAFETY: the library is there, since it has given this result.
    said(unsafe { sys::ncclGetErrorString(result) })
}

fn said(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: what NCCL says are strings that end with a zero, and stay until its next call.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().trim().to_owned()
}

/// This process's GPU among those of others.
#[derive(Debug)]
pub(crate) struct Communicator {
    /// Null once it has failed. In a place of its own, which NCCL may write to while it joins.
    comm: Box<AtomicPtr<sys::ncclComm>>,
    stream: Arc<CudaStream>,
    size: usize,
}

/// A tensor's memory, as NCCL is told of it.
struct Memory<Held> {
    address: *mut c_void,
    _held: Held,
}

impl Communicator {
    /// See [`crate::nccl_join`].
    pub(crate) fn join(
        device: &Device,
        id: &[u8],
        (rank, size): (usize, usize),
        timeout: Duration,
    ) -> Result<Self, NcclError> {
        const CALL: &str = "ncclCommInitRankConfig";
        let context = CudaContext::new(index(device)?).map_err(|error| failed(CALL, error))?;
        let stream = context.new_stream().map_err(|error| failed(CALL, error))?;
        let mut unique = sys::ncclUniqueId { internal: [0; 128] };
        if id.len() != unique.internal.len() {
            let problem = format!("{} bytes are not an identifier", id.len());
            return Err(failed(CALL, problem));
        }
        for (to, &from) in unique.internal.iter_mut().zip(id) {
            *to = from as c_char;
        }
        // SAFETY: it has integers and pointers, of which zero is a value.
        let mut config: sys::ncclConfig_t = unsafe { MaybeUninit::zeroed().assume_init() };
        // As of the version that had these four alone: what later ones have besides is not read.
        config.size = 24;
        config.magic = 0xcafe_beef;
        config.version = NON_BLOCKING as u32;
        config.blocking = 0;
        let joined = Self {
            comm: Box::new(AtomicPtr::new(ptr::null_mut())),
            stream,
            size,
        };
        let start = Instant::now();
        joined.bind(CALL)?;
        // SAFETY: the communicator's place lives until it is dropped, and the configuration is copied by the call; the
        // context of this GPU is that of the calling thread.
        let begun = unsafe {
            sys::ncclCommInitRankConfig(
                joined.comm.as_ptr(),
                size as c_int,
                unique,
                rank as c_int,
                &raw mut config,
            )
        };
        let taken = joined.taken(CALL, begun, start, timeout);
        joined.or_abort(taken)?;
        Ok(joined)
    }

    fn comm(&self) -> sys::ncclComm_t {
        self.comm.load(Ordering::Acquire)
    }

    /// Makes this GPU's context that of the calling thread.
    fn bind(&self, call: &'static str) -> Result<(), NcclError> {
        let bound = self.stream.context().bind_to_thread();
        bound.map_err(|error| failed(call, error))
    }

    /// What the communicator is at.
    fn state(&self) -> sys::ncclResult_t {
        let mut state = sys::ncclResult_t::ncclSuccess;
        // SAFETY: the communicator is not null, and not gone before it is.
        let asked = unsafe { sys::ncclCommGetAsyncError(self.comm(), &raw mut state) };
        match asked {
            sys::ncclResult_t::ncclSuccess => state,
            failed => failed,
        }
    }

    /// The reason for a result that is a failure.
    fn refused(&self, call: &'static str, result: sys::ncclResult_t) -> NcclError {
        // SAFETY: the communicator is null or lives; of null it tells the last error of this thread.
        let last = said(unsafe { sys::ncclGetLastError(self.comm()) });
        let mut problem = explained(result);
        if !last.is_empty() {
            problem = format!("{problem} ({last})");
        }
        failed(call, problem)
    }

    /// Waits until the communicator has taken a call.
    fn taken(
        &self,
        call: &'static str,
        begun: sys::ncclResult_t,
        start: Instant,
        timeout: Duration,
    ) -> Result<(), NcclError> {
        let mut state = begun;
        while state == sys::ncclResult_t::ncclInProgress {
            in_time(call, start, timeout)?;
            thread::yield_now();
            state = self.state();
        }
        match state {
            sys::ncclResult_t::ncclSuccess => Ok(()),
            failure => Err(self.refused(call, failure)),
        }
    }

    /// Waits until the stream has come to its end.
    fn done(&self, call: &'static str, start: Instant, timeout: Duration) -> Result<(), NcclError> {
        loop {
            // SAFETY: the stream lives as long as the communicator.
            match unsafe { cuda::cuStreamQuery(self.stream.cu_stream()) } {
                cuda::CUresult::CUDA_SUCCESS => return Ok(()),
                cuda::CUresult::CUDA_ERROR_NOT_READY => {}
                failure => return Err(failed(call, DriverError(failure))),
            }
            // A process that is gone shows here.
            match self.state() {
                sys::ncclResult_t::ncclSuccess | sys::ncclResult_t::ncclInProgress => {}
                failure => return Err(self.refused(call, failure)),
            }
            in_time(call, start, timeout)?;
            thread::yield_now();
        }
    }

    /// Ends the communicator if something failed: after that it reads and writes no tensor any more.
    fn or_abort<T>(&self, found: Result<T, NcclError>) -> Result<T, NcclError> {
        if found.is_err() {
            let comm = self.comm.swap(ptr::null_mut(), Ordering::AcqRel);
            if !comm.is_null() {
                // SAFETY: nobody else has it any more.
                let aborted = unsafe { sys::ncclCommAbort(comm) };
                if aborted != sys::ncclResult_t::ncclSuccess {
                    tracing::debug!("ncclCommAbort: {}", explained(aborted));
                }
            }
        }
        found
    }

    /// A new tensor of `length` values that `enqueue` has NCCL make of another one; it gets their addresses.
    fn exchange(
        &self,
        call: &'static str,
        from: Tensor<1>,
        length: usize,
        timeout: Duration,
        enqueue: impl FnOnce(*mut c_void, *mut c_void) -> sys::ncclResult_t,
    ) -> Result<Tensor<1>, NcclError> {
        let start = Instant::now();
        if self.comm().is_null() {
            return Err(failed(call, "an earlier call failed"));
        }
        let device = from.device();
        index(&device)?;
        let from: Tensor<1> = of_dimensions(dense(primitive(from)));
        let to = Tensor::<1>::empty([length], &device);
        let (source, target) = (memory(call, &from)?, memory(call, &to)?);
        // The source is computed, and nothing that had the target's memory before still uses it.
        device.sync().map_err(|error| failed(call, error))?;
        self.bind(call)?;
        let begun = enqueue(source.address, target.address);
        let taken = self.taken(call, begun, start, timeout);
        let done = taken.and_then(|()| self.done(call, start, timeout));
        // Before the memory may be given to others.
        self.or_abort(done)?;
        drop((source, target));
        Ok(to)
    }
}

fn in_time(call: &'static str, start: Instant, timeout: Duration) -> Result<(), NcclError> {
    let waited = start.elapsed();
    match waited > timeout {
        true => Err(NcclError::Timeout { call, waited }),
        false => Ok(()),
    }
}

/// The memory of a dense tensor of CUDA's, which stays its own for as long as what is returned lives.
fn memory(call: &'static str, x: &Tensor<1>) -> Result<Memory<impl Sized>, NcclError> {
    let x = primitive(x.clone());
    if x.dtype != DType::F32 {
        return Err(failed(call, format!("{:?} is not f32", x.dtype)));
    }
    let bytes = 4 * x.meta.shape().num_elements() as u64;
    let held = x
        .client
        .get_resource::<<CudaRuntime as Runtime>::Server>(x.handle.clone())
        .map_err(|error| failed(call, error))?;
    let (address, size) = (held.resource().ptr, held.resource().size);
    if size < bytes {
        return Err(failed(call, format!("{size} bytes of memory for {bytes}")));
    }
    Ok(Memory {
        address: ptr::with_exposed_provenance_mut(address as usize),
        _held: (held, x),
    })
}

/// The first result that is a failure, else the last.
fn both(first: sys::ncclResult_t, second: sys::ncclResult_t) -> sys::ncclResult_t {
    match first {
        sys::ncclResult_t::ncclSuccess | sys::ncclResult_t::ncclInProgress => second,
        failure => failure,
    }
}

impl GpuTransport for Communicator {
    fn all_to_all(&self, send: Tensor<1>, timeout: Duration) -> Result<Tensor<1>, NcclError> {
        let [length] = send.dims();
        let piece = length / self.size;
        let (comm, stream) = (self.comm(), self.stream.cu_stream().cast());
        self.exchange("ncclSend", send, length, timeout, |from, to| {
            // SAFETY: the library is there; every beginning of a group has its end below.
            let mut begun = unsafe { sys::ncclGroupStart() };
            for peer in 0..self.size {
                let start = 4 * piece * peer;
                let (from, to) = (from.wrapping_byte_add(start), to.wrapping_byte_add(start));
                let peer = peer as c_int;
                // SAFETY: both pieces lie within the tensors of `length` values, which live until the stream is done.
                let (sent, received) = unsafe {
                    (
                        sys::ncclSend(from, piece, FLOAT, peer, comm, stream),
                        sys::ncclRecv(to, piece, FLOAT, peer, comm, stream),
                    )
                };
                begun = both(begun, both(sent, received));
            }
            // SAFETY: it ends the group that was begun above.
            both(begun, unsafe { sys::ncclGroupEnd() })
        })
    }

    fn all_gather(&self, own: Tensor<1>, timeout: Duration) -> Result<Tensor<1>, NcclError> {
        let [length] = own.dims();
        let (comm, stream) = (self.comm(), self.stream.cu_stream().cast());
        let all = length * self.size;
        self.exchange("ncclAllGather", own, all, timeout, |from, to| {
            // SAFETY: `from` has `length` values and `to` as many of each process; both live until the stream is done.
            unsafe { sys::ncclAllGather(from, to, length, FLOAT, comm, stream) }
        })
    }

    fn all_reduce(&self, own: Tensor<1>, timeout: Duration) -> Result<Tensor<1>, NcclError> {
        const SUM: sys::ncclRedOp_t = sys::ncclRedOp_t::ncclSum;
        let [length] = own.dims();
        let (comm, stream) = (self.comm(), self.stream.cu_stream().cast());
        self.exchange("ncclAllReduce", own, length, timeout, |from, to| {
            // SAFETY: both have `length` values and live until the stream is done.
            unsafe { sys::ncclAllReduce(from, to, length, FLOAT, SUM, comm, stream) }
        })
    }
}

const FLOAT: sys::ncclDataType_t = sys::ncclDataType_t::ncclFloat32;

impl Drop for Communicator {
    fn drop(&mut self) {
        const CALL: &str = "ncclCommFinalize";
        if self.comm().is_null() {
            return;
        }
        let finished = self.bind(CALL).and_then(|()| {
            // SAFETY: the communicator lives, and has nothing under way.
            let begun = unsafe { sys::ncclCommFinalize(self.comm()) };
            self.taken(CALL, begun, Instant::now(), GOODBYE)
        });
        if let Err(error) = self.or_abort(finished) {
            tracing::debug!("at the end of NCCL: {error}");
            return;
        }
        let comm = self.comm.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: nobody else has it any more.
        let destroyed = unsafe { sys::ncclCommDestroy(comm) };
        if destroyed != sys::ncclResult_t::ncclSuccess {
            tracing::debug!("ncclCommDestroy: {}", explained(destroyed));
        }
    }
}
