use super::*;
use crate::config::{DataKind, OnBad, Size};
use crate::fixtures::{
    config, corners, encode, load, load_error, noisy_png, png, png_claiming, rgb, write,
};

fn red(step: u8) -> Vec<u8> {
    png(4, 4, [step, 0, 0])
}

/// The red of every image, as it was written.
fn reds(set: &crate::Dataset) -> Vec<u8> {
    corners(set)
        .iter()
        .map(|corner| ((corner[0] + 1.0) * 127.5).round() as u8)
        .collect()
}

#[test]
fn order_and_classes_are_those_of_the_sorted_paths() {
    let dir = tempfile::tempdir().unwrap();
    // written out of order, the class being the first level only
    for (name, step) in [
        ("cat/z.png", 4),
        ("ant/deep/er/b.png", 1),
        ("cat/a-1.png", 2),
        ("cat/a/1.png", 3),
        ("ant/b.png", 0),
    ] {
        write(dir.path(), name, &red(step));
    }
    let set = load(&config(DataKind::Folder, dir.path())).unwrap();
    assert_eq!(set.labels().unwrap(), [0, 0, 1, 1, 1]);
    // by component: a/1.png comes before a-1.png
    assert_eq!(reds(&set), [0, 1, 3, 2, 4]);
    assert_eq!(set.class_names().unwrap(), ["ant", "cat"]);
    assert_eq!(set.num_classes(), Some(2));
}

#[test]
fn what_counts_as_an_image() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jpg", &red(1)); // a PNG by another name
    write(dir.path(), "b", &red(2)); // a PNG without a name for it
    write(dir.path(), "c.PNG", &red(3));
    for (name, bytes) in [
        ("README.md", &b"words"[..]),
        ("empty.txt", b""),
        (".hidden.png", b"?"),
        ("__MACOSX/d.png", b"?"),
        (".git/e.png", b"?"),
        ("Thumbs.db", b"?"),
    ] {
        write(dir.path(), name, bytes);
    }
    let set = load(&config(DataKind::Folder, dir.path())).unwrap();
    assert_eq!(reds(&set), [1, 2, 3]);
    assert_eq!(set.num_classes(), None);
}

/// Files that no set should hold, by what their message must say.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = noisy_png(32, 32);
    vec![
        ("empty.png", Vec::new(), "0 bytes"),
        (
            "half.png",
            whole[..whole.len() / 2].to_vec(),
            "cannot be decoded as PNG",
        ),
        ("page.jpg", b"<html>404</html>".to_vec(), "<html>404</html>"),
        ("bomb.png", png_claiming(60_000, 60_000), "max_image_pixels"),
        ("text.gif", vec![0, 159, 146, 150], "00 9f 92 96"),
    ]
}

#[test]
fn a_bad_image_is_an_error_with_its_path() {
    for (name, bytes, hint) in bad_files() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.png", &red(1));
        let path = write(dir.path(), name, &bytes);
        for cache_bytes in [1 << 20, 0] {
            let mut config = config(DataKind::Folder, dir.path());
            config.cache_bytes = cache_bytes;
            let message = if cache_bytes > 0 {
                load_error(&config).to_string()
            } else {
                // nothing is decoded ahead: the error comes when the image is asked for
                load(&config)
                    .unwrap()
                    .get(1, false)
                    .unwrap_err()
                    .to_string()
            };
            assert!(message.contains(hint), "{name}: {message}");
            assert!(
                message.starts_with(&path.display().to_string()),
                "{message}"
            );
        }
    }
}

#[test]
fn skipping_counts_exactly_and_keeps_the_order() {
    let dir = tempfile::tempdir().unwrap();
    for step in 0..20 {
        write(dir.path(), &format!("x/{step:02}.png"), &red(step));
    }
    for (number, (name, bytes, _)) in bad_files().into_iter().enumerate() {
        write(dir.path(), &format!("x/{:02}-{name}", number * 5), &bytes);
    }
    // and one before all good ones, in another class
    let first = write(dir.path(), "a/0.png", b"nothing");
    for cache_bytes in [1 << 20, 0] {
        let mut config = config(DataKind::Folder, dir.path());
        config.on_bad = OnBad::Skip;
        config.cache_bytes = cache_bytes;
        let set = load(&config).unwrap();
        assert_eq!(set.skipped().len(), 6);
        assert_eq!(set.skipped()[0].path, first);
        assert!(set.skipped()[0].reason.contains("nothing"));
        assert!(set.skipped()[1].path.ends_with("x/00-empty.png"));
        assert_eq!(reds(&set), (0..20).collect::<Vec<_>>());
        assert_eq!(set.labels().unwrap(), [1; 20]);
        assert_eq!(set.num_classes(), Some(2));
        assert!(
            set.describe().contains("6 bad ones skipped"),
            "{}",
            set.describe()
        );
    }
}

