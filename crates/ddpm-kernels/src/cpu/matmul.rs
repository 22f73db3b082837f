//! Single-threaded matrix products over slices.

#![allow(unsafe_code, reason = "the matrix product takes raw pointers")]

/// A row-major matrix, or the transpose of one.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows`×`columns`, row-major.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "the matrix fills its slice");
        Self {
            values,
            row_stride: columns,
            column_stride: 1,
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// out = lhs·rhs, or out += lhs·rhs, with out `m`×`n` row-major and an inner extent of `k`.
pub(super) fn product(
    out: &mut [f32],
    [m, n, k]: [usize; 3],
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    accumulate: bool,
) {
    assert_eq!(out.len(), m * n, "the product fills its slice");
    assert_eq!(lhs.values.len(), m * k, "m x k on the left");
    assert_eq!(rhs.values.len(), k * n, "k x n on the right");
    let stride = |stride: usize| stride.cast_signed();
    // SAFETY: the assertions above say that every element of the three matrices lies in its slice:
    // both strides of a matrix belong to its row-major layout or to the transpose of that.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            accumulate,
            lhs.values.as_ptr(),
            stride(lhs.column_stride),
            stride(lhs.row_stride),
            rhs.values.as_ptr(),
            stride(rhs.column_stride),
            stride(rhs.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 2.0, 1.0, 3.0, 1.0];
        let mut out = [10.0; 4];
        product(
            &mut out,
            [2, 2, 3],
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 3, 2),
            true,
        );
        assert_eq!(out, [24.0, 15.0, 42.0, 21.0]);
        let mut out = [10.0; 9];
        product(
            &mut out,
            [3, 3, 2],
            Matrix::new(&a, 2, 3).transposed(),
            Matrix::new(&b, 3, 2).transposed(),
            false,
        );
        assert_eq!(out, [1.0, 6.0, 7.0, 2.0, 9.0, 11.0, 3.0, 12.0, 15.0]);
    }
}
