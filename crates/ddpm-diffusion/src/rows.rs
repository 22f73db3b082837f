//! One number for each image of a batch, and the checks that there is one.

use burn::tensor::{Device, Tensor, TensorData};

use crate::DiffusionError;

/// One figure an image, cast to f32 here and nowhere before: `[batch, 1, 1, 1]`.
pub(crate) fn per_row(values: impl Iterator<Item = f64>, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = values.map(|x| x as f32).collect();
    let rows = values.len();
    Tensor::from_data(TensorData::new(values, [rows, 1, 1, 1]), device)
}

/// `c_a·a + c_b·b`, with the coefficients of each image.
///
/// # Shapes   `a`, `b`: `[batch, channels, height, width]`; `coefs`: one pair an image; returns the shape of `a`
pub(crate) fn combine_rows(
    a: Tensor<4>,
    b: Tensor<4>,
    coefs: impl Iterator<Item = (f64, f64)>,
) -> Tensor<4> {
    let device = a.device();
    let (for_a, for_b): (Vec<f64>, Vec<f64>) = coefs.unzip();
    a * per_row(for_a.into_iter(), &device) + b * per_row(for_b.into_iter(), &device)
}

/// `c_a·a + c_b·b`, leaving out what is multiplied by 0.
pub(crate) fn combine(c_a: f64, a: &Tensor<4>, c_b: f64, b: &Tensor<4>) -> Tensor<4> {
    match (c_a == 0.0, c_b == 0.0) {
        (true, _) if c_b == 1.0 => b.clone(),
        (true, _) => b.clone() * c_b,
        (_, true) if c_a == 1.0 => a.clone(),
        (_, true) => a.clone() * c_a,
        _ => a.clone() * c_a + b.clone() * c_b,
    }
}

pub(crate) fn check_like(
    what: &'static str,
    got: &Tensor<4>,
    expected: [usize; 4],
) -> Result<(), DiffusionError> {
    match got.dims() {
        got if got == expected => Ok(()),
        got => Err(DiffusionError::Shape {
            what,
            expected,
            got,
        }),
    }
}

pub(crate) fn check_count(
    what: &'static str,
    got: usize,
    batch: usize,
) -> Result<(), DiffusionError> {
    match got == batch {
        true => Ok(()),
        false => Err(DiffusionError::Batch {
            what,
            expected: batch,
            got,
        }),
    }
}
