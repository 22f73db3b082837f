use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

fn tensor(name: &str, shape: &[usize], data: &[f32]) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: data.to_vec(),
    }
}

/// A file of a header, given as text, and some bytes.
fn raw(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    Place {
        _directory: directory,
        path,
    }
}

fn read(bytes: &[u8]) -> Result<TensorFile> {
    let place = place();
    fs::write(&place.path, bytes).unwrap();
    TensorFile::read(&place.path)
}

#[test]
fn what_was_written_is_read_sorted_and_by_the_reference_library() {
    let place = place();
    let mut file = TensorFile::new(vec![
        tensor(
            "z.weight",
            &[2, 3],
            &[1.0, -2.5, 0.0, f32::MIN_POSITIVE, 5.0, f32::MAX],
        ),
        tensor("a.bias", &[], &[7.0]),
        tensor("m.empty", &[0, 4], &[]),
    ]);
    file.metadata.insert("ema".into(), "true".into());
    file.write(&place.path).unwrap();
    let first = fs::read(&place.path).unwrap();

    let back = TensorFile::read(&place.path).unwrap();
    let names: Vec<_> = back
        .tensors
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    assert_eq!(names, ["a.bias", "m.empty", "z.weight"]);
    for tensor in &file.tensors {
        assert_eq!(back.get(&tensor.name), Some(tensor));
    }
    assert_eq!(back.metadata["format"], "pt");
    assert_eq!(back.metadata["ema"], "true");

    let (_, metadata) = SafeTensors::read_metadata(&first).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    let reference = SafeTensors::deserialize(&first).unwrap();
    let view = reference.tensor("z.weight").unwrap();
    assert_eq!(view.shape(), [2, 3]);
    assert_eq!(view.data()[4..8], (-2.5_f32).to_le_bytes());

    // The order in memory makes no difference to the bytes.
    file.tensors.reverse();
    file.write(&place.path).unwrap();
    assert_eq!(fs::read(&place.path).unwrap(), first);
}

#[test]
fn a_large_tensor_crosses_the_chunks() {
    let place = place();
    let data: Vec<f32> = (0..100_003).map(|k| k as f32 * 0.5).collect();
    let file = TensorFile::new(vec![
        tensor("a", &[100_003], &data),
        tensor("b", &[1], &[3.0]),
    ]);
    file.write(&place.path).unwrap();
    assert_eq!(TensorFile::read(&place.path).unwrap().tensors, file.tensors);
}

#[test]
fn every_number_type_becomes_f32() {
    let cases: [(&str, Vec<u8>, f32); 19] = [
        ("F32", 1.5_f32.to_le_bytes().to_vec(), 1.5),
        ("F64", 1e-3_f64.to_le_bytes().to_vec(), 1e-3),
        (
            "F16",
            f16::from_f32(0.1).to_le_bytes().to_vec(),
            0.099_975_586,
        ),
        ("BF16", bf16::from_f32(-3.25).to_le_bytes().to_vec(), -3.25),
        ("BOOL", vec![1], 1.0),
        ("F8_E4M3", vec![0x38], 1.0),
        ("F8_E4M3", vec![0xFE], -448.0),
        ("F8_E4M3", vec![0x01], 1.0 / 512.0),
        ("F8_E5M2", vec![0x3E], 1.5),
        ("F8_E5M2", vec![0xFB], -57_344.0),
        ("F8_E5M2", vec![0x01], 1.0 / 65_536.0),
        ("I8", vec![0xFE], -2.0),
        ("U8", vec![0xFE], 254.0),
        ("I16", (-300_i16).to_le_bytes().to_vec(), -300.0),
        ("U16", 65_000_u16.to_le_bytes().to_vec(), 65_000.0),
        ("I32", (-70_000_i32).to_le_bytes().to_vec(), -70_000.0),
        ("U32", 4_000_000_000_u32.to_le_bytes().to_vec(), 4e9),
        ("I64", 999_i64.to_le_bytes().to_vec(), 999.0),
        (
            "U64",
            (1_u64 << 40).to_le_bytes().to_vec(),
            (1_u64 << 40) as f32,
        ),
    ];
    for (dtype, bytes, expected) in cases {
        let length = bytes.len();
        let header =
            format!(r#"{{"t":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{length}]}}}}"#);
        assert_eq!(
            read(&raw(header, &bytes)).unwrap().tensors,
            [tensor("t", &[1], &[expected])],
            "{dtype}"
        );
    }
}

#[test]
fn a_header_of_640_bytes_is_no_pickle() {
    let mut header = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#.to_owned();
    header += &" ".repeat(640 - header.len());
    let place = place();
    fs::write(&place.path, raw(header, &[7])).unwrap();
    assert!(!crate::torch::TorchFile::looks_like(&place.path));
    let read = TensorFile::read(&place.path).unwrap();
    assert_eq!(read.tensors, [tensor("t", &[1], &[7.0])]);
}

#[test]
fn the_listing_reads_no_numbers() {
    let place = place();
    let header = r#"{"b":{"dtype":"C64","shape":[1],"data_offsets":[4,12]},
        "a":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]},"__metadata__":{"k":"v"}}"#;
    fs::write(&place.path, raw(header, &[0; 12])).unwrap();
    let listing = list_tensors(&place.path).unwrap();
    let entry = |name: &str, dtype: &str, shape: &[usize]| TensorEntry {
        name: name.into(),
        dtype: dtype.into(),
        shape: shape.to_vec(),
    };
    assert_eq!(
        listing.entries,
        [entry("a", "F16", &[1, 2]), entry("b", "C64", &[1])]
    );
    assert_eq!(listing.metadata["k"], "v");
    let message = TensorFile::read(&place.path).unwrap_err().to_string();
    assert!(
        message.contains("`b`") && message.contains("C64"),
        "{message}"
    );
}

