use super::*;
use crate::config::{DataKind, OnBad};
use crate::fixtures::{config, corners, load, load_error, npy, write, zip_of};
use crate::pixels::pixel_from_u8;
use warnings::warnings;

mod labels;
mod warnings;

fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn load_bytes(bytes: &[u8]) -> Result<crate::Dataset, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.npy", bytes);
    load(&config(DataKind::Npy, &path))
}

#[test]
fn bytes_in_every_layout() {
    let data: Vec<u8> = (0..60).collect();
    let pixels = |numbers: [u8; 3]| numbers.map(pixel_from_u8).to_vec();
    // channels last: 1 image of 5×4×3
    let set = load_bytes(&npy("|u1", "(1, 5, 4, 3)", &data)).unwrap();
    assert_eq!((set.channels(), set.height(), set.width()), (3, 5, 4));
    assert_eq!(corners(&set), [pixels([0, 1, 2])]);
    // channels first
    let set = load_bytes(&npy("|u1", "(1, 3, 4, 5)", &data)).unwrap();
    assert_eq!((set.channels(), set.height(), set.width()), (3, 4, 5));
    assert_eq!(corners(&set), [pixels([0, 20, 40])]);
    assert_eq!(set.get(0, false).unwrap().pixels[21], pixel_from_u8(21));
    // grey
    let set = load_bytes(&npy("|u1", "(6, 2, 5)", &data)).unwrap();
    assert_eq!((set.len(), set.channels()), (6, 1));
    assert_eq!(set.get(2, false).unwrap().pixels[0], pixel_from_u8(20));
}

/// One grey image of one row, which starts with `values`; the rest repeats the last.
fn row(dtype: &str, values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = (0..5)
        .map(|at| values.get(at).or(values.last()).copied().unwrap_or(0.0))
        .flat_map(|value| match dtype {
            "<f2" => half::f16::from_f32(value).to_le_bytes().to_vec(),
            "<f4" => value.to_le_bytes().to_vec(),
            ">f4" => value.to_be_bytes().to_vec(),
            "<f8" => f64::from(value).to_le_bytes().to_vec(),
            "<u2" => (value as u16).to_le_bytes().to_vec(),
            ">u2" => (value as u16).to_be_bytes().to_vec(),
            _ => vec![value as u8],
        })
        .collect();
    npy(dtype, "(1, 1, 5)", &data)
}

fn starts_with(set: &crate::Dataset, want: &[f32]) {
    let got = set.get(0, false).unwrap().pixels;
    for (a, b) in got.iter().zip(want) {
        assert!((a - b).abs() < 1e-3, "{got:?} {want:?}");
    }
}

#[test]
fn numbers_by_their_range() {
    for (values, want) in [
        ([-1.0, 0.5], [-1.0, 0.5]),
        ([-0.75, 1.0], [-0.75, 1.0]),
        ([0.0, 1.0], [-1.0, 1.0]),
        ([0.25, 0.75], [-0.5, 0.5]),
        ([0.0, 255.0], [-1.0, 1.0]),
        ([51.0, 204.0], [-0.6, 0.6]),
    ] {
        for dtype in ["<f2", "<f4", ">f4", "<f8"] {
            starts_with(&load_bytes(&row(dtype, &values)).unwrap(), &want);
        }
    }
    for dtype in ["<u2", ">u2"] {
        let set = load_bytes(&row(dtype, &[0.0, 49151.0, 65535.0])).unwrap();
        starts_with(&set, &[-1.0, 0.5, 1.0]);
    }
    let set = load_bytes(&row("|b1", &[0.0, 1.0])).unwrap();
    starts_with(&set, &[-1.0, 1.0]);
}

