use super::*;
use crate::config::DataKind;
use crate::fixtures::{config, corners, gzip, idx, load, load_error, write};
use crate::pixels::pixel_from_u8;

/// Two images of 2×3 whose first pixels are `first` and `first + 10`.
fn images(first: u8) -> Vec<u8> {
    let data: Vec<u8> = (first..first + 6).chain(first + 10..first + 16).collect();
    idx(&[2, 2, 3], &data)
}

fn firsts(set: &crate::Dataset) -> Vec<f32> {
    corners(set).into_iter().map(|corner| corner[0]).collect()
}

#[test]
fn files_packed_or_not_with_labels_beside_them() {
    for (pack_images, pack_labels) in [(false, false), (true, true), (true, false), (false, true)] {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>, pack: bool| {
            if pack {
                write(dir.path(), &format!("{name}.gz"), &gzip(&bytes))
            } else {
                write(dir.path(), name, &bytes)
            }
        };
        let path = put("my-images-idx3-ubyte", images(0), pack_images);
        put("my-labels-idx1-ubyte", idx(&[2], &[4, 1]), pack_labels);
        let set = load(&config(DataKind::Idx, &path)).unwrap();
        assert_eq!(
            (set.len(), set.height(), set.width(), set.channels()),
            (2, 2, 3, 1)
        );
        assert_eq!(firsts(&set), [pixel_from_u8(0), pixel_from_u8(10)]);
        assert_eq!(set.labels().unwrap(), [4, 1]);
        assert_eq!(set.num_classes(), Some(5));
        let row: Vec<f32> = (10..16).map(pixel_from_u8).collect();
        assert_eq!(set.get(1, false).unwrap().pixels, row);
    }
}

#[test]
fn a_directory_has_splits() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "train-images-idx3-ubyte.gz", &gzip(&images(0)));
    write(
        dir.path(),
        "train-labels-idx1-ubyte.gz",
        &gzip(&idx(&[2], &[0, 1])),
    );
    write(dir.path(), "t10k-images.idx3-ubyte", &images(100));
    write(dir.path(), "t10k-labels.idx1-ubyte", &idx(&[2], &[2, 0]));
    let mut config = config(DataKind::Idx, dir.path());
    for (split, firsts_want, labels) in [
        (None, vec![0, 10], vec![0, 1]),
        (Some(Split::Train), vec![0, 10], vec![0, 1]),
        (Some(Split::Test), vec![100, 110], vec![2, 0]),
        (Some(Split::All), vec![0, 10, 100, 110], vec![0, 1, 2, 0]),
    ] {
        config.split = split;
        for cache_bytes in [1 << 20, 0] {
            config.cache_bytes = cache_bytes;
            if cache_bytes == 0 && split != Some(Split::Test) {
                // packed files cannot be read piece by piece
                assert!(matches!(
                    load_error(&config),
                    DataError::Limit {
                        key: "cache_bytes",
                        ..
                    }
                ));
                continue;
            }
            let set = load(&config).unwrap();
            let want: Vec<f32> = firsts_want.iter().copied().map(pixel_from_u8).collect();
            assert_eq!(firsts(&set), want);
            assert_eq!(set.labels().unwrap(), labels);
        }
    }
}

#[test]
fn labels_are_optional_and_may_be_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "pictures.idx", &images(0));
    let mut config = config(DataKind::Idx, &path);
    assert_eq!(load(&config).unwrap().num_classes(), None);
    config.labels = Some(write(dir.path(), "classes.idx", &idx(&[2], &[1, 0])));
    assert_eq!(load(&config).unwrap().labels().unwrap(), [1, 0]);
}