#[test]
fn hostile_headers_are_named_errors() {
    let one = |body: &str| format!(r#"{{"t":{body}}}"#);
    let f32_at = |start: usize, end: usize, shape: &str| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let claiming = |length: u64| [length.to_le_bytes().as_slice(), b"{}"].concat();
    let two = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    let huge = u64::MAX / 2;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "needs at least 8"),
        ("seven bytes", vec![0; 7], "needs at least 8"),
        ("header of 2^63", claiming(1 << 63), "9223372036854775808"),
        ("header one byte too long", claiming(3), "at most 2"),
        ("empty header", claiming(0), "header"),
        ("not UTF-8", raw(b"{\"\xFF\xFE\":1}", &[]), "UTF-8"),
        ("not JSON", raw("{\"t\":", &[]), "header"),
        ("not a map", raw("[1,2]", &[]), "a map"),
        (
            "nested a million deep",
            raw("[".repeat(1_000_000), &[]),
            "header",
        ),
        ("nested inside", raw(one(&"[".repeat(100_000)), &[]), "`t`"),
        (
            "duplicate name",
            raw(
                two(f32_at(0, 4, "[1]"), f32_at(4, 8, "[1]")).replace("\"b\"", "\"a\""),
                &[0; 8],
            ),
            "twice",
        ),
        (
            "overlap",
            raw(two(f32_at(0, 8, "[2]"), f32_at(4, 12, "[2]")), &[0; 12]),
            "`b`",
        ),
        (
            "gap",
            raw(two(f32_at(0, 4, "[1]"), f32_at(8, 12, "[1]")), &[0; 12]),
            "`b`",
        ),
        (
            "late start",
            raw(one(&f32_at(4, 8, "[1]")), &[0; 8]),
            "ends at 0",
        ),
        (
            "backwards",
            raw(
                one(&f32_at(0, 0, "[1]")).replace("[0,0]", "[0,-4]"),
                &[0; 4],
            ),
            "`t`",
        ),
        (
            "end before start",
            raw(two(f32_at(0, 4, "[1]"), f32_at(4, 0, "[1]")), &[0; 4]),
            "`b`",
        ),
        (
            "overflowing shape",
            raw(one(&f32_at(0, 4, &format!("[{huge},{huge}]"))), &[0; 4]),
            "overflows",
        ),
        (
            "overflowing bits",
            raw(one(&f32_at(0, 4, &format!("[{huge}]"))), &[0; 4]),
            "overflows",
        ),
        (
            "shape and bytes differ",
            raw(one(&f32_at(0, 4, "[2]")), &[0; 4]),
            "takes 8 bytes",
        ),
        (
            "offsets beyond the file",
            raw(
                one(&f32_at(0, 1 << 40, &format!("[{}]", 1_u64 << 38))),
                &[0; 4],
            ),
            "was cut",
        ),
        (
            "bytes left over",
            raw(one(&f32_at(0, 4, "[1]")), &[0; 5]),
            "was cut or extended",
        ),
        (
            "bytes missing",
            raw(one(&f32_at(0, 4, "[1]")), &[0; 3]),
            "was cut or extended",
        ),
        (
            "unknown type",
            raw(one(&f32_at(0, 4, "[1]")).replace("F32", "F31"), &[0; 4]),
            "`t`",
        ),
        (
            "wrong type",
            raw(one(&f32_at(0, 4, "[1]")).replace("F32", "F64"), &[0; 4]),
            "takes 8 bytes",
        ),
        (
            "unsupported type",
            raw(one(&f32_at(0, 4, "[4]")).replace("F32", "F8_E8M0"), &[0; 4]),
            "not supported",
        ),
        (
            "metadata of numbers",
            raw(r#"{"__metadata__":{"a":1}}"#, &[]),
            "__metadata__",
        ),
        (
            "zip of a pickle",
            b"PK\x03\x04\x00\x00\x08\x08more".to_vec(),
            "pickle",
        ),
        (
            "bare pickle",
            b"\x80\x02}q\x00(X\x05\x00\x00".to_vec(),
            "pickle",
        ),
    ];
    for (what, bytes, expected) in cases {
        let started = Instant::now();
        let error = read(&bytes).expect_err(what);
        let message = error.to_string();
        assert!(
            message.contains("x.safetensors") && message.contains(expected),
            "{what}: {message}"
        );
        assert!(
            matches!(error, StoreError::Format { .. } | StoreError::Tensor { .. }),
            "{what}"
        );
        assert!(started.elapsed() < Duration::from_secs(1), "{what}");
    }
}

