//! Memory for results and scratch that is not filled with zeros first.

#![allow(unsafe_code, reason = "memory is handed out before it is written")]

use std::cell::Cell;

/// Values that several threads write at once, each its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<T = f32>(*mut T);

// SAFETY: whoever writes through the pointer states that no other thread writes there.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(values: *mut T) -> Self {
        Self(values)
    }

    /// A method rather than a field: a closure that uses it then captures the wrapper, which may go to
    /// other threads, and not the pointer, which may not.
    #[inline(always)]
    pub(super) fn pointer(self) -> *mut T {
        self.0
    }
}

/// `len` values, all of which `write` sets.
///
/// # Safety
/// `write` must set every value.
pub(super) unsafe fn filled<T>(len: usize, write: impl FnOnce(Shared<T>)) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    write(Shared(values.as_mut_ptr()));
    // SAFETY: the caller promises that all are set, and there is room for `len`.
    unsafe { values.set_len(len) };
    values
}

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// This thread's scratch memory, the same from call to call; what is in it is not defined.
///
/// A second one at the same time on one thread is new memory, which then replaces the first.
#[derive(Debug)]
pub(super) struct Scratch(Vec<f32>);

impl Scratch {
    #[inline(always)]
    pub(super) fn new(len: usize) -> Self {
        let mut values = SCRATCH.take();
        values.clear();
        values.reserve(len);
        Self(values)
    }

    #[inline(always)]
    pub(super) fn pointer(&mut self) -> *mut f32 {
        self.0.as_mut_ptr()
    }
}

impl Drop for Scratch {
    #[inline(always)]
    fn drop(&mut self) {
        SCRATCH.set(std::mem::take(&mut self.0));
    }
}
