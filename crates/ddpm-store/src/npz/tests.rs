use std::fs::{self, File};
use std::io::Read;

use zip::ZipArchive;

use super::*;
use crate::images::ImageBatch;

/// The header of an array, without the spaces at its end, and the bytes behind it.
fn array(path: &Path, name: &str) -> (String, Vec<u8>) {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut file = archive.by_name(&format!("{name}.npy")).unwrap();
    assert_eq!(file.compression(), CompressionMethod::Stored);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let numbers = bytes.split_off(PRELUDE_BYTES + length);
    assert_eq!(bytes.len() % ALIGNMENT, 0);
    let text = String::from_utf8(bytes.split_off(PRELUDE_BYTES)).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    (text.trim_end().to_owned(), numbers)
}

fn left_in(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn arrays_read_back_with_numpys_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/a.npz");
    let sigma: Vec<f64> = (0..6).map(|k| f64::from(k) / 3.0).collect();
    let many: Vec<f32> = (0..CHUNK + 5).map(|k| k as f32).collect();
    let arrays: [(&str, &[usize], NpzData<'_>); 5] = [
        ("sigma", &[2, 3], NpzData::F64(&sigma)),
        ("many", &[CHUNK + 5], NpzData::F32(&many)),
        ("bytes", &[1, 2, 1, 2], NpzData::U8(&[1, 2, 3, 255])),
        ("count", &[], NpzData::I64(&[-50_000])),
        ("none", &[0, 7], NpzData::F32(&[])),
    ];
    write_npz(&path, &arrays).unwrap();
    let archive = ZipArchive::new(File::open(&path).unwrap()).unwrap();
    assert_eq!(archive.len(), arrays.len());
    let bytes_of = |numbers: &[f64]| -> Vec<u8> {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        bytes.collect()
    };
    let floats: Vec<u8> = many.iter().flat_map(|k| k.to_le_bytes()).collect();
    for (name, descr, shape, bytes) in [
        ("sigma", "<f8", "(2, 3)", bytes_of(&sigma)),
        ("many", "<f4", "(65541,)", floats),
        ("bytes", "|u1", "(1, 2, 1, 2)", vec![1, 2, 3, 255]),
        ("count", "<i8", "()", (-50_000i64).to_le_bytes().to_vec()),
        ("none", "<f4", "(0, 7)", Vec::new()),
    ] {
        let (text, numbers) = array(&path, name);
        let expected =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        assert_eq!(text, expected);
        assert_eq!(numbers, bytes, "{name}");
    }
    // Again, elsewhere: the same bytes.
    let again = folder.path().join("b.npz");
    write_npz(&again, &arrays).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
}

#[test]
fn a_header_of_any_length_ends_at_a_multiple_of_64() {
    for axes in 0..MAX_AXES {
        let bytes = header("<f8", &vec![12_345; axes]);
        assert_eq!(bytes.len() % ALIGNMENT, 0, "{axes}");
        assert_eq!(bytes.last(), Some(&b'\n'));
        let length = u16::from_le_bytes([bytes[8], bytes[9]]);
        assert_eq!(usize::from(length) + PRELUDE_BYTES, bytes.len());
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    fs::write(&path, "old").unwrap();
    let numbers = NpzData::F64(&[1.0, 2.0, 3.0]);
    let too_many = [1; MAX_AXES + 1];
    for (arrays, words) in [
        (
            vec![("mu", &[4][..], numbers)],
            "a.npz: tensor `mu`: shape [4] does not fit 3 numbers",
        ),
        (vec![("mu", &[][..], numbers)], "does not fit 3 numbers"),
        (
            vec![("mu", &[usize::MAX, 3][..], numbers)],
            "does not fit 3 numbers",
        ),
        (vec![("mu", &too_many[..], numbers)], "has 33 axes"),
        (
            vec![("mu", &[3][..], numbers), ("mu", &[3][..], numbers)],
            "a.npz: cannot write: invalid Zip archive: Duplicate",
        ),
    ] {
        let refused = write_npz(&path, &arrays).unwrap_err().to_string();
        assert!(refused.contains(words), "{words}: {refused}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(left_in(folder.path()), 1);
    }
}

#[test]
fn images_come_in_batches_and_lie_channels_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.npz");
    let byte = |at: usize| (at * 7) as u8;
    // 3 images of 3 channels, 1 row, 2 columns; channels first
    let pixels = |images: std::ops::Range<usize>| {
        let pixels = (images.start * 6..images.end * 6).map(|at| f32::from(byte(at)) / 127.5 - 1.0);
        ImageBatch::new(pixels.collect(), [images.len(), 3, 1, 2]).unwrap()
    };
    let mut writer = ImageNpz::create(&path, [3, 1, 2, 3]).unwrap();
    writer.push(&pixels(0..2)).unwrap();
    writer.push(&pixels(2..3)).unwrap();
    assert!(!path.exists());
    writer.finish(Some(&[4, 0, -1])).unwrap();
    assert_eq!(left_in(folder.path()), 1);
    let (text, bytes) = array(&path, "arr_0");
    assert!(
        text.contains("'|u1'") && text.contains("(3, 1, 2, 3)"),
        "{text}"
    );
    let expected: Vec<u8> = (0..3)
        .flat_map(|image| [0, 2, 4, 1, 3, 5].map(|at| byte(image * 6 + at)))
        .collect();
    assert_eq!(bytes, expected);
    let (text, labels) = array(&path, "arr_1");
    assert!(text.contains("'<i8'") && text.contains("(3,)"), "{text}");
    let expected: Vec<u8> = [4i64, 0, -1]
        .into_iter()
        .flat_map(i64::to_le_bytes)
        .collect();
    assert_eq!(labels, expected);

    let mut writer = ImageNpz::create(&path, [2, 1, 2, 3]).unwrap();
    writer.push(&pixels(0..2)).unwrap();
    writer.finish(None).unwrap();
    let archive = ZipArchive::new(File::open(&path).unwrap()).unwrap();
    assert_eq!(archive.len(), 1);
}

#[test]
fn images_that_are_not_as_said_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.npz");
    let images =
        |shape: [usize; 4]| ImageBatch::new(vec![0.0; shape.iter().product()], shape).unwrap();
    let two = images([2, 3, 1, 2]);
    let begin = || ImageNpz::create(&path, [3, 1, 2, 3]).unwrap();
    for (batch, words) in [
        (
            images([1, 3, 2, 1]),
            "samples.npz: tensor `arr_0`: images of 2x1 pixels and 3 channels where 1x2 and 3 belong",
        ),
        (images([1, 1, 1, 2]), "1x2 pixels and 1 channels where"),
        (two.clone(), "4 images where 3 belong"),
    ] {
        let mut writer = begin();
        writer.push(&two).unwrap();
        let refused = writer.push(&batch).unwrap_err().to_string();
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let mut short = begin();
    short.push(&two).unwrap();
    let refused = short.finish(None).unwrap_err().to_string();
    assert!(refused.contains("2 images where 3 belong"), "{refused}");
    let mut odd = begin();
    odd.push(&images([3, 3, 1, 2])).unwrap();
    let refused = odd.finish(Some(&[1, 2])).unwrap_err().to_string();
    assert!(
        refused.contains("`arr_1`: shape [3] does not fit 2"),
        "{refused}"
    );
    let endless = ImageNpz::create(&path, [usize::MAX, 2, 2, 3]);
    assert!(endless.unwrap_err().to_string().contains("can be counted"));
    // Images of many gigabytes are begun and given up.
    drop(ImageNpz::create(&path, [1 << 20, 256, 256, 3]).unwrap());
    assert_eq!(left_in(folder.path()), 0);
}
