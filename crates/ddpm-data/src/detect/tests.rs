use std::path::PathBuf;

use super::*;
use crate::config::Split;
use crate::fixtures::{config, gzip, idx, load, load_error, npy, png, write, zip_of};

/// A folder of files, by their names.
fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        write(dir.path(), name, bytes);
    }
    dir
}

fn image() -> Vec<u8> {
    png(4, 4, [1, 2, 3])
}

fn images() -> Vec<u8> {
    idx(&[2, 2, 3], &[7; 12])
}

fn cifar(label_bytes: usize) -> Vec<u8> {
    vec![1; 2 * (label_bytes + 3072)]
}

/// The kind found at `name` below the folder, and the path that is to be read, relative to it.
fn found(dir: &tempfile::TempDir, name: &str) -> (DataKind, PathBuf, DataConfig) {
    let config = detect(&dir.path().join(name)).unwrap();
    let path = config.path.clone().unwrap();
    let path = path.strip_prefix(dir.path()).unwrap().to_path_buf();
    load(&config).unwrap();
    (config.kind, path, config)
}

fn refusal(path: &Path) -> String {
    let message = detect(path).unwrap_err().to_string();
    assert!(
        !message.contains('\n') && !message.ends_with('.'),
        "{message}"
    );
    message
}

#[test]
fn contents_decide_what_a_file_is() {
    let dir = folder(&[
        ("a", zip_of(&[("x/1.png", &image())])),
        (
            "b.zip",
            zip_of(&[("images.npy", &npy("|u1", "(1, 1, 5)", &[0; 5]))]),
        ),
        ("c.png", npy("|u1", "(1, 1, 5)", &[0; 5])),
        ("d", images()),
        ("e.gz", gzip(&images())),
        ("f.bin", cifar(1)),
        ("g.bin", cifar(2)),
        ("h.zip", zip_of(&[("1", &image())])),
        ("emnist-letters-train-images-idx3-ubyte.gz", gzip(&images())),
    ]);
    for (name, kind) in [
        ("a", DataKind::Zip),
        ("b.zip", DataKind::Npy),
        ("c.png", DataKind::Npy),
        ("d", DataKind::Idx),
        ("e.gz", DataKind::Idx),
        ("f.bin", DataKind::Cifar10),
        ("g.bin", DataKind::Cifar100),
        ("h.zip", DataKind::Zip),
        ("emnist-letters-train-images-idx3-ubyte.gz", DataKind::Idx),
    ] {
        let (got, path, config) = found(&dir, name);
        assert_eq!((got, path), (kind, PathBuf::from(name)));
        assert_eq!(config.transpose, name.starts_with("emnist"));
    }
}

#[test]
fn a_folder_of_images_may_be_nested() {
    let dir = folder(&[
        ("top/deep/1.png", image()),
        ("notes.txt", b"words".to_vec()),
    ]);
    assert_eq!(found(&dir, "").0, DataKind::Folder);
}

#[test]
fn mnist_is_found_where_torchvision_puts_it() {
    let train = "train-images-idx3-ubyte";
    for below in ["", "raw/", "MNIST/raw/", "FashionMNIST/"] {
        // both forms are there after torchvision has unpacked
        let dir = folder(&[
            (&format!("{below}{train}"), images()),
            (&format!("{below}{train}.gz"), gzip(&images())),
            (
                &format!("{below}train-labels-idx1-ubyte"),
                idx(&[2], &[1, 0]),
            ),
            (&format!("{below}t10k-images-idx3-ubyte"), images()),
        ]);
        let (kind, path, config) = found(&dir, "");
        assert_eq!(
            (kind, path),
            (DataKind::Idx, below.trim_end_matches('/').into())
        );
        assert_eq!((config.split, config.transpose), (None, false));
        // and the same folder set by hand
        let by_hand = load(&crate::fixtures::config(DataKind::Idx, dir.path())).unwrap();
        assert_eq!(by_hand.labels().unwrap(), [1, 0]);
    }
}

#[test]
fn mnists_relatives_have_names_of_their_own() {
    let test = folder(&[("t10k-images.idx3-ubyte", images())]);
    assert_eq!(found(&test, "").2.split, Some(Split::Test));

    let emnist = folder(&[
        ("emnist-digits-train-images-idx3-ubyte.gz", gzip(&images())),
        (
            "emnist-digits-train-labels-idx1-ubyte.gz",
            gzip(&idx(&[2], &[3, 4])),
        ),
        ("emnist-digits-test-images-idx3-ubyte.gz", gzip(&images())),
    ]);
    let (_, _, config) = found(&emnist, "");
    assert!(config.transpose);
    let set = load(&config).unwrap();
    assert_eq!((set.height(), set.width()), (3, 2));
    assert_eq!(set.labels().unwrap(), [3, 4]);

    let mut rows = Vec::new();
    for class in [5i32, 8] {
        for column in [class, 1, 2] {
            rows.extend(column.to_be_bytes());
        }
    }
    let mut labels = vec![0, 0, 12, 2, 0, 0, 0, 2, 0, 0, 0, 3];
    labels.extend(rows);
    for packed in [false, true] {
        let name = format!(
            "qmnist-train-labels-idx2-int{}",
            if packed { ".gz" } else { "" }
        );
        let bytes = if packed {
            gzip(&labels)
        } else {
            labels.clone()
        };
        let qmnist = folder(&[
            ("QMNIST/raw/qmnist-train-images-idx3-ubyte", images()),
            ("QMNIST/raw/qmnist-test-images-idx3-ubyte", images()),
            (&format!("QMNIST/raw/{name}"), bytes),
        ]);
        let (_, path, config) = found(&qmnist, "");
        assert_eq!(path, PathBuf::from("QMNIST/raw"));
        assert_eq!(load(&config).unwrap().labels().unwrap(), [5, 8]);
    }
}

