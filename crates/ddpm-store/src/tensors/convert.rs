//! Little-endian numbers of a file as f32.

use half::{bf16, f16};
use safetensors::Dtype;

/// Bytes of one number of a type that [`extend`] knows.
pub(crate) fn element_bytes(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::BOOL | Dtype::U8 | Dtype::I8 | Dtype::F8_E4M3 | Dtype::F8_E5M2 => Some(1),
        Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => Some(2),
        Dtype::I32 | Dtype::U32 | Dtype::F32 => Some(4),
        Dtype::I64 | Dtype::U64 | Dtype::F64 => Some(8),
        _ => None,
    }
}

/// Appends `bytes` (a whole number of elements of a type with [`element_bytes`]) to `data`.
pub(crate) fn extend(dtype: Dtype, bytes: &[u8], data: &mut Vec<f32>) {
    match dtype {
        Dtype::BOOL | Dtype::U8 => data.extend(bytes.iter().map(|&byte| f32::from(byte))),
        Dtype::F8_E4M3 => data.extend(bytes.iter().map(|&byte| e4m3(byte))),
        // The upper half of an f16.
        Dtype::F8_E5M2 => push(bytes, data, |[b]| f16::from_le_bytes([0, b]).to_f32()),
        Dtype::I8 => push(bytes, data, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::I16 => push(bytes, data, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::U16 => push(bytes, data, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::F16 => push(bytes, data, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => push(bytes, data, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::I32 => push(bytes, data, |b| i32::from_le_bytes(b) as f32),
        Dtype::U32 => push(bytes, data, |b| u32::from_le_bytes(b) as f32),
        Dtype::F32 => push(bytes, data, f32::from_le_bytes),
        Dtype::I64 => push(bytes, data, |b| i64::from_le_bytes(b) as f32),
        Dtype::U64 => push(bytes, data, |b| u64::from_le_bytes(b) as f32),
        Dtype::F64 => push(bytes, data, |b| f64::from_le_bytes(b) as f32),
        // `element_bytes` has refused these.
        _ => {}
    }
}

fn push<const N: usize>(bytes: &[u8], data: &mut Vec<f32>, number: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    data.extend(elements.iter().map(|&element| number(element)));
}

/// A sign, four bits of exponent with bias 7 and three of mantissa, no infinities (Micikevicius et al. 2022, table 1).
fn e4m3(byte: u8) -> f32 {
    let mantissa = f32::from(byte & 7) / 8.0;
    let magnitude = match byte >> 3 & 15 {
        _ if byte & 0x7f == 0x7f => f32::NAN,
        0 => mantissa * 2f32.powi(-6),
        exponent => (1.0 + mantissa) * 2f32.powi(i32::from(exponent) - 7),
    };
    if byte & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}
