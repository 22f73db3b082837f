use super::*;
use crate::config::{DataConfig, DataKind};
use crate::dataset::Dataset;
use crate::fixtures::{config, corners, load, load_error, png, write, zip_of};

/// Sets of images of one red each, 0, 1, … in the order given, once as a folder and once as an archive, with other
/// files beside them.
fn both(images: &[&str], others: &[(&str, &str)]) -> (tempfile::TempDir, [DataConfig; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let pixels: Vec<Vec<u8>> = (0..images.len() as u8)
        .map(|red| png(2, 2, [red, 0, 0]))
        .collect();
    let mut files: Vec<(&str, &[u8])> = images
        .iter()
        .zip(&pixels)
        .map(|(&name, bytes)| (name, bytes.as_slice()))
        .collect();
    files.extend(others.iter().map(|&(name, text)| (name, text.as_bytes())));
    let folder = dir.path().join("folder");
    for (name, bytes) in &files {
        write(&folder, name, bytes);
    }
    let zip = write(dir.path(), "a.zip", &zip_of(&files));
    let configs = [
        config(DataKind::Folder, &folder),
        config(DataKind::Zip, &zip),
    ];
    (dir, configs)
}

fn reds(set: &Dataset) -> Vec<u8> {
    let corners = corners(set);
    let red = |corner: &Vec<f32>| ((corner[0] + 1.0) * 127.5).round() as u8;
    corners.iter().map(red).collect()
}

type Read = (Vec<u8>, Option<Vec<usize>>, Option<Vec<String>>);

/// The images, labels and names of the classes, which are the same of the folder and the archive.
fn read(images: &[&str], others: &[(&str, &str)], split: Option<Split>) -> Read {
    let (_dir, configs) = both(images, others);
    let [folder, zip] = configs.map(|config| {
        let set = load(&DataConfig { split, ..config }).unwrap();
        let labels = set.labels().map(<[usize]>::to_vec);
        (
            reds(&set),
            labels,
            set.class_names().map(<[String]>::to_vec),
        )
    });
    assert_eq!(folder, zip);
    folder
}

fn refusals(images: &[&str], others: &[(&str, &str)], split: Option<Split>) -> [String; 2] {
    let (_dir, configs) = both(images, others);
    configs.map(|config| load_error(&DataConfig { split, ..config }).to_string())
}

fn named(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn splits_at_the_top_are_no_classes() {
    let images = [
        "train/cat/1.png",
        "train/ant/2.png",
        "val/cat/3.png",
        "val/bee/4.png",
        "val/ant/5.png",
    ];
    let train = (vec![1, 0], Some(vec![0, 1]), named(&["ant", "cat"]));
    assert_eq!(read(&images, &[], None), train);
    assert_eq!(read(&images, &[], Some(Split::Train)), train);
    // classes of the training part keep their numbers
    let names = named(&["ant", "cat", "bee"]);
    assert_eq!(
        read(&images, &[], Some(Split::Test)),
        (vec![4, 3, 2], Some(vec![0, 2, 1]), names.clone())
    );
    assert_eq!(
        read(&images, &[], Some(Split::All)),
        (vec![1, 0, 4, 3, 2], Some(vec![0, 1, 0, 2, 1]), names)
    );
}

#[test]
fn splits_go_by_their_usual_names_below_a_folder_that_holds_all() {
    for (train, test) in [
        ("train", "test"),
        ("Train", "Validation"),
        ("TRAINING", "valid"),
        ("top/train", "top/val"),
        ("top/deep/train", "top/deep/testing"),
    ] {
        let images = [format!("{train}/1.png"), format!("{test}/2.png")];
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        assert_eq!(read(&images, &[], None), (vec![0], None, None), "{train}");
        let test = read(&images, &[], Some(Split::Test));
        assert_eq!(test, (vec![1], None, None), "{train}");
    }
    // test before val where both are there, and all of them in all
    let three = ["test/1.png", "train/2.png", "val/3.png"];
    assert_eq!(read(&three, &[], Some(Split::Test)).0, [0]);
    assert_eq!(read(&three, &[], Some(Split::All)).0, [1, 2, 0]);
    // one folder below them that holds all is no class
    let below = ["train/images/1.png", "test/images/2.png"];
    assert_eq!(read(&below, &[], None), (vec![0], None, None));
}

#[test]
fn folders_named_like_splits_may_be_classes() {
    // vehicles
    let classes = read(&["bus/1.png", "train/2.png"], &[], None);
    assert_eq!(
        classes,
        (vec![0, 1], Some(vec![0, 1]), named(&["bus", "train"]))
    );
    // beside others only where they are asked for
    let images = ["extra/1.png", "test/2.png", "train/3.png"];
    assert_eq!(read(&images, &[], None).1, Some(vec![0, 1, 2]));
    assert_eq!(
        read(&images, &[], Some(Split::Train)),
        (vec![2], None, None)
    );
    // one split alone is a folder that holds everything
    let one = ["train/a/1.png", "train/b/2.png"];
    let read_as = (vec![0, 1], Some(vec![0, 1]), named(&["a", "b"]));
    assert_eq!(read(&one, &[], None), read_as);
    assert_eq!(read(&one, &[], Some(Split::Train)), read_as);
}

#[test]
fn a_split_that_is_not_there_is_refused() {
    for (images, split, said) in [
        (
            &["a/1.png", "b/2.png"][..],
            Some(Split::Test),
            "data.split: needs folders train and test (or val) at the top of ",
        ),
        (&["1.png"], Some(Split::All), "which has none; remove it"),
        (
            &["train/1.png"],
            Some(Split::Test),
            "needs a folder test or val at the top of ",
        ),
        (
            &["test/1.png", "val/2.png"],
            None,
            "which has none; set data.split = \"test\" or \"all\"",
        ),
    ] {
        for message in refusals(images, &[], split) {
            assert!(message.contains(said), "{message}");
        }
    }
}

#[test]
fn one_folder_that_holds_everything_is_no_class() {
    assert_eq!(read(&["top/1.png", "top/2.png"], &[], None).1, None);
    let classes = read(
        &["top/b/1.png", "top/a/x/2.png"],
        &[("top/notes.txt", "?")],
        None,
    );
    assert_eq!(classes.2, named(&["a", "b"]));
}

#[test]
fn metadata_say_the_classes_and_folders_do_not() {
    let images = ["00000/img0.png", "00000/img1.png", "00001/img2.png"];
    let stylegan =
        r#"{"labels": [["00000/img0.png", 6], ["00000/img1.png", 0], ["00001/img2.png", 2]]}"#;
    let numbers = Some(vec![6, 0, 2]);
    let read_as = read(&images, &[("dataset.json", stylegan)], None);
    assert_eq!(read_as, (vec![0, 1, 2], numbers.clone(), None));
    // imagefolder, with quotes, other columns and in another order
    let csv =
        "text,file_name,label\n\"a, b\",00001/img2.png,2\n,00000/img0.png,6\nc,00000/img1.png,0\n";
    assert_eq!(read(&images, &[("metadata.csv", csv)], None).1, numbers);
    let jsonl = "{\"file_name\": \"00000/img0.png\", \"class\": \"dog\"}\n\
                 {\"file_name\": \"00000/img1.png\", \"class\": \"ant\"}\n\n\
                 {\"file_name\": \"00001/img2.png\", \"class\": \"dog\"}\n";
    let read_as = read(&images, &[("metadata.jsonl", jsonl)], None);
    assert_eq!(read_as.1, Some(vec![1, 0, 1]));
    assert_eq!(read_as.2, named(&["ant", "dog"]));
    // none is none, whatever the folders
    for (name, text) in [
        ("dataset.json", r#"{"labels": null}"#),
        ("metadata.csv", "file_name,text\n00000/img0.png,a cat\n"),
        ("metadata.jsonl", "{\"file_name\": \"00000/img0.png\"}\n"),
    ] {
        assert_eq!(read(&images, &[(name, text)], None).1, None, "{name}");
    }
    // and what is not of these forms changes nothing
    for (name, text) in [
        ("dataset.json", r#"{"title": "mine"}"#),
        ("dataset.json", "[1, 2]"),
        ("metadata.csv", "id,label\n1,2\n"),
        ("metadata.jsonl", "{\"id\": 1}\n"),
    ] {
        let read_as = read(&images, &[(name, text)], None);
        assert_eq!(read_as.2, named(&["00000", "00001"]), "{name}");
    }
}

#[test]
fn the_number_of_classes_is_that_of_the_file() {
    let json = r#"{"labels": [["a.png", 1], ["gone.png", 9]]}"#;
    let (_dir, configs) = both(&["a.png"], &[("dataset.json", json)]);
    for config in configs {
        assert_eq!(load(&config).unwrap().num_classes(), Some(10));
    }
}

#[test]
fn metadata_of_a_split_name_its_images() {
    let images = ["train/x/1.png", "train/y/2.png", "test/z/3.png"];
    let train = "file_name,label\nx/1.png,b\ny/2.png,a\n";
    let test = "file_name,label\nz/3.png,b\n";
    let others = [("train/metadata.csv", train), ("test/metadata.csv", test)];
    let read_as = read(&images, &others, None);
    assert_eq!(read_as, (vec![0, 1], Some(vec![1, 0]), named(&["a", "b"])));
    let read_as = read(&images, &others, Some(Split::Test));
    assert_eq!(read_as, (vec![2], Some(vec![1]), named(&["a", "b"])));
}

#[test]
fn broken_metadata_are_an_error() {
    for (name, text, said) in [
        (
            "dataset.json",
            "{\"labels\": [[",
            "dataset.json: is not JSON",
        ),
        (
            "dataset.json",
            r#"{"labels": {"a.png": 1}}"#,
            "does not list labels as",
        ),
        ("dataset.json", r#"{"labels": []}"#, ""),
        (
            "dataset.json",
            r#"{"labels": [["b.png", 1]]}"#,
            "gives no class to the image a.png",
        ),
        (
            "dataset.json",
            r#"{"labels": [["a.png", -3]]}"#,
            "the label -3, which is no class",
        ),
        (
            "dataset.json",
            r#"{"labels": [["a.png", 2.5]]}"#,
            "the label 2.5, which is no class",
        ),
        (
            "dataset.json",
            r#"{"labels": [["a.png", 99999999]]}"#,
            "classes go up to 1048576",
        ),
        (
            "dataset.json",
            r#"{"labels": [["a.png", 1], ["a.png", 2]]}"#,
            "a.png two different classes",
        ),
        (
            "metadata.csv",
            "file_name,label\na.png\n",
            "is not a table of comma-separated values",
        ),
        (
            "metadata.csv",
            "file_name,label\nb.png,1\n",
            "gives no class to the image a.png",
        ),
        (
            "metadata.jsonl",
            "{\"file_name\": \"a.png\", \"label\": 1}\nwords\n",
            "no JSON object in line 2",
        ),
        (
            "metadata.jsonl",
            "{\"file_name\": \"a.png\", \"label\": 1}\n{}\n",
            "has no file_name in line 2",
        ),
        (
            "metadata.parquet",
            "PAR1",
            "(Parquet); export it to metadata.csv, or remove it",
        ),
    ] {
        if said.is_empty() {
            assert_eq!(read(&["a.png"], &[(name, text)], None).1, None);
            continue;
        }
        for message in refusals(&["a.png"], &[(name, text)], None) {
            assert!(message.contains(said), "{text}: {message}");
            assert!(message.contains(name), "{message}");
        }
    }
}
