//! The numbers of a tensor, out of its storage.

use super::TorchFile;
use super::input::Input;
use super::storage::bytes_of;
use super::tensor::TorchTensor;
use crate::error::{Result, StoreError};
use crate::tensors::{NamedTensor, convert};

impl TorchFile {
    /// The numbers of a tensor as f32, in row-major order.
    ///
    /// # Errors   [`StoreError::Tensor`] for a type without a counterpart here, [`StoreError::Io`]
    pub fn read(&self, tensor: &TorchTensor) -> Result<NamedTensor> {
        let TorchTensor {
            name,
            shape,
            dtype,
            place,
            strides,
        } = tensor;
        if convert::element_bytes(*dtype).is_none() {
            let problem = format!("type {dtype} is not supported; convert it to float32");
            return Err(StoreError::tensor(&self.path, name, problem));
        }
        let mut input = Input::new(&self.path, &self.file, place.clone())?;
        let mut held = Vec::with_capacity((input.rest() as usize) / bytes_of(*dtype));
        while input.rest() > 0 {
            let part = input.bytes(input.rest().min(1 << 16) as usize)?;
            convert::extend(*dtype, &part, &mut held);
        }
        let data = match held.len() == tensor.numbers() && row_major(shape, strides) {
            true => held,
            false => gathered(&held, shape, strides),
        };
        Ok(NamedTensor {
            name: name.clone(),
            shape: shape.clone(),
            data,
        })
    }
}

fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&extent, &stride)| {
        let fits = extent <= 1 || stride == expected;
        expected *= extent;
        fits
    })
}

/// The numbers at Σ index·stride, the last index fastest.
fn gathered(held: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let total = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut data = Vec::with_capacity(total);
    while data.len() < total {
        // `view` has checked that all of them are there.
        data.push(held.get(at).copied().unwrap_or(f32::NAN));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    data
}
