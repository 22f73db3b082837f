use super::*;
use crate::config::{DataKind, OnBad};
use crate::fixtures::{config, corners, encode, load, load_error, png, rgba, write, zip_of};

fn colours(set: &crate::Dataset) -> Vec<Vec<u8>> {
    corners(set)
        .into_iter()
        .map(|corner| {
            corner
                .into_iter()
                .map(|value| ((value + 1.0) * 127.5).round() as u8)
                .collect()
        })
        .collect()
}

fn load_zip(files: &[(&str, &[u8])]) -> crate::Dataset {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.zip", &zip_of(files));
    load(&config(DataKind::Zip, &path)).unwrap()
}

#[test]
fn classes_are_folders_below_a_common_top() {
    let image = png(2, 2, [1, 2, 3]);
    let names = |files: &[&str]| {
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|&name| (name, image.as_slice())).collect();
        load_zip(&files).class_names().map(<[String]>::to_vec)
    };
    assert_eq!(names(&["b/1.png", "a/2.png"]).unwrap(), ["a", "b"]);
    assert_eq!(
        names(&["top/b/1.png", "top/a/x/2.png"]).unwrap(),
        ["a", "b"]
    );
    // one folder that holds everything says nothing
    assert_eq!(names(&["top/1.png", "top/2.png"]), None);
    assert_eq!(names(&["1.png", "2.png"]), None);
    assert_eq!(names(&["1.png", "a/2.png"]), None);
    assert_eq!(names(&["./b/1.png", "a\\2.png"]).unwrap(), ["a", "b"]);
}

#[test]
fn sprites_keep_their_alpha() {
    let sprite = |colour| encode(&rgba(4, 4, colour), image::ImageFormat::Png);
    let (a, b, c) = (
        sprite([1, 2, 3, 0]),
        sprite([4, 5, 6, 255]),
        sprite([7, 8, 9, 128]),
    );
    let set = load_zip(&[
        ("item/", b""),
        ("item/b.png", &b),
        ("dungeon/c.png", &c),
        ("item/a.png", &a),
        ("__MACOSX/item/._a.png", b"?"),
        ("item/.DS_Store", b"?"),
        ("LICENCE.txt", b"CC0"),
    ]);
    assert_eq!(set.channels(), 4);
    assert_eq!(
        colours(&set),
        [[7, 8, 9, 128], [1, 2, 3, 0], [4, 5, 6, 255]]
    );
    assert_eq!(set.labels().unwrap(), [0, 1, 1]);
}

#[test]
fn a_set_larger_than_the_cache_is_read_on_demand_from_many_threads() {
    let images: Vec<Vec<u8>> = (0..30).map(|step| png(3, 3, [step, 0, 0])).collect();
    let names: Vec<String> = (0..30).map(|step| format!("{step:02}.png")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .zip(&images)
        .map(|(name, image)| (name.as_str(), image.as_slice()))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.zip", &zip_of(&files));
    let mut config = config(DataKind::Zip, &path);
    config.cache_bytes = 10;
    let set = load(&config).unwrap();
    assert!(set.describe().contains("on demand"), "{}", set.describe());
    let want: Vec<Vec<u8>> = (0..30).map(|step| vec![step, 0, 0]).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(colours(&set), want));
        }
    });
}