#[test]
fn a_hundred_thousand_tensors_take_no_time() {
    let started = Instant::now();
    let entries: Vec<_> = (0..100_000)
        .map(|k| {
            format!(
                r#""{k}":{{"dtype":"U8","shape":[1],"data_offsets":[{k},{}]}}"#,
                k + 1
            )
        })
        .collect();
    let file = read(&raw(
        format!("{{{}}}", entries.join(",")),
        &vec![1; 100_000],
    ))
    .unwrap();
    assert_eq!(file.tensors.len(), 100_000);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_cannot_be_written_is_refused_before_the_disk_is_touched() {
    let place = place();
    let cases = [
        vec![tensor("a", &[2], &[1.0])],
        vec![tensor("a", &[1], &[1.0]), tensor("a", &[1], &[2.0])],
        vec![tensor("__metadata__", &[1], &[1.0])],
        vec![tensor("a", &[usize::MAX, 2], &[])],
    ];
    for tensors in cases {
        let refused = TensorFile::new(tensors).write(&place.path);
        assert!(matches!(refused, Err(StoreError::Tensor { .. })));
    }
    assert!(!place.path.exists());
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none.safetensors");
    assert!(matches!(
        TensorFile::read(&missing),
        Err(StoreError::Io { .. })
    ));
    let message = TensorFile::read(&directory.path().join("m.bin"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("pickle") && message.contains("safe_serialization"),
        "{message}"
    );
    let message = TensorFile::read(directory.path()).unwrap_err().to_string();
    assert!(message.contains("not a plain file"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens to the bytes, the answer is tensors or an error.
    #[test]
    fn mutations_never_panic(at in 0_usize..200, bit in 0_u8..8, cut in 0_usize..220) {
        let place = place();
        let file = TensorFile::new(vec![tensor("a", &[2, 2], &[1.0; 4]), tensor("b", &[3], &[2.0; 3])]);
        file.write(&place.path).unwrap();
        let mut bytes = fs::read(&place.path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        bytes.truncate(bytes.len().min(cut.max(1)));
        fs::write(&place.path, &bytes).unwrap();
        let _ = TensorFile::read(&place.path);
        let _ = list_tensors(&place.path);
    }
}
