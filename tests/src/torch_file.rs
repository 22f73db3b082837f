//! Files of PyTorch's as other programs leave them, made here without PyTorch.

use std::fs;
use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use ddpm_store::NamedTensor;
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::repository;

/// The state dict of `tests/fixtures/torch/NAME.json`, whose values are a formula.
///
/// # Errors
/// If it cannot be read.
pub fn listed(name: &str) -> Result<Vec<NamedTensor>> {
    let path = repository().join(format!("tests/fixtures/torch/{name}.json"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut json: Value = serde_json::from_str(&text)?;
    // Name, rule and shape of each.
    let listed: Vec<(String, String, Vec<usize>)> =
        serde_json::from_value(json["state_dict"].take())?;
    let tensors = listed.into_iter().zip(0..);
    Ok(tensors
        .map(|((name, rule, shape), number)| NamedTensor {
            data: values(&rule, &shape, number),
            name,
            shape,
        })
        .collect())
}

/// r(i, j) by SplitMix64 (Steele et al. 2014) of the number i of the tensor and j of the element, scaled by the rule.
fn values(rule: &str, shape: &[usize], tensor: u64) -> Vec<f32> {
    let uniform = |element: u64| {
        let mut z = (tensor << 32).wrapping_add(element + 1);
        z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        2.0 * ((z >> 11) as f64 / (1u64 << 53) as f64) - 1.0
    };
    let fan_in: usize = shape.iter().skip(1).product();
    let count: usize = shape.iter().product();
    let value = |r: f64| match rule {
        "matrix" => (6.0 / fan_in as f64).sqrt() * r,
        "gain" => 1.0 + 0.1 * r,
        "variance" => 1.0 + 0.2 * r,
        _ => 0.1 * r,
    };
    (0..count as u64)
        .map(|element| value(uniform(element)) as f32)
        .collect()
}

/// A dict of tensors in a zip container, as `torch.save` writes it.
///
/// # Errors
/// If the archive cannot be made.
pub fn save(tensors: &[NamedTensor]) -> Result<Vec<u8>> {
    let entries = tensors.iter().enumerate();
    let entries = entries.map(|(key, tensor)| [text(&tensor.name), rebuilt(key, tensor)].concat());
    let pickle = [
        b"\x80\x02}(".to_vec(),
        entries.collect::<Vec<_>>().concat(),
        b"u.".to_vec(),
    ]
    .concat();
    let data: Vec<(String, Vec<u8>)> = tensors
        .iter()
        .enumerate()
        .map(|(key, tensor)| {
            let bytes = tensor.data.iter().flat_map(|number| number.to_le_bytes());
            (format!("data/{key}"), bytes.collect())
        })
        .collect();
    archive(&pickle, &data, CompressionMethod::Stored)
}

/// A pickle and other files in a zip container.
///
/// # Errors
/// If the archive cannot be made.
pub fn archive(
    pickle: &[u8],
    files: &[(String, Vec<u8>)],
    method: CompressionMethod,
) -> Result<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    let head = [
        ("data.pkl".to_owned(), pickle.to_vec()),
        ("byteorder".to_owned(), b"little".to_vec()),
    ];
    for (name, bytes) in head.iter().chain(files) {
        writer.start_file(format!("archive/{name}"), options)?;
        writer.write_all(bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// A text of a pickle.
pub fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        (text.len() as u32).to_le_bytes().as_slice(),
        text.as_bytes(),
    ]
    .concat()
}

/// A number of a pickle.
pub fn int(number: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &number.to_le_bytes()].concat()
}

/// A call of `_rebuild_tensor_v2` for a storage of f32 that holds this tensor alone.
fn rebuilt(key: usize, tensor: &NamedTensor) -> Vec<u8> {
    let tuple = |parts: Vec<Vec<u8>>| [b"(".to_vec(), parts.concat(), b"t".to_vec()].concat();
    let extents = |all: &[usize]| tuple(all.iter().map(|&n| int(n as i64)).collect());
    let mut strides = vec![1; tensor.shape.len()];
    for axis in (1..strides.len()).rev() {
        strides[axis - 1] = strides[axis] * tensor.shape[axis];
    }
    let storage = tuple(vec![
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(&key.to_string()),
        text("cpu"),
        int(tensor.data.len() as i64),
    ]);
    let arguments = tuple(vec![
        [storage, b"Q".to_vec()].concat(),
        int(0),
        extents(&tensor.shape),
        extents(&strides),
        vec![0x89],
        b"ccollections\nOrderedDict\n)R".to_vec(),
    ]);
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(),
        arguments,
        b"R".to_vec(),
    ]
    .concat()
}