#[test]
fn several_sets_are_not_chosen_from() {
    let two = folder(&[
        ("MNIST/raw/train-images-idx3-ubyte", images()),
        ("KMNIST/raw/train-images-idx3-ubyte", images()),
    ]);
    let message = refusal(two.path());
    assert!(
        message.ends_with(
            "holds 2 sets of MNIST's form (KMNIST/raw, MNIST/raw); give one of these folders"
        ),
        "{message}"
    );
    let six = folder(&[
        ("emnist-letters-train-images-idx3-ubyte", images()),
        ("emnist-digits-train-images-idx3-ubyte", images()),
    ]);
    let message = refusal(six.path());
    assert!(
        message.contains("2 files of images of one split"),
        "{message}"
    );
    assert!(
        message.contains("emnist-digits-train-images-idx3-ubyte"),
        "{message}"
    );
}

#[test]
fn cifar_is_found_here_or_one_level_below() {
    for (below, name, label_bytes, kind) in [
        ("", "data_batch_1.bin", 1, DataKind::Cifar10),
        (
            "cifar-10-batches-bin/",
            "data_batch_1.bin",
            1,
            DataKind::Cifar10,
        ),
        ("other/", "train.bin", 2, DataKind::Cifar100),
    ] {
        let dir = folder(&[(&format!("{below}{name}"), cifar(label_bytes))]);
        let config = detect(dir.path()).unwrap();
        assert_eq!(config.kind, kind);
        assert_eq!(
            config.path.unwrap(),
            dir.path().join(below.trim_end_matches('/'))
        );
    }
}

#[test]
fn what_is_known_and_not_read_says_what_to_do() {
    let pickle = || b"\x80\x02}q\x01".to_vec();
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let torch = zip_of(&[("archive/data.pkl", &pickle()), ("archive/data/0", b"?")]);
    let dir = folder(&[
        ("cifar-10-batches-py/data_batch_1", pickle()),
        ("cifar-100-python/train", pickle()),
        ("cifar-100-python/meta", pickle()),
        ("a.tar", tar.clone()),
        ("a.tgz", gzip(&tar)),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\x04".to_vec()),
        ("b", b"Rar!\x1a\x07\x01\0".to_vec()),
        ("a.parquet", b"PAR1....".to_vec()),
        ("a.arrow", b"ARROW1\0\0".to_vec()),
        ("a.tfrecord", b"........".to_vec()),
        ("a.h5", b"\x89HDF\r\n\x1a\n".to_vec()),
        ("a.mat", b"MATLAB 5.0 MAT-file, Platform".to_vec()),
        ("a.pt", torch),
        ("a.pkl", pickle()),
        ("a.heic", b"\0\0\0\x18ftypheic".to_vec()),
        ("a.mp4", b"\0\0\0\x18ftypisom".to_vec()),
        ("one.png", image()),
        ("labels", idx(&[2], &[1, 0])),
        ("empty.npy", Vec::new()),
        ("a.csv", b"1,2,3".to_vec()),
        ("lmdb/data.mdb", b"?".to_vec()),
        ("shards/deep/1.parquet", b"PAR1".to_vec()),
        ("shards/deep/2.parquet", b"PAR1".to_vec()),
        (
            "array/a.npz",
            zip_of(&[("a.npy", &npy("|u1", "(1, 1, 5)", &[0; 5]))]),
        ),
        ("packed/photos.tar.gz", gzip(&tar)),
        ("phone/1.HEIC", b"?".to_vec()),
        ("phone/2.heic", b"?".to_vec()),
        ("hidden/.cache/1.png", image()),
        ("words/a.txt", b"words".to_vec()),
    ]);
    std::fs::create_dir(dir.path().join("nothing")).unwrap();
    for (name, said) in [
        (
            "cifar-10-batches-py",
            "download the binary version (cifar-10-binary.tar.gz) and unpack it",
        ),
        (
            "cifar-100-python",
            "download the binary version (cifar-100-binary.tar.gz) and unpack it",
        ),
        (
            "a.tar",
            "is of a kind that is not read (tar); unpack it and give the folder",
        ),
        ("a.tgz", "unpack it"),
        ("a.7z", "(7z); unpack it"),
        ("b", "(RAR); unpack it"),
        (
            "a.parquet",
            "(Parquet); export its images to a folder of PNG files",
        ),
        ("a.arrow", "(Arrow); export its images to a folder of PNG"),
        (
            "a.tfrecord",
            "(TFRecord); export its images to a folder of PNG",
        ),
        ("a.h5", "(HDF5); export its images to a folder of PNG"),
        ("a.mat", "(MATLAB); export its images to a folder of PNG"),
        ("a.pt", "(PyTorch); export its images to a folder of PNG"),
        ("a.pkl", "(pickle); export its images to a folder of PNG"),
        ("a.heic", "(HEIC); convert it to PNG"),
        ("a.mp4", "(MP4/MOV); export its frames"),
        (
            "one.png",
            "is one image and no set of images; give the folder it lies in (",
        ),
        ("labels", "such as MNIST's labels; give the file of images"),
        ("empty.npy", "is empty (0 bytes); copy or download it again"),
        (
            "a.csv",
            "is no set of images that is known; give a folder or zip archive",
        ),
        ("lmdb", "1 file of a kind that is not read (1 LMDB)"),
        ("shards", "2 files of kinds that are not read (2 Parquet)"),
        ("array", "give that file itself ("),
        ("packed", "unpack it"),
        (
            "phone",
            "no images found, but 2 files of kinds that are not read (2 HEIC): convert them to PNG; PNG, JPEG",
        ),
        (
            "hidden",
            "no images found, but 1 hidden or system file or folder (.cache) skipped",
        ),
        ("words", "no images found; PNG, JPEG, WebP"),
        ("nothing", "is an empty folder; put images into it"),
    ] {
        let path = dir.path().join(name);
        let message = refusal(&path);
        assert!(message.contains(said), "{name}: {message}");
        // and the same when the kind is set by hand
        let by_hand = load_error(&config(DataKind::Folder, &path)).to_string();
        if name != "a.csv" {
            assert_eq!(by_hand, message, "{name}");
        }
    }
}