#[test]
fn a_range_is_decided_from_every_image_and_never_bytes_by_an_overshoot() {
    // the last of six images tells
    for (last, hint) in [
        (
            1.06,
            "a.npy: holds floats from 0 to 1.06, which may be of [0, 1] or [-1, 1]; set data.range = \"unit\" or \"signed\", or [low, high], the values of black and white; values outside it are clamped",
        ),
        (
            -0.06,
            "a.npy: holds floats from -0.06 to 1, which may be of [0, 1] or [-1, 1]; set data.range = ",
        ),
        (
            -2.5,
            "a.npy: holds floats from -2.5 to 1, which fills none of [0, 1], [-1, 1] and [0, 255]; set data.range = [low, high]",
        ),
    ] {
        let mut values = vec![0.0; 29];
        values[3] = 1.0;
        values.push(last);
        let error = load_bytes(&npy("<f4", "(6, 1, 5)", &f32s(&values))).unwrap_err();
        assert!(matches!(error, DataError::Unread { .. }), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
    for (dtype, values, hint) in [
        ("<f4", [0.0, 0.0], "every value is 0, which may be of"),
        (
            "<u2",
            [0.0, 4095.0],
            "set data.range = [0, 4095] or [0, 65535]",
        ),
        (
            "<u2",
            [0.0, 255.0],
            "set data.range = \"bytes\" or [0, 65535]",
        ),
    ] {
        let message = load_bytes(&row(dtype, &values)).unwrap_err().to_string();
        assert!(message.contains(hint), "{hint}: {message}");
    }
}

#[test]
fn a_range_that_is_said_clamps_what_lies_outside() {
    let dir = tempfile::tempdir().unwrap();
    for (dtype, values, range, want) in [
        ("<f4", [0.0, 1.0], FloatRange::Signed, [0.0, 1.0]),
        ("<f4", [0.0, 1.0], FloatRange::Unit, [-1.0, 1.0]),
        (
            "<f4",
            [0.0, 1.0],
            FloatRange::Bytes,
            [-1.0, 2.0 / 255.0 - 1.0],
        ),
        ("<f4", [-0.06, 1.06], FloatRange::Unit, [-1.0, 1.0]),
        ("<f8", [-1.06, 1.06], FloatRange::Signed, [-1.0, 1.0]),
        ("<f4", [-3.0, 258.0], FloatRange::Bytes, [-1.0, 1.0]),
        (
            "<f4",
            [-3.0, 1.0],
            FloatRange::Between([-2.0, 2.0]),
            [-1.0, 0.5],
        ),
        (
            "<u2",
            [0.0, 4095.0],
            FloatRange::Between([0.0, 4095.0]),
            [-1.0, 1.0],
        ),
        ("<u2", [51.0, 255.0], FloatRange::Bytes, [-0.6, 1.0]),
    ] {
        let path = write(dir.path(), "a.npy", &row(dtype, &values));
        let mut config = config(DataKind::Npy, &path);
        config.range = range;
        for cache_bytes in [1 << 20, 0] {
            config.cache_bytes = cache_bytes;
            starts_with(&load(&config).unwrap(), &want);
        }
    }
}

#[test]
fn clamping_by_more_than_rounding_is_warned_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(DataKind::Npy, &dir.path().join("a.npy"));
    config.range = FloatRange::Unit;
    let warned = |values: &[f32]| {
        write(dir.path(), "a.npy", &npy("<f4", "(6, 1, 5)", &f32s(values)));
        warnings(|| load(&config).unwrap().len())
    };
    let mut values = [0.5; 30];
    values[7] = 1.0009;
    assert_eq!(warned(&values), (6, vec![]));
    values[8] = -0.06;
    values[29] = 1.06;
    let (len, said) = warned(&values);
    assert_eq!((len, said.len()), (6, 1));
    let hint = "a.npy: 2 of 30 values lie outside 0 to 1 (data.range): they reach from -0.06 to 1.06, and are clamped";
    assert!(said[0].ends_with(hint), "{said:?}");
}

#[test]
fn an_image_that_is_not_finite_is_a_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    for (value, word) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let mut data = [[0.5f32; 5], [0.5; 5], [0.25; 5]].concat();
        data.extend([0.5; 30]);
        data[6] = value;
        // far outside, but skipped with its image
        data[7] = 300.0;
        let path = write(dir.path(), "a.npy", &npy("<f4", "(9, 1, 5)", &f32s(&data)));
        for range in [FloatRange::Auto, FloatRange::Unit] {
            let mut config = config(DataKind::Npy, &path);
            config.range = range;
            let message = load_error(&config).to_string();
            let hint = format!("a.npy[1]: holds the value {word}, which is not finite");
            assert!(message.contains(&hint), "{message}");
            config.on_bad = OnBad::Skip;
            let set = load(&config).unwrap();
            assert_eq!(corners(&set)[..2], [[0.0], [-0.5]]);
            assert_eq!((set.len(), set.skipped().len()), (8, 1));
        }
    }
}

