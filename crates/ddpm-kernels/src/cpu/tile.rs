//! Products of 16×16 tiles of bf16 with f32 sums: Intel's AMX, or the same in plain Rust, bit for bit.
//!
//! A tile of the left factor is 16 rows of 32 numbers; one of the right factor 16 rows of 16 pairs, each pair the two
//! numbers that lie at depths 2k and 2k + 1 of a column; one of sums 16 rows of 16 f32.

#![allow(unsafe_code, reason = "instructions that not every machine has")]

use burn::tensor::bf16;

/// Rows of a tile, and its columns of sums.
pub(super) const SIDE: usize = 16;
/// Numbers that one product of tiles adds up: its depth.
pub(super) const DEPTH: usize = 32;

/// One or two tiles of the left factor by one or two of the right one, over some steps of [`DEPTH`].
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    /// The first step's tiles of the left factor; one of them if both are the same.
    pub(super) left: [*const bf16; 2],
    /// Bytes from one row to the next.
    pub(super) left_row: usize,
    /// Bytes from the first step's tile to each step's.
    pub(super) left_steps: &'a [usize],
    /// The same of the right factor.
    pub(super) right: [*const bf16; 2],
    pub(super) right_row: usize,
    pub(super) right_steps: &'a [usize],
    /// Sums of left tile i and right tile j.
    pub(super) sums: [[*mut f32; 2]; 2],
    /// Bytes from one row to the next.
    pub(super) sums_row: usize,
    /// Tiles of the left and of the right factor, 1 or 2.
    pub(super) count: [usize; 2],
    /// Whether the products are added to what is there.
    pub(super) accumulate: bool,
}

/// What multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Plain Rust, which tests compare with.
    #[cfg(test)]
    Plain,
    /// Intel's Advanced Matrix Extensions (Sapphire Rapids and later), which Linux lends on request.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
}