#[test]
fn cifar_for_python_says_the_same_whatever_kind_is_set() {
    let dir = folder(&[
        (
            "cifar-10-batches-py/data_batch_1",
            b"\x80\x02}q\x01".to_vec(),
        ),
        ("other/train.bin", cifar(2)),
    ]);
    let python = dir.path().join("cifar-10-batches-py");
    let message = refusal(&python);
    for kind in [
        DataKind::Cifar10,
        DataKind::Cifar100,
        DataKind::Folder,
        DataKind::Npy,
    ] {
        assert_eq!(load_error(&config(kind, &python)).to_string(), message);
    }
    let message = load_error(&config(DataKind::Cifar10, &dir.path().join("other"))).to_string();
    assert!(
        message.contains("expected data_batch_1.bin and so on in it (CIFAR-10, binary version), got what data.kind = \"cifar100\" reads"),
        "{message}"
    );
}

#[test]
fn a_heic_by_the_name_of_a_jpeg_says_what_it_is() {
    let dir = folder(&[("IMG_1.jpg", b"\0\0\0\x18ftypheic\0\0\0\0".to_vec())]);
    let message = load_error(&config(DataKind::Folder, dir.path())).to_string();
    assert!(
        message.contains("IMG_1.jpg: holds HEIC, which is not read; convert it to"),
        "{message}"
    );
}

#[test]
fn another_kind_than_the_one_set_is_named() {
    let dir = folder(&[
        ("a.zip", zip_of(&[("x/1.png", &image())])),
        ("images/1.png", image()),
        ("mnist/train-images-idx3-ubyte", images()),
    ]);
    for (name, kind, said) in [
        (
            "a.zip",
            DataKind::Folder,
            "expected a folder of images, got what data.kind = \"zip\" reads",
        ),
        (
            "images",
            DataKind::Zip,
            "expected a zip archive, got what data.kind = \"folder\" reads",
        ),
        (
            "images",
            DataKind::Idx,
            "got what data.kind = \"folder\" reads",
        ),
        (
            "mnist",
            DataKind::Folder,
            "expected images, got what data.kind = \"idx\" reads",
        ),
    ] {
        let message = load_error(&config(kind, &dir.path().join(name))).to_string();
        assert!(message.contains(said), "{name}: {message}");
    }
}

#[test]
fn what_is_not_there_names_what_is_like_it() {
    let dir = folder(&[("celeba/images/1.png", image()), ("mnist.npz", image())]);
    for (name, said) in [
        ("celebs/images", "there is no "),
        ("celebs/images", "did you mean "),
        ("celebs/images", "celeba/images"),
        ("mnist", "there is nothing at this path, did you mean "),
        ("mnist", "mnist.npz"),
        (
            "quite-different",
            "there is nothing at this path; check data.path",
        ),
    ] {
        let path = dir.path().join(name);
        let message = refusal(&path);
        assert!(
            message.starts_with(&format!("cannot read {}: ", path.display())),
            "{message}"
        );
        assert!(message.contains(said), "{name}: {message}");
        let by_hand = load_error(&config(DataKind::Zip, &path)).to_string();
        assert_eq!(by_hand, message);
    }
}
