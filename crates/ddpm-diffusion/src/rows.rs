//! One number for each image of a batch, and the checks that there is one.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::Schedule;

use crate::DiffusionError;

/// One figure an image, cast to f32 here and nowhere before: `[batch, 1, 1, 1]`.
pub(crate) fn per_row(values: impl Iterator<Item = f64>, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = values.map(|x| x as f32).collect();
    let rows = values.len();
    Tensor::from_data(TensorData::new(values, [rows, 1, 1, 1]), device)
}

/// `c_a·a + c_b·b`, with the coefficients of each image taken at its own ᾱ.
///
/// # Shapes   `a`, `b`: `[batch, channels, height, width]`; `t`: one step an image; returns the shape of `a`
pub(crate) fn combine_rows(
    a: Tensor<4>,
    b: Tensor<4>,
    t: &[usize],
    schedule: &Schedule,
    coefs: impl Fn(f64) -> (f64, f64),
) -> Tensor<4> {
    let device = a.device();
    let (for_a, for_b): (Vec<f64>, Vec<f64>) =
        t.iter().map(|&t| coefs(schedule.alpha_bar(t))).unzip();
    a * per_row(for_a.into_iter(), &device) + b * per_row(for_b.into_iter(), &device)
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

pub(crate) fn check_steps(
    t: &[usize],
    batch: usize,
    schedule: &Schedule,
) -> Result<(), DiffusionError> {
    if t.len() != batch {
        return Err(DiffusionError::Batch {
            what: "time steps",
            expected: batch,
            got: t.len(),
        });
    }
    let last = schedule.len() - 1;
    match t.iter().find(|&&t| t > last) {
        Some(&t) => Err(DiffusionError::Step { t, last }),
        None => Ok(()),
    }
}
