//! Which vector instructions the machine has, and how one kernel is compiled for each set of them.

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{Portable, Vector};

/// A set of vector instructions that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    /// What every machine of the target has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest set that this machine has.
    pub(super) fn best() -> Self {
        #[cfg(test)]
        if let Some(isa) = FORCED.get() {
            return isa;
        }
        *Self::available()
            .last()
            .unwrap_or_else(|| unreachable!("the baseline is always there"))
    }

    /// All sets that this machine has, the narrowest first.
    pub(super) fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma");
            let avx512 = std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512dq");
            match (avx2, avx512) {
                (true, true) => &[Self::Baseline, Self::Avx2, Self::Avx512],
                (true, false) => &[Self::Baseline, Self::Avx2],
                (false, _) => &[Self::Baseline],
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        &[Self::Baseline]
    }

    /// Channels in a block: the lanes that a kernel works on at once.
    pub(super) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
            Self::Baseline => Portable::LANES,
        }
    }
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// Runs `check` once for each set of instructions that this machine has.
#[cfg(test)]
pub(crate) fn for_each_isa(mut check: impl FnMut()) {
    for &isa in Isa::available() {
        FORCED.set(Some(isa));
        check();
    }
    FORCED.set(None);
}

/// Work that is compiled once for each [`Isa`].
///
/// `run` and all that it calls on vectors must be `#[inline(always)]` and free of closures: what is not
/// inlined is compiled for the baseline, and vectors then travel through memory.
pub(super) trait Kernel {
    type Output;

    /// `V::LANES` is [`Isa::lanes`].
    fn run<V: Vector>(self) -> Self::Output;
}

/// Runs a kernel as compiled for `isa`.
#[allow(
    unsafe_code,
    reason = "functions for instructions that not every machine has"
)]
pub(super) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        Isa::Baseline => kernel.run::<Portable>(),
        // SAFETY: `Isa::available` lists these only after it has found the instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}
