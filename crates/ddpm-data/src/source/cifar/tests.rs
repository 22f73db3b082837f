use super::*;
use crate::config::DataKind;
use crate::fixtures::{config, corners, load, load_error, write};
use crate::pixels::pixel_from_u8;

/// A record whose red, green and blue planes are `colour`.
fn record(labels: &[u8], colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = labels.to_vec();
    for channel in colour {
        bytes.extend([channel; SIDE * SIDE]);
    }
    bytes
}

fn colour(parts: [u8; 3]) -> Vec<f32> {
    parts.map(pixel_from_u8).to_vec()
}

#[test]
fn cifar10_by_directory_split_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let inner = "cifar-10-batches-bin";
    for batch in 1..=5u8 {
        let mut bytes = record(&[batch], [batch, 100, 200]);
        bytes.extend(record(&[0], [batch, 1, 2]));
        write(
            dir.path(),
            &format!("{inner}/data_batch_{batch}.bin"),
            &bytes,
        );
    }
    let test = write(
        dir.path(),
        &format!("{inner}/test_batch.bin"),
        &record(&[9], [7, 8, 9]),
    );
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    write(
        dir.path(),
        &format!("{inner}/batches.meta.txt"),
        names.as_bytes(),
    );
    // as it is unpacked, and its inner directory
    for path in [dir.path().to_path_buf(), dir.path().join(inner)] {
        let mut config = config(DataKind::Cifar10, &path);
        let train = load(&config).unwrap();
        assert_eq!((train.len(), train.channels(), train.height()), (10, 3, 32));
        assert_eq!(train.labels().unwrap(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]);
        assert_eq!(corners(&train)[4], colour([3, 100, 200]));
        assert_eq!(train.class_names().unwrap()[9], "truck");
        config.split = Some(Split::All);
        let all = load(&config).unwrap();
        assert_eq!(all.len(), 11);
        config.split = Some(Split::Test);
        config.cache_bytes = 0;
        let on_demand = load(&config).unwrap();
        assert_eq!(
            on_demand.get(0, false).unwrap(),
            all.get(10, false).unwrap()
        );
    }
    let one = load(&config(DataKind::Cifar10, &test)).unwrap();
    assert_eq!((one.len(), one.num_classes()), (1, Some(10)));
}

#[test]
fn cifar100_takes_the_fine_label() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "train.bin", &record(&[3, 77], [1, 2, 3]));
    let set = load(&config(DataKind::Cifar100, &path)).unwrap();
    assert_eq!(set.labels().unwrap(), [77]);
    assert_eq!(set.num_classes(), Some(100));
    assert_eq!(set.class_names(), None);
    assert_eq!(corners(&set)[0], colour([1, 2, 3]));
}

#[test]
fn what_is_wrong_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut partial = record(&[1], [0; 3]);
    partial.extend([0; 100]);
    for (bytes, hint) in [
        (partial, "got 3173 bytes, which are 1 and 100 over"),
        (vec![], "got 0 bytes"),
        (
            record(&[10], [0; 3]),
            "classes below 10 (CIFAR-10), got 10 in record 0",
        ),
    ] {
        let path = write(dir.path(), "data.bin", &bytes);
        let message = load_error(&config(DataKind::Cifar10, &path)).to_string();
        assert!(message.contains(hint), "{hint}: {message}");
    }
    let mut config = config(DataKind::Cifar10, dir.path());
    let message = load_error(&config).to_string();
    assert!(message.contains("data_batch_1.bin"), "{message}");
    config.path = Some(dir.path().join("data.bin"));
    config.split = Some(Split::Test);
    assert!(matches!(
        load_error(&config),
        DataError::Config { key: "split", .. }
    ));
}

#[test]
fn a_file_that_is_cut_off_is_told_of_in_its_folder_too() {
    for (kind, name, names) in [
        (DataKind::Cifar10, "data_batch_1.bin", "batches.meta.txt"),
        (DataKind::Cifar100, "train.bin", "fine_label_names.txt"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), name, &[0; 5000]);
        write(dir.path(), names, b"?");
        for path in [
            dir.path().to_path_buf(),
            crate::detect(dir.path()).unwrap().path.unwrap(),
        ] {
            let message = load_error(&config(kind, &path)).to_string();
            assert!(
                message.contains("5000 bytes, which are 1 and "),
                "{message}"
            );
            assert!(message.contains(name), "{message}");
        }
    }
}