#[test]
fn npz_with_labels_by_the_names_people_use() {
    let images = npy("|u1", "(2, 5, 1, 1)", &[0; 10]);
    let other = npy("|u1", "(1, 1, 5)", &[51; 5]);
    let labels = npy(
        "<i8",
        "(2, 1)",
        &[1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
    );
    let one = npy(">u2", "(1,)", &[0, 2]);
    let dir = tempfile::tempdir().unwrap();
    for (files, split, len, labels_want) in [
        (vec![("arr_0.npy", &images)], None, 2, None),
        (vec![("pictures.npy", &images)], None, 2, None),
        (
            vec![("labels.npy", &labels), ("images.npy", &images)],
            None,
            2,
            Some(vec![1, 3]),
        ),
        (
            vec![
                ("x_train.npy", &images),
                ("y_train.npy", &labels),
                ("x_test.npy", &other),
                ("y_test.npy", &one),
            ],
            Some(Split::Test),
            1,
            Some(vec![2]),
        ),
        (
            vec![
                ("train_images.npy", &images),
                ("train_labels.npy", &labels),
                ("test_images.npy", &other),
            ],
            None,
            2,
            Some(vec![1, 3]),
        ),
    ] {
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, bytes)| (*name, bytes.as_slice()))
            .collect();
        let path = write(dir.path(), "a.npz", &zip_of(&files));
        let mut config = config(DataKind::Npy, &path);
        config.split = split;
        let set = load(&config).unwrap();
        assert_eq!(set.len(), len, "{files:?}");
        assert_eq!(set.labels().map(<[usize]>::to_vec), labels_want);
    }
    let path = write(
        dir.path(),
        "a.npz",
        &zip_of(&[("q.npy", &images), ("r.npy", &other)]),
    );
    let message = load_error(&config(DataKind::Npy, &path)).to_string();
    assert!(message.contains("arr_0, got q.npy, r.npy"), "{message}");
    let bomb = npy("|u1", "(8192, 64, 64)", &vec![0; 32 << 20]);
    let path = write(dir.path(), "b.npz", &zip_of(&[("x.npy", &bomb)]));
    let error = load_error(&config(DataKind::Npy, &path));
    assert!(
        matches!(
            error,
            DataError::Limit {
                key: "max_expansion",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_is_wrong_is_said() {
    for (bytes, hint) in [
        (npy("|u1", "(2, 3)", &[0; 6]), "got shape [2, 3]"),
        (
            npy("|u1", "(1, 1, 2, 3, 1)", &[0; 6]),
            "got shape [1, 1, 2, 3, 1]",
        ),
        (
            npy("|u1", "(1, 3, 5, 3)", &[0; 45]),
            "a.npy: [1, 3, 5, 3] is either one image of 3x5x3 or one image of 5x3 with 3 channels first; save it as [1, 3, 3, 5] or [1, 5, 3, 3]",
        ),
        (npy("|u1", "(1, 5, 5, 5)", &[0; 125]), "[n, h, w, c]"),
        (npy("|u1", "(0, 5, 5)", &[]), "at least one image"),
        (npy("|u1", "(1, 0, 5)", &[]), "at least one pixel"),
        (
            npy("<i8", "(1, 1, 2)", &[0; 16]),
            "a.npy: holds numbers of type \"<i8\", which are not read as images; save it as uint8, uint16,",
        ),
        (
            npy("<c8", "(1, 1, 2)", &[0; 16]),
            "elements of type \"<c8\"",
        ),
        (npy("", "(1, 1, 2)", &[0; 16]), "elements of type \"\""),
        (npy("é", "(1, 1, 2)", &[0; 16]), "elements of type \"é\""),
        (npy("<f4", "(1, 1, 2)", &[0; 7]), "by its header"),
        (npy("<f4", "(1, 1, 2)", &[0; 9]), "by its header"),
        (
            npy("<f4", "(4294967296, 4294967296, 1)", &[]),
            "a size that can be",
        ),
        (npy("|u1", "(1, 60000, 60000)", &[]), "by its header"),
        (b"words".to_vec(), "does not start with"),
        (Vec::new(), "does not start with"),
        (b"PK\x03\x04words".to_vec(), "a zip archive"),
    ] {
        let message = load_bytes(&bytes).unwrap_err().to_string();
        assert!(message.contains(hint), "{hint}: {message}");
        assert!(message.contains("a.npy"), "{message}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.npy", &npy("|u1", "(1, 1, 5)", &[0; 5]));
    let mut config = config(DataKind::Npy, &path);
    config.range = FloatRange::Unit;
    assert!(matches!(
        load_error(&config),
        DataError::Config { key: "range", .. }
    ));
    config.range = FloatRange::Auto;
    config.split = Some(Split::Test);
    assert!(matches!(
        load_error(&config),
        DataError::Config { key: "split", .. }
    ));
}
