//! `ddpm train --data` and `ddpm init`: a person's own images in one command.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;
use std::path::PathBuf;

use ddpm_tests::{Sandbox, repository};
use serde_json::Value;

/// A folder of pictures of many sizes and modes.
fn photos(place: &Sandbox) -> PathBuf {
    let folder = place.path("photos");
    fs::create_dir(&folder).unwrap();
    for name in [
        "cmyk.jpg",
        "deep.png",
        "halves.tif",
        "halves.webp",
        "turned-6.jpg",
        "progressive.jpg",
    ] {
        let from = repository().join("tests/fixtures/images").join(name);
        fs::copy(from, folder.join(name)).unwrap();
    }
    place.file("photos/notes.txt", "not an image");
    place.file("photos/@eaDir/thumb.jpg", "no image either");
    folder
}

/// Overrides that make the chosen recipe a run of a second.
const SHORT: [&str; 10] = [
    "--set",
    "model.channels=8",
    "--set",
    "train.steps=3",
    "--set",
    "train.batch=2",
    "--set",
    "sample.steps=2",
    "--set",
    "sample.count=4",
];

fn config_of(place: &Sandbox, args: &[&str]) -> Value {
    let dry = ["--dry-run", "--json", "--device", "cpu"];
    let ended = place.ddpm([&["train"], args, &dry].concat()).done();
    ended.json()["config"].clone()
}

#[test]
fn photos_train_in_one_command_and_again_by_the_runs_own_configuration() {
    let place = Sandbox::new();
    photos(&place);
    let args = ["train", "--data", "photos", "--device", "cpu"];
    let ended = place.ddpm([&args[..], &SHORT].concat()).done();
    for said in [
        "images   6 images",
        "size     8x8",
        "levels   8 and 4",
        "length   ",
    ] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    // The path holds wherever the run is continued.
    let config = fs::read_to_string(place.path("runs/photos-001/config.toml")).unwrap();
    let absolute = fs::canonicalize(place.path("photos")).unwrap();
    let written = config.parse::<toml::Table>().unwrap();
    let path = written["data"]["path"].as_str().unwrap();
    assert_eq!(fs::canonicalize(path).unwrap(), absolute);
    assert!(PathBuf::from(path).is_absolute(), "{path}");

    let more = ["--set", "train.steps=4"];
    let edited = ["train", "runs/photos-001/config.toml", "--device", "cpu"];
    place.ddpm([&edited[..], &more].concat()).done();
    assert!(place.path("runs/photos-002/checkpoints/step-4").is_dir());
    let resumed = [
        "train",
        "--resume",
        "--run",
        "runs/photos-001",
        "--device",
        "cpu",
    ];
    place.ddpm([&resumed[..], &more].concat()).done();
    assert!(place.path("runs/photos-001/checkpoints/step-4").is_dir());
}

#[test]
fn the_recipe_is_what_training_would_take() {
    let place = Sandbox::new();
    photos(&place);
    place.ddpm(["init", "photos", "--device", "cpu"]).done();
    let written = config_of(&place, &["photos.toml"]);
    assert_eq!(written, config_of(&place, &["--data", "photos"]));
    // Nothing is written over.
    let again = place.ddpm(["init", "photos", "--device", "cpu"]);
    again.failed(2, &["photos.toml", "--to"]);
    let larger = [
        "init", "photos", "--size", "24x16", "--to", "my.toml", "--device", "cpu",
    ];
    place.ddpm(larger).done();
    assert_eq!(
        config_of(&place, &["my.toml"])["data"]["size"],
        serde_json::json!([24, 16])
    );
}

#[test]
fn a_recipe_takes_the_images_of_data() {
    let place = Sandbox::new();
    photos(&place);
    let recipe = repository().join("configs/fashion-mnist.toml");
    let recipe = recipe.to_str().unwrap();
    // 28x28 and attention at 7 are for other images; `data.split` is of another kind.
    let config = config_of(
        &place,
        &[
            recipe,
            "--data",
            "photos",
            "--size",
            "32",
            "--set",
            "data.channels=3",
        ],
    );
    assert_eq!(config["data"]["kind"], "folder");
    assert_eq!(config["data"]["split"], Value::Null);
    assert_eq!(config["model"]["attention_at"], Value::Null);
    assert_eq!(config["model"]["channels"], 8);
    // What is set beside the size stays an error.
    let set = ["--set", "model.attention_at=[5]"];
    let args = [
        "train",
        recipe,
        "--data",
        "photos",
        "--size",
        "32",
        "--dry-run",
        "--set",
        "data.channels=3",
    ];
    place
        .ddpm([&args[..], &set].concat())
        .failed(2, &["model.attention_at", "5"]);
}

#[test]
fn minutes_size_the_run() {
    let place = Sandbox::new();
    let run = |minutes: &str| {
        let args = ["train", "--minutes", minutes, "--json", "--device", "cpu"];
        let ended = place
            .ddpm([&args[..], &["--set", "sample.steps=2"]].concat())
            .done();
        ended.json()["step"].as_u64().unwrap()
    };
    let (short, longer) = (run("0.02"), run("0.1"));
    // Checkpoints and the program's start take their share, but five times the time is more steps.
    assert!(short >= 1 && longer > short, "{short} {longer}");
    place
        .ddpm(["train", "--minutes", "0"])
        .failed(2, &["--minutes 0"]);
    let both = ["train", "--minutes", "1", "--resume"];
    place.ddpm(both).failed_usage(&["--minutes", "--resume"]);
}

#[test]
fn what_is_no_set_of_images_is_said() {
    let place = Sandbox::new();
    place.file("batches/data_batch_1", "pickle");
    fs::create_dir(place.path("empty")).unwrap();
    let image = repository().join("tests/fixtures/images/deep.png");
    fs::copy(image, place.path("one.png")).unwrap();
    for (path, words) in [
        ("nowhere", &["nowhere"][..]),
        ("empty", &["empty"]),
        ("one.png", &["one.png", "folder"]),
    ] {
        let ended = place.ddpm(["train", "--data", path, "--device", "cpu"]);
        ended.failed(3, words);
    }
    let resumed = ["train", "--resume", "--data", "empty"];
    place.ddpm(resumed).failed(2, &["--data", "data.path"]);
}

/// The digits 0 and 1 of a mask, and 12 bits in a file of 16, are almost black as they are.
#[test]
fn pixels_that_are_scaled_wrongly_are_warned_of_before_training() {
    let place = Sandbox::new();
    for (name, most, warned) in [
        ("mask", 1, true),
        ("twelve-bits", 16, true),
        ("whole", 255, false),
    ] {
        let pixels = (0..4 * 9 * 9).map(|i| if i % 7 < 3 { most } else { 0 });
        let mut file = vec![0, 0, 8, 3];
        for extent in [4u32, 9, 9] {
            file.extend(extent.to_be_bytes());
        }
        file.extend(pixels);
        let path = place.file(&format!("{name}-idx3-ubyte"), file);
        let args = ["train", "--dry-run", "--device", "cpu", "--data"];
        let ended = place.ddpm(
            args.iter()
                .map(|arg| arg.as_ref())
                .chain([path.as_os_str()]),
        );
        let said = ended.done().stderr;
        assert_eq!(said.contains("almost one colour"), warned, "{name}: {said}");
    }
}