#[test]
fn bombs_and_damage_are_refused_by_entry() {
    let dir = tempfile::tempdir().unwrap();
    let good = png(2, 2, [1, 2, 3]);
    let zeros = vec![0; 8 << 20];
    let path = write(
        dir.path(),
        "a.zip",
        &zip_of(&[("a.png", &good), ("bomb.bmp", &zeros)]),
    );
    let mut config = config(DataKind::Zip, &path);
    let error = load_error(&config);
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
    config.max_file_bytes = 1 << 20;
    let error = load_error(&config);
    assert!(
        matches!(
            error,
            DataError::Limit {
                key: "max_file_bytes",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("a.zip/bomb.bmp"), "{error}");
    config.on_bad = OnBad::Skip;
    let set = load(&config).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (1, 1));
}

#[test]
fn a_wrong_checksum_is_a_bad_image() {
    let dir = tempfile::tempdir().unwrap();
    let image = png(2, 2, [1, 2, 3]);
    let mut bytes = zip_of(&[("a.png", &image), ("b.png", &image)]);
    // the checksum of the last entry in the archive's directory
    let at = bytes
        .windows(4)
        .rposition(|window| window == b"PK\x01\x02")
        .unwrap();
    bytes[at + 16] ^= 0xff;
    let path = write(dir.path(), "a.zip", &bytes);
    let error = load_error(&config(DataKind::Zip, &path));
    assert!(matches!(error, DataError::Image { .. }), "{error}");
    assert!(error.to_string().contains("b.png"), "{error}");
}

#[test]
fn what_is_not_a_zip_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let whole = zip_of(&[("a.png", &png(2, 2, [1, 2, 3]))]);
    for (name, bytes) in [
        ("words.zip", b"words".to_vec()),
        ("empty.zip", Vec::new()),
        ("half.zip", whole[..whole.len() / 2].to_vec()),
    ] {
        let path = write(dir.path(), name, &bytes);
        let error = load_error(&config(DataKind::Zip, &path));
        assert!(matches!(error, DataError::Format { .. }), "{name}: {error}");
    }
    let path = write(dir.path(), "none.zip", &zip_of(&[("a.txt", b"words")]));
    let error = load_error(&config(DataKind::Zip, &path));
    assert!(matches!(error, DataError::Empty { .. }), "{error}");
    let error = load_error(&config(DataKind::Zip, dir.path()));
    assert!(error.to_string().contains("a directory"), "{error}");
    let error = load_error(&config(DataKind::Zip, &dir.path().join("no.zip")));
    assert!(matches!(error, DataError::Io { .. }), "{error}");
}

#[test]
fn mutated_archives_end_in_a_result() {
    let image = png(2, 2, [1, 2, 3]);
    let whole = zip_of(&[("a/a.png", &image), ("b/b.png", &image)]);
    let dir = tempfile::tempdir().unwrap();
    let mut state = 3u64;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        let path = write(dir.path(), "m.zip", &bytes);
        let _ = load(&config(DataKind::Zip, &path));
    }
}

#[test]
fn a_directory_of_too_many_files_is_refused_before_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let limited = |files: usize, max_files: u64| {
        let names: Vec<String> = (0..files).map(|number| format!("{number}.png")).collect();
        let image = png(2, 2, [1, 2, 3]);
        let listed: Vec<(&str, &[u8])> = names
            .iter()
            .map(|name| (name.as_str(), image.as_slice()))
            .collect();
        let path = write(dir.path(), "a.zip", &zip_of(&listed));
        crate::DataConfig {
            max_files,
            ..config(DataKind::Zip, &path)
        }
    };
    assert_eq!(load(&limited(5, 5)).unwrap().len(), 5);
    // The directory of the second has more bytes than are read of any archive.
    for (files, max_files, told) in [(6, 5, 6), (90_000, 1, 2)] {
        let error = load_error(&limited(files, max_files));
        let crate::DataError::Limit { key, got, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((key, got), ("max_files", told));
    }
}

#[test]
fn what_lies_beside_images_is_counted_and_left_out() {
    let image = png(2, 2, [1, 2, 3]);
    let files: [(&str, &[u8]); 10] = [
        ("a/1.png", &image),
        ("a/2.HEIC", b"?"),
        ("b/3.heif", b"?"),
        // told by its content
        ("b/film", b"\0\0\0\x18ftypisom"),
        ("b/raw.nef", b"MM\0*\0\0\0\x08"),
        ("b/notes.txt", b"?"),
        ("a/@eaDir/1.png/SYNOPHOTO_THUMB_M.png", &image),
        ("a/._1.png", b"?"),
        (".thumbnails/1.png", &image),
        ("__MACOSX/a/._1.png", b"?"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    for (name, bytes) in files {
        write(&folder, name, bytes);
    }
    let zip = write(dir.path(), "a.zip", &zip_of(&files));
    for config in [
        config(DataKind::Zip, &zip),
        config(DataKind::Folder, &folder),
    ] {
        let set = load(&config).unwrap();
        assert_eq!(set.len(), 1);
        assert_eq!(
            set.describe().split(": ").nth(1).unwrap(),
            "1 image of 3×2×2, in memory (0.0 MB)"
        );
        let passed = set.passed_over();
        assert_eq!(
            passed.describe_unread().unwrap(),
            "4 files of kinds that are not read (2 HEIC, 1 MP4/MOV, 1 RAW): convert or export them to PNG"
        );
        assert_eq!(passed.hidden(), 4);
    }
}
