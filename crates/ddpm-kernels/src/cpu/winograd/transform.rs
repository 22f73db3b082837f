//! The transforms of F(4×4, 3×3): a 3×3 convolution of a 4×4 tile by 36 products instead of 144
//! (Winograd 1980; Lavin & Gray 2016).
//!
//! Y = Aᵀ\[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)\]·A for a 6×6 tile d of the input and a 3×3 kernel g. The matrices are
//! those of Cook and Toom's interpolation at 0, ±1/√2, ±√2 and ∞. With the points 0, ±1, ±2 and ∞ of
//! Lavin & Gray the entries reach 8 instead of 2.9, and the rounding error is several times larger.

use super::super::vector::Vector;

/// Outputs of a tile along one side.
pub(in super::super) const OUT: usize = 4;
/// Inputs of a tile along one side, and products.
pub(in super::super) const IN: usize = 6;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A2: f32 = 0.5;
const B2: f32 = 2.0;
/// Of the polynomial (x² - A²)(x² - B²) = x⁴ - SUM·x² + PRODUCT.
const SUM: f32 = A2 + B2;
const PRODUCT: f32 = A2 * B2;

// 1 / Π(p - q) over the other finite points q: for 0, ±A and ±B.
const N0: f32 = 1.0 / PRODUCT;
const N1: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const N2: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

#[inline(always)]
fn add<V: Vector>(a: V, b: V) -> V {
    a.add(b)
}

#[inline(always)]
fn sub<V: Vector>(a: V, b: V) -> V {
    a.sub(b)
}

/// s·a
#[inline(always)]
fn scale<V: Vector>(s: f32, a: V) -> V {
    V::splat(s).mul(a)
}

/// s·a + b
#[inline(always)]
fn mad<V: Vector>(s: f32, a: V, b: V) -> V {
    V::splat(s).mul_add(a, b)
}

/// Bᵀ·d: the input's transform.
#[inline(always)]
pub(super) fn input<V: Vector>(d: [V; 6]) -> [V; 6] {
    let even1 = mad(-B2, d[2], d[4]);
    let odd1 = scale(A, mad(-B2, d[1], d[3]));
    let even2 = mad(-A2, d[2], d[4]);
    let odd2 = scale(B, mad(-A2, d[1], d[3]));
    [
        mad(-SUM, d[2], mad(PRODUCT, d[0], d[4])),
        add(even1, odd1),
        sub(even1, odd1),
        add(even2, odd2),
        sub(even2, odd2),
        mad(-SUM, d[3], mad(PRODUCT, d[1], d[5])),
    ]
}

/// Aᵀ·m: the output's transform.
#[inline(always)]
pub(super) fn output<V: Vector>(m: [V; 6]) -> [V; 4] {
    let (sum1, difference1) = (add(m[1], m[2]), sub(m[1], m[2]));
    let (sum2, difference2) = (add(m[3], m[4]), sub(m[3], m[4]));
    [
        add(m[0], add(sum1, sum2)),
        mad(A, difference1, scale(B, difference2)),
        mad(A2, sum1, scale(B2, sum2)),
        mad(A * A2, difference1, mad(B * B2, difference2, m[5])),
    ]
}

/// A·y: the transpose of [`output`], for gradients of the output.
#[inline(always)]
pub(super) fn output_gradient<V: Vector>(y: [V; 4]) -> [V; 6] {
    let even1 = mad(A2, y[2], y[0]);
    let odd1 = scale(A, mad(A2, y[3], y[1]));
    let even2 = mad(B2, y[2], y[0]);
    let odd2 = scale(B, mad(B2, y[3], y[1]));
    [
        y[0],
        add(even1, odd1),
        sub(even1, odd1),
        add(even2, odd2),
        sub(even2, odd2),
        y[3],
    ]
}

/// G·g: the kernel's transform.
#[inline(always)]
pub(super) fn kernel<V: Vector>(g: [V; 3]) -> [V; 6] {
    let even1 = scale(N1, mad(A2, g[2], g[0]));
    let odd1 = scale(A * N1, g[1]);
    let even2 = scale(N2, mad(B2, g[2], g[0]));
    let odd2 = scale(B * N2, g[1]);
    [
        scale(N0, g[0]),
        add(even1, odd1),
        sub(even1, odd1),
        add(even2, odd2),
        sub(even2, odd2),
        g[2],
    ]
}

/// Gᵀ·u: the transpose of [`kernel`], for gradients of the transformed kernel.
#[inline(always)]
pub(super) fn kernel_gradient<V: Vector>(u: [V; 6]) -> [V; 3] {
    let sum1 = scale(N1, add(u[1], u[2]));
    let difference1 = scale(N1 * A, sub(u[1], u[2]));
    let sum2 = scale(N2, add(u[3], u[4]));
    let difference2 = scale(N2 * B, sub(u[3], u[4]));
    [
        mad(N0, u[0], add(sum1, sum2)),
        add(difference1, difference2),
        mad(A2, sum1, mad(B2, sum2, u[5])),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::vector::Portable;
    use super::*;

    fn splat<const N: usize>(values: [f32; N]) -> [Portable; N] {
        values.map(Portable::splat)
    }

    fn first(x: Portable) -> f32 {
        let mut lanes = [0.0; 8];
        // SAFETY: eight lanes.
        #[allow(unsafe_code, reason = "vectors are stored through pointers")]
        unsafe {
            x.store(lanes.as_mut_ptr());
        }
        lanes[0]
    }

    fn dot(a: &[Portable], b: &[Portable]) -> f32 {
        a.iter().zip(b).map(|(a, b)| first(a.mul(*b))).sum()
    }

    /// One row of F(4, 3) is four outputs of a convolution with three taps.
    #[test]
    fn the_matrices_belong_together() {
        let d = [0.3, -1.2, 0.7, 2.0, -0.4, 1.1];
        let g = [0.5, -0.25, 1.5];
        let (transformed, weights) = (input(splat(d)), kernel(splat(g)));
        let mut products = splat([0.0; 6]);
        for i in 0..6 {
            products[i] = transformed[i].mul(weights[i]);
        }
        for (i, y) in output(products).iter().enumerate() {
            let exact: f32 = (0..3).map(|u| d[i + u] * g[u]).sum();
            assert!(
                (first(*y) - exact).abs() < 1e-5,
                "{i}: {} {exact}",
                first(*y)
            );
        }
    }

    /// ⟨output(m), y⟩ = ⟨m, output_gradient(y)⟩, and the same for the kernel.
    #[test]
    fn gradients_are_transposes() {
        let m = splat([0.3, -1.2, 0.7, 2.0, -0.4, 1.1]);
        let y = splat([1.0, 0.5, -2.0, 0.25]);
        let g = splat([0.5, -0.25, 1.5]);
        let (a, b) = (dot(&output(m), &y), dot(&m, &output_gradient(y)));
        assert!((a - b).abs() < 1e-5, "{a} {b}");
        let (a, b) = (dot(&kernel(g), &m), dot(&g, &kernel_gradient(m)));
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}
