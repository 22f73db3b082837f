//! The allocator of the process.

/// burn allocates and frees a buffer for nearly every operation; mimalloc gives them back sooner.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory for the next step instead of handing it back to the system after 10 ms.
///
/// A training step frees and allocates the same buffers again and again; each that comes from the
/// system has to be zeroed page by page first, a fifth of the time of a small network. The resident
/// memory stays at its peak, which the second step reaches.
pub(crate) fn keep_freed_memory() {
    // SAFETY: sets a number that the allocator reads; -1 means never.
    #[allow(unsafe_code, reason = "the options are a C interface")]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}