impl Unit {
    /// The unit of this machine, if it has one.
    pub(super) fn best() -> Option<Self> {
        #[cfg(test)]
        if let Some(unit) = FORCED.get() {
            return unit;
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if amx::is_there() {
            return Some(Self::Amx);
        }
        None
    }

    /// Makes this thread ready; [`Unit::end`] is to follow.
    pub(super) fn begin(self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Amx {
            // SAFETY: the variant is made only where the instructions are there and Linux has lent them.
            unsafe { amx::configure() };
        }
    }

    /// Gives back what [`Unit::begin`] took.
    pub(super) fn end(self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Amx {
            // SAFETY: as in `begin`.
            unsafe { amx::release() };
        }
    }

    /// Computes `products`, between [`Unit::begin`] and [`Unit::end`].
    ///
    /// # Safety
    /// All rows of all tiles must be readable, and those of the sums writable by this thread alone.
    #[inline]
    pub(super) unsafe fn multiply(self, products: Products<'_>) {
        debug_assert_eq!(products.left_steps.len(), products.right_steps.len());
        // SAFETY: the caller's.
        unsafe {
            match self {
                #[cfg(test)]
                Self::Plain => plain(products),
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Self::Amx => match products.count {
                    [2, 2] => amx::multiply::<2, 2>(products),
                    [2, _] => amx::multiply::<2, 1>(products),
                    [_, 2] => amx::multiply::<1, 2>(products),
                    _ => amx::multiply::<1, 1>(products),
                },
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Option<Unit>>> = const { std::cell::Cell::new(None) };
}

/// Runs `check` without a unit, with the plain one, and with this machine's, if it has one.
#[cfg(test)]
pub(super) fn for_each_unit(mut check: impl FnMut(Option<Unit>)) {
    let mut units = vec![None, Some(Unit::Plain)];
    units.extend(Unit::best().map(Some));
    for unit in units {
        FORCED.set(Some(unit));
        check(unit);
    }
    FORCED.set(None);
}

/// As the instruction is specified: even and odd depths are added up apart, with one rounding each, and then to the sums.
/// Numbers too small to be normal are zeros.
#[cfg(test)]
unsafe fn plain(products: Products<'_>) {
    let normal = |x: f32| if x.is_subnormal() { 0.0 * x } else { x };
    for i in 0..products.count[0] {
        for j in 0..products.count[1] {
            let sums = products.sums[i][j];
            if !products.accumulate {
                for row in 0..SIDE {
                    // SAFETY: the caller's rows of sums.
                    unsafe {
                        let row = sums.byte_add(row * products.sums_row);
                        std::ptr::write_bytes(row, 0, SIDE);
                    }
                }
            }
            let steps = products.left_steps.iter().zip(products.right_steps);
            for (left, right) in steps {
                for row in 0..SIDE {
                    // SAFETY: the caller's rows of both factors and of the sums.
                    unsafe {
                        let left = products.left[i].byte_add(left + row * products.left_row);
                        let to = sums.byte_add(row * products.sums_row);
                        let mut parts = [[0.0f32; 2]; SIDE];
                        for pair in 0..SIDE {
                            let right =
                                products.right[j].byte_add(right + pair * products.right_row);
                            for (column, parts) in parts.iter_mut().enumerate() {
                                for (odd, part) in parts.iter_mut().enumerate() {
                                    let a = normal((*left.add(2 * pair + odd)).to_f32());
                                    let b = normal((*right.add(2 * column + odd)).to_f32());
                                    *part = normal(a.mul_add(b, *part));
                                }
                            }
                        }
                        for (column, [even, odd]) in parts.into_iter().enumerate() {
                            let to = to.add(column);
                            *to = normal(normal(*to) + normal(even + odd));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::sync::LazyLock;

    use super::Products;

    /// Whether the processor has AMX with bf16, and Linux lets this process use it.
    pub(super) fn is_there() -> bool {
        static THERE: LazyLock<bool> = LazyLock::new(|| {
            let has = __cpuid(0).eax >= 7 && {
                let features = __cpuid_count(7, 0).edx;
                // AMX-BF16 and AMX-TILE
                features & (1 << 22 | 1 << 24) == (1 << 22 | 1 << 24)
            };
            // OSXSAVE, then XTILECFG and XTILEDATA among the states that the kernel saves
            has && __cpuid(1).ecx & 1 << 27 != 0
                && unsafe { xcr0() } & (0b11 << 17) == 0b11 << 17
                && unsafe { request() }
        });
        *THERE
    }

    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: the register exists where OSXSAVE is set.
        unsafe { _xgetbv(0) }
    }

    /// arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), for all threads of the process (Linux 5.16).
    unsafe fn request() -> bool {
        let mut result = 158i64;
        // SAFETY: the call changes nothing but a permission.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") 0x1023u64,
                in("rsi") 18u64,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    /// The shape of each tile register, as `ldtilecfg` reads it.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static CONFIGURATION: Configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// # Safety
    /// [`is_there`]
    pub(super) unsafe fn configure() {
        // SAFETY: 64 bytes of configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack)) };
    }

    /// # Safety
    /// [`is_there`]
    pub(super) unsafe fn release() {
        // SAFETY: it takes nothing.
        unsafe { asm!("tilerelease", options(nostack)) };
    }

    /// Tiles 0 to 3 are sums, 4 and 5 the left factor's, 6 and 7 the right one's. They keep what is in them from one
    /// block of assembler to the next, since nothing else uses them.
    ///
    /// # Safety
    /// As for [`super::Unit::multiply`].
    #[inline]
    pub(super) unsafe fn multiply<const LEFT: usize, const RIGHT: usize>(products: Products<'_>) {
        let Products {
            left: [left0, left1],
            left_row,
            right: [right0, right1],
            right_row,
            sums,
            sums_row,
            ..
        } = products;
        // SAFETY: the caller's rows.
        unsafe {
            if products.accumulate {
                asm!("tileloadd tmm0, [{}+{}*1]", in(reg) sums[0][0], in(reg) sums_row, options(nostack));
                if RIGHT == 2 {
                    asm!("tileloadd tmm1, [{}+{}*1]", in(reg) sums[0][1], in(reg) sums_row, options(nostack));
                }
                if LEFT == 2 {
                    asm!("tileloadd tmm2, [{}+{}*1]", in(reg) sums[1][0], in(reg) sums_row, options(nostack));
                }
                if LEFT == 2 && RIGHT == 2 {
                    asm!("tileloadd tmm3, [{}+{}*1]", in(reg) sums[1][1], in(reg) sums_row, options(nostack));
                }
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack)
                );
            }
            for (&left, &right) in products.left_steps.iter().zip(products.right_steps) {
                let (l0, l1) = (left0.byte_add(left), left1.byte_add(left));
                let (r0, r1) = (right0.byte_add(right), right1.byte_add(right));
                asm!(
                    "tileloadd tmm4, [{l}+{lr}*1]",
                    "tileloadd tmm6, [{r}+{rr}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    l = in(reg) l0, lr = in(reg) left_row, r = in(reg) r0, rr = in(reg) right_row,
                    options(nostack),
                );
                if RIGHT == 2 {
                    asm!(
                        "tileloadd tmm7, [{r}+{rr}*1]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        r = in(reg) r1, rr = in(reg) right_row,
                        options(nostack),
                    );
                }
                if LEFT == 2 {
                    asm!(
                        "tileloadd tmm5, [{l}+{lr}*1]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        l = in(reg) l1, lr = in(reg) left_row,
                        options(nostack),
                    );
                }
                if LEFT == 2 && RIGHT == 2 {
                    asm!("tdpbf16ps tmm3, tmm5, tmm7", options(nostack));
                }
            }
            asm!("tilestored [{}+{}*1], tmm0", in(reg) sums[0][0], in(reg) sums_row, options(nostack));
            if RIGHT == 2 {
                asm!("tilestored [{}+{}*1], tmm1", in(reg) sums[0][1], in(reg) sums_row, options(nostack));
            }
            if LEFT == 2 {
                asm!("tilestored [{}+{}*1], tmm2", in(reg) sums[1][0], in(reg) sums_row, options(nostack));
            }
            if LEFT == 2 && RIGHT == 2 {
                asm!("tilestored [{}+{}*1], tmm3", in(reg) sums[1][1], in(reg) sums_row, options(nostack));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ddpm_schedule::noise::{Stream, normal_fill};

    use super::*;

    fn random(index: u64, count: usize) -> Vec<bf16> {
        let mut values = vec![0.0f32; count];
        normal_fill(8, Stream::Synthetic, 0, index, &mut values);
        values.into_iter().map(bf16::from_f32).collect()
    }

    /// Three steps of 2×2 tiles, rows further apart than they need be.
    fn multiplied(unit: Unit, count: [usize; 2], accumulate: bool) -> Vec<f32> {
        let (left, right) = (random(0, 2 * 16 * 200), random(1, 2 * 48 * 40));
        let mut sums = vec![1.5f32; 2 * 2 * 16 * 20];
        let sum = |i: usize, j: usize| (i * 2 + j) * 16 * 20;
        // SAFETY: 16 rows of 400 bytes hold three steps of 64; 48 rows of 80 bytes are three of 16; sums of 80 bytes.
        unsafe {
            let first = sums.as_mut_ptr();
            let at = |i, j| first.add(sum(i, j));
            let products = Products {
                left: [left.as_ptr(), left.as_ptr().add(16 * 200)],
                left_row: 400,
                left_steps: &[0, 64, 128],
                right: [right.as_ptr(), right.as_ptr().add(48 * 40)],
                right_row: 80,
                right_steps: &[0, 16 * 80, 32 * 80],
                sums: [[at(0, 0), at(0, 1)], [at(1, 0), at(1, 1)]],
                sums_row: 80,
                count,
                accumulate,
            };
            unit.begin();
            unit.multiply(products);
            unit.end();
        }
        // The same in f64.
        for i in 0..count[0] {
            for j in 0..count[1] {
                for (row, column) in (0..16).flat_map(|row| (0..16).map(move |c| (row, c))) {
                    let mut expected = if accumulate { 1.5 } else { 0.0 };
                    for k in 0..96 {
                        let a = left[i * 16 * 200 + row * 200 + k];
                        let b = right[j * 48 * 40 + k / 2 * 40 + 2 * column + k % 2];
                        expected += f64::from(a.to_f32()) * f64::from(b.to_f32());
                    }
                    let found = sums[sum(i, j) + row * 20 + column];
                    // 96 products of numbers of size 1 in f32.
                    assert!(
                        (f64::from(found) - expected).abs() < 1e-4,
                        "{i} {j} {row} {column}"
                    );
                }
            }
        }
        sums
    }

    #[test]
    fn tiles_are_multiplied_alike_in_plain_rust_and_by_this_machine() {
        for count in [[1, 1], [1, 2], [2, 1], [2, 2]] {
            for accumulate in [false, true] {
                let plain = multiplied(Unit::Plain, count, accumulate);
                if let Some(unit) = Unit::best() {
                    let found = multiplied(unit, count, accumulate);
                    let bits = |sums: &[f32]| sums.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(
                        bits(&plain),
                        bits(&found),
                        "{unit:?} {count:?} {accumulate}"
                    );
                }
            }
        }
    }
}