#[test]
fn all_bad_is_an_error_even_when_skipping() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.png", b"");
    write(dir.path(), "b.png", b"");
    let mut config = config(DataKind::Folder, dir.path());
    config.on_bad = OnBad::Skip;
    let error = load_error(&config);
    assert!(
        matches!(error, DataError::AllBad { count: 2, .. }),
        "{error}"
    );
}

#[test]
fn one_shape_for_all_or_a_key_that_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.png", &png(4, 4, [0; 3]));
    let odd = write(dir.path(), "b.png", &png(5, 4, [0; 3]));
    write(dir.path(), "c.png", &png(6, 4, [0; 3]));
    let mut config = config(DataKind::Folder, dir.path());
    for on_bad in [OnBad::Error, OnBad::Skip] {
        config.on_bad = on_bad;
        match load_error(&config) {
            DataError::Shape {
                path,
                key: "size",
                got: [3, 4, 5],
                ..
            } => assert_eq!(path, odd),
            other => panic!("{other}"),
        }
    }
    config.size = Some(Size::square(4));
    assert_eq!(load(&config).unwrap().len(), 3);

    let grey = encode(
        &rgb(4, 4, [5; 3]).to_luma8().into(),
        image::ImageFormat::Png,
    );
    let odd = write(dir.path(), "aa.png", &grey);
    match load_error(&config) {
        DataError::Shape {
            path,
            key: "channels",
            ..
        } => assert_eq!(path, odd),
        other => panic!("{other}"),
    }
    config.channels = Some(3);
    assert_eq!(load(&config).unwrap().len(), 4);
}

#[test]
fn what_is_not_a_folder_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let missing = load_error(&config(DataKind::Folder, &dir.path().join("no")));
    assert!(matches!(missing, DataError::Io { .. }), "{missing}");
    let empty = load_error(&config(DataKind::Folder, dir.path()));
    assert!(matches!(empty, DataError::Unread { .. }), "{empty}");
    write(dir.path(), "b.txt", b"words");
    let words = load_error(&config(DataKind::Folder, dir.path()));
    assert!(matches!(words, DataError::Empty { .. }), "{words}");
    let file = write(dir.path(), "a.txt", b"words");
    let file = load_error(&config(DataKind::Folder, &file));
    assert!(matches!(file, DataError::Format { .. }), "{file}");
}

#[cfg(unix)]
#[test]
fn an_unreadable_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // the superuser reads everything: for it there is nothing to see here but an empty folder
    let root = fs::read_dir(&locked).is_ok();
    let error = load_error(&config(DataKind::Folder, dir.path()));
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    match error {
        DataError::Io { path, .. } if !root => assert_eq!(path, locked),
        DataError::Unread { .. } if root => {}
        other => panic!("{other}"),
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_once() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a/1.png", &red(1));
    std::os::unix::fs::symlink(dir.path(), dir.path().join("a/up")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("a/1.png"), dir.path().join("a/2.png")).unwrap();
    let set = load(&config(DataKind::Folder, dir.path())).unwrap();
    assert_eq!(reds(&set), [1, 1]);
    // a link to nowhere is a bad image
    std::os::unix::fs::symlink("nowhere", dir.path().join("a/3.png")).unwrap();
    let error = load_error(&config(DataKind::Folder, dir.path()));
    assert!(error.to_string().contains("3.png"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_need_not_be_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(OsStr::from_bytes(b"\xff\xfe"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(OsStr::from_bytes(b"\xfd.png")), red(9)).unwrap();
    let set = load(&config(DataKind::Folder, dir.path())).unwrap();
    assert_eq!(reds(&set), [9]);
    // one folder that holds everything is no class
    assert_eq!(set.num_classes(), None);
}

#[test]
fn files_over_the_limit_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.png", &red(1));
    let mut config = config(DataKind::Folder, dir.path());
    let length = fs::metadata(path).unwrap().len();
    config.max_file_bytes = length;
    load(&config).unwrap();
    config.max_file_bytes = length - 1;
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
}

#[cfg(unix)]
#[test]
fn links_beside_each_other_come_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    // Two ways from each folder to the next: 2^30 paths to one image.
    for level in 0..30 {
        let folder = dir.path().join(format!("{level:02}"));
        std::fs::create_dir(&folder).unwrap();
        for link in ["a", "b"] {
            let next = format!("../{:02}", level + 1);
            std::os::unix::fs::symlink(next, folder.join(link)).unwrap();
        }
    }
    write(dir.path(), "30/red.png", &red(1));
    let limited = crate::DataConfig {
        max_files: 10_000,
        ..config(DataKind::Folder, &dir.path().join("00"))
    };
    let error = load_error(&limited);
    let crate::DataError::Limit { key, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(key, "max_files");
}