#[test]
fn what_is_wrong_is_said() {
    let zeros = [0; 12];
    for (bytes, hint) in [
        (vec![], "magic 00 00 08 03), got 0 bytes"),
        (idx(&[2], &[1, 2]), "got one of labels"),
        (
            b"\x89PNG\r\n\x1a\n0000000000000000".to_vec(),
            "got magic 89 50 4e 47",
        ),
        (vec![0, 0, 13, 3, 0, 0, 0, 0], "got magic 00 00 0d 03"),
        (idx(&[2, 2], &[]), "got magic 00 00 08 02"),
        (
            idx(&[2, 2, 3], &[])[..10].to_vec(),
            "a header of 16 bytes, got 10 bytes",
        ),
        (
            idx(&[2, 2, 3], &zeros[..11]),
            "expected 28 bytes, by its header, got 27",
        ),
        (
            idx(&[2, 2, 3], &[0; 13]),
            "expected 28 bytes, by its header, got 29",
        ),
        (idx(&[0, 2, 3], &[]), "at least one element"),
        (idx(&[2, 0, 3], &[]), "at least one pixel"),
        (idx(&[2, 60_000, 60_000], &[]), "max_image_pixels"),
        (idx(&[u32::MAX, 8192, 8192], &[]), "by its header, got 16"),
    ] {
        for pack in [false, true] {
            if pack && (hint.contains("got 16") || hint.contains("got 2")) {
                // what the packed forms say instead is below
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let bytes = if pack { gzip(&bytes) } else { bytes.clone() };
            let path = write(dir.path(), "x-images-idx3-ubyte", &bytes);
            let message = load_error(&config(DataKind::Idx, &path)).to_string();
            assert!(message.contains(hint), "{hint}: {message}");
            assert!(message.contains("x-images-idx3-ubyte"), "{message}");
        }
    }
}

#[test]
fn packed_files_are_held_to_their_headers() {
    let dir = tempfile::tempdir().unwrap();
    let whole = gzip(&images(0));
    for (name, bytes, hint) in [
        (
            "short",
            gzip(&idx(&[2, 2, 3], &[0; 11])),
            "expected 28 bytes when unpacked",
        ),
        ("long", gzip(&idx(&[2, 2, 3], &[0; 13])), "got more"),
        // a bomb whose header is honest, and one whose header is not
        (
            "honest",
            gzip(&idx(&[8192, 64, 64], &vec![0; 32 << 20])),
            "max_expansion",
        ),
        (
            "liar",
            gzip(&idx(&[2, 2, 3], &vec![0; 32 << 20])),
            "got more",
        ),
        (
            "huge",
            gzip(&idx(&[u32::MAX, 8192, 8192], &[])),
            "cache_bytes",
        ),
        (
            "cut",
            whole[..whole.len() - 9].to_vec(),
            "cannot be unpacked",
        ),
        ("damaged", vec![0x1f, 0x8b, 1, 2, 3], "a damaged one"),
    ] {
        let path = write(dir.path(), name, &bytes);
        let message = load_error(&config(DataKind::Idx, &path)).to_string();
        assert!(message.contains(hint), "{name}: {message}");
    }
}

#[test]
fn labels_and_keys_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.idx", &images(0));
    let mut config = config(DataKind::Idx, &path);
    for (bytes, hint) in [
        (idx(&[3], &[0; 3]), "expected 2 labels, one an image, got 3"),
        (
            idx(&[2], &[0; 1]),
            "expected 10 bytes, by its header, got 9",
        ),
        (images(0), "got one of images"),
    ] {
        config.labels = Some(write(dir.path(), "l.idx", &bytes));
        let message = load_error(&config).to_string();
        assert!(message.contains(hint), "{hint}: {message}");
        assert!(message.contains("l.idx"), "{message}");
    }
    config.split = Some(Split::Test);
    assert!(matches!(
        load_error(&config),
        DataError::Config { key: "split", .. }
    ));
    config.path = Some(dir.path().to_path_buf());
    assert!(matches!(
        load_error(&config),
        DataError::Config { key: "labels", .. }
    ));
    config.labels = None;
    let message = load_error(&config).to_string();
    assert!(message.contains("t10k-images-idx3-ubyte.gz"), "{message}");
    config.path = Some(dir.path().join("no"));
    config.split = None;
    assert!(matches!(load_error(&config), DataError::Io { .. }));
}

#[test]
fn parts_of_different_sizes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "train-images-idx3-ubyte", &images(0));
    write(
        dir.path(),
        "t10k-images-idx3-ubyte",
        &idx(&[2, 3, 2], &[0; 12]),
    );
    let mut config = config(DataKind::Idx, dir.path());
    config.split = Some(Split::All);
    let message = load_error(&config).to_string();
    assert!(message.contains("2×3 like the first"), "{message}");
}
