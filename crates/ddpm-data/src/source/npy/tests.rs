use super::*;
use crate::config::{DataKind, OnBad};
use crate::fixtures::{config, corners, load, load_error, npy, write, zip_of};
use crate::pixels::pixel_from_u8;

fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn f64s(values: &[f64]) -> Vec<u8> {
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
    let set = load_bytes(&npy("|u1", "(3, 4, 5)", &data)).unwrap();
    assert_eq!((set.len(), set.channels()), (3, 1));
    assert_eq!(set.get(2, false).unwrap().pixels[0], pixel_from_u8(40));
}

#[test]
fn floats_by_their_range() {
    let close = |set: &crate::Dataset, want: [f32; 2]| {
        let got = set.get(0, false).unwrap().pixels;
        for (a, b) in got.iter().zip(want) {
            assert!((a - b).abs() < 1e-6, "{got:?} {want:?}");
        }
    };
    // smallest and largest decide
    for (values, want) in [
        ([-1.0, 0.5], [-1.0, 0.5]),
        ([-0.25, 1.0], [-0.25, 1.0]),
        ([0.0, 1.0], [-1.0, 1.0]),
        ([0.25, 0.75], [-0.5, 0.5]),
        ([0.0, 255.0], [-1.0, 1.0]),
        ([51.0, 204.0], [-0.6, 0.6]),
    ] {
        close(
            &load_bytes(&npy("<f4", "(1, 1, 2)", &f32s(&values))).unwrap(),
            want,
        );
        let doubles = f64s(&values.map(f64::from));
        close(
            &load_bytes(&npy("<f8", "(1, 1, 2)", &doubles)).unwrap(),
            want,
        );
        let big: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_be_bytes())
            .collect();
        close(&load_bytes(&npy(">f4", "(1, 1, 2)", &big)).unwrap(), want);
    }
    for values in [
        [-2.0, 0.0],
        [0.0, 256.0],
        [-1.0, 3.0],
        [f32::NAN, f32::INFINITY],
    ] {
        let message = load_bytes(&npy("<f4", "(1, 1, 2)", &f32s(&values)))
            .unwrap_err()
            .to_string();
        assert!(message.contains("data.range"), "{message}");
    }
    // said and not guessed
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "a.npy",
        &npy("<f4", "(1, 1, 2)", &f32s(&[0.0, 1.0])),
    );
    let mut config = config(DataKind::Npy, &path);
    for (range, want) in [
        (FloatRange::Signed, [0.0, 1.0]),
        (FloatRange::Unit, [-1.0, 1.0]),
        (FloatRange::Bytes, [-1.0, 2.0 / 255.0 - 1.0]),
    ] {
        config.range = range;
        for cache_bytes in [1 << 20, 0] {
            config.cache_bytes = cache_bytes;
            close(&load(&config).unwrap(), want);
        }
    }
}

#[test]
fn an_image_outside_the_range_is_a_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = f32s(&[0.5, 0.5, f32::NAN, 0.5, 0.25, 0.5]);
    let path = write(dir.path(), "a.npy", &npy("<f4", "(3, 1, 2)", &data));
    let mut config = config(DataKind::Npy, &path);
    let message = load_error(&config).to_string();
    assert!(
        message.contains("a.npy[1]: holds the value NaN"),
        "{message}"
    );
    config.on_bad = OnBad::Skip;
    let set = load(&config).unwrap();
    assert_eq!(corners(&set), [[0.0], [-0.5]]);
    assert_eq!(set.skipped().len(), 1);
}

#[test]
fn npz_with_labels_by_the_names_people_use() {
    let images = npy("|u1", "(2, 1, 1)", &[0, 255]);
    let other = npy("|u1", "(1, 1, 1)", &[51]);
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
fn labels_beside_a_npy() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.npy", &npy("|u1", "(2, 1, 1)", &[0, 255]));
    let mut config = config(DataKind::Npy, &path);
    for (bytes, hint) in [
        (npy("|i1", "(2,)", &[1, 255]), "labels from 0"),
        (npy("<i4", "(1,)", &[0; 4]), "2 labels, one an image"),
        (npy("<f4", "(2,)", &[0; 8]), "labels of an integer type"),
        (npy("<u8", "(2,)", &[255; 16]), "labels from 0"),
    ] {
        config.labels = Some(write(dir.path(), "l.npy", &bytes));
        let message = load_error(&config).to_string();
        assert!(
            message.contains(hint) && message.contains("l.npy"),
            "{hint}: {message}"
        );
    }
    config.labels = Some(write(
        dir.path(),
        "l.npy",
        &npy("<i4", "(2,)", &[4, 0, 0, 0, 2, 0, 0, 0]),
    ));
    assert_eq!(load(&config).unwrap().labels().unwrap(), [4, 2]);
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
            "only one of the second and fourth axis",
        ),
        (npy("|u1", "(1, 5, 5, 5)", &[0; 125]), "[n, h, w, c]"),
        (npy("|u1", "(0, 5, 5)", &[]), "at least one image"),
        (npy("|u1", "(1, 0, 5)", &[]), "at least one pixel"),
        (
            npy("<i8", "(1, 1, 2)", &[0; 16]),
            "elements of type \"<i8\"",
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
    let path = write(dir.path(), "a.npy", &npy("|u1", "(1, 1, 2)", &[0; 2]));
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
