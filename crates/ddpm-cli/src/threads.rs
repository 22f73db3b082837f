//! The threads that kernels share their work among.

use crate::ranks::Launched;

/// Stack of a thread in bytes, as much as the main thread has on Linux: commands run on one of them.
const STACK: usize = 8 << 20;

/// Runs a command on one of the threads that its kernels use.
///
/// A kernel that is called from outside the pool wakes one thread to hand the work to and sleeps until
/// it is done; from inside it begins at once and is joined by the others. A training step calls some
/// hundred kernels, and a small network's take less time than waking up.
///
/// Processes that a launcher has started on one machine share its CPU.
pub(crate) fn inside<R: Send>(launched: Option<Launched>, command: impl FnOnce() -> R + Send) -> R {
    let here = launched
        .and_then(|launched| launched.local_size)
        .unwrap_or(1);
    let asked = std::env::var_os("RAYON_NUM_THREADS").is_some();
    // 0 is what rayon, or its variable, finds best.
    let threads = match here {
        here if here > 1 && !asked => (available() / here).max(1),
        _ => 0,
    };
    // An error says that the pool is there already, which serves as well.
    let _ = rayon::ThreadPoolBuilder::new()
        .stack_size(STACK)
        .num_threads(threads)
        .build_global();
    rayon::scope(|_| command())
}

/// The CPU's threads that this process may use: fewer than it has, if a launcher bound the process to some.
pub(crate) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The threads of this machine's CPU, whatever this process is bound to.
#[cfg(feature = "mpi")]
pub(crate) fn cores() -> usize {
    sysinfo::System::new_with_specifics(
        sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing()),
    )
    .cpus()
    .len()
    .max(1)
}
