//! The threads that kernels share their work among.

/// Stack of a thread in bytes, as much as the main thread has on Linux: commands run on one of them.
const STACK: usize = 8 << 20;

/// Runs a command on one of the threads that its kernels use.
///
/// A kernel that is called from outside the pool wakes one thread to hand the work to and sleeps until
/// it is done; from inside it begins at once and is joined by the others. A training step calls some
/// hundred kernels, and a small network's take less time than waking up.
pub(crate) fn inside<R: Send>(command: impl FnOnce() -> R + Send) -> R {
    // An error says that the pool is there already, which serves as well.
    let _ = rayon::ThreadPoolBuilder::new()
        .stack_size(STACK)
        .build_global();
    rayon::scope(|_| command())
}
