//! `ddpm sample`: what it writes, what it refuses, and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ddpm_tests::Sandbox;

fn trained() -> Sandbox {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    place
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

const QUICK: [&str; 7] = [
    "sample",
    "--model",
    "run",
    "--sampler",
    "ddim",
    "--steps",
    "2",
];

#[test]
fn a_folder_holds_the_images_of_one_call_and_what_others_put_there() {
    let place = trained();
    let sample = |more: &[&str]| place.ddpm(QUICK.iter().chain(more));
    sample(&["-n", "5", "--out", "set"]).done();
    assert!(place.path("set.png").is_file());
    fs::write(place.path("set/notes.txt"), "mine").unwrap();
    fs::write(place.path("set/7.png"), "mine").unwrap();
    let ended = sample(&["-n", "3", "--out", "set", "--seed", "18446744073709551615"]).done();
    assert!(ended.stdout.contains("drew 3 images"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("5 images of an earlier call"),
        "{}",
        ended.stdout
    );
    let expected = ["00000.png", "00001.png", "00002.png", "7.png", "notes.txt"];
    assert_eq!(names(&place.path("set")), expected.map(String::from).into());
    // What lies there under such a name and is not ours stays, and so does all else.
    fs::write(place.path("set/00009.png"), "mine").unwrap();
    sample(&["-n", "1", "--out", "set"]).failed(2, &["--out set", "00009.png", "another folder"]);
    assert_eq!(names(&place.path("set")).len(), 6);
}

#[test]
fn a_set_can_be_drawn_in_parts() {
    let place = trained();
    let sample = |more: &[&str]| place.ddpm(QUICK.iter().chain(more)).done();
    sample(&["-n", "4", "--out", "whole"]);
    sample(&["-n", "1", "--out", "parts"]);
    let ended = sample(&[
        "-n", "3", "--first", "1", "--out", "parts", "--json", "--seed", "0",
    ]);
    assert_eq!(
        (&ended.json()["first"], &ended.json()["removed"]),
        (&1.into(), &0.into())
    );
    for name in names(&place.path("whole")) {
        let bytes = |folder: &str| fs::read(place.path(folder).join(&name)).unwrap();
        assert_eq!(bytes("whole"), bytes("parts"), "{name}");
    }
    let json = sample(&[
        "-n",
        "1",
        "--grid",
        "g.webp",
        "--json",
        "--seed",
        "18446744073709551615",
    ])
    .json();
    assert_eq!(json["seed"], u64::MAX);
}

#[test]
fn pictures_are_of_the_format_that_their_names_say() {
    let place = trained();
    for (option, name, starts) in [
        ("--grid", "g.jpg", &b"\xff\xd8\xff"[..]),
        ("--grid", "g.webp", b"RIFF"),
        ("--grid", "g.PNG", b"\x89PNG"),
        ("--animate", "a.gif", b"GIF89a"),
        ("--animate", "a.webp", b"RIFF"),
        ("--animate", "a.png", b"\x89PNG"),
    ] {
        place
            .ddpm(QUICK.iter().chain(&["-n", "1", option, name]))
            .done();
        assert!(
            fs::read(place.path(name)).unwrap().starts_with(starts),
            "{name}"
        );
    }
    assert!(!place.path("samples").exists());
}

#[test]
fn an_archive_holds_the_images_of_the_folder_and_their_classes() {
    let place = Sandbox::new();
    place
        .train_tiny("run", &["--set", "model.classes=auto"])
        .done();
    let drawn = [
        "--class",
        "3:2,1:3",
        "--batch",
        "2",
        "--out",
        "set",
        "--npz",
        "new/a.npz",
        "--json",
    ];
    let json = place.ddpm(QUICK.iter().chain(&drawn)).done().json();
    assert_eq!(json["npz"], "new/a.npz");
    let npz = place.path("new/a.npz");
    assert!(fs::read(&npz).unwrap().starts_with(b"PK"));
    let images = ddpm_data::read_npz_array(&npz, "arr_0").unwrap();
    assert_eq!(images.shape, [5, 8, 8, 1]);
    for (i, values) in images.values.chunks(64).enumerate() {
        let picture = image::open(place.path(format!("set/{i:05}.png"))).unwrap();
        let bytes = picture.into_luma8().into_raw();
        let bytes: Vec<f64> = bytes.into_iter().map(f64::from).collect();
        assert_eq!(values, bytes, "{i}");
    }
    let classes = ddpm_data::read_npz_array(&npz, "arr_1").unwrap();
    assert_eq!(classes.shape, [5]);
    assert_eq!(classes.values, [3.0, 3.0, 1.0, 1.0, 1.0]);
    // What is drawn can be trained on.
    let train = [
        "train",
        "--data",
        "new/a.npz",
        "--dry-run",
        "--json",
        "--device",
        "cpu",
    ];
    let json = place.ddpm(train).done().json();
    assert_eq!(json["config"]["data"]["kind"], "npy");

    // By itself it needs no folder; a network without classes has none to write.
    let place = trained();
    let alone = ["-n", "2", "--npz", "only.npz"];
    let ended = place.ddpm(QUICK.iter().chain(&alone)).done();
    assert!(
        ended.stdout.contains("  npz       only.npz\n"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stderr.contains("reads images of 3 channels"),
        "{}",
        ended.stderr
    );
    let npz = place.path("only.npz");
    assert_eq!(ddpm_data::npz_names(&npz).unwrap(), ["arr_0"]);
    assert!(!place.path("samples").exists());
}

#[test]
fn refusals_come_before_the_first_step_and_name_the_option() {
    let place = trained();
    fs::write(place.path("file"), "x").unwrap();
    for (options, code, words) in [
        (&["-n", "0"][..], 2, &["--n 0: must be between 1 and"][..]),
        (&["--batch", "0"], 2, &["--batch 0: must be at least 1"]),
        (
            &["--size", "24y32"],
            2,
            &["--size 24y32: write 32, or 24x32"],
        ),
        (&["--size", "9"], 2, &["--size 9x9", "8x8 or 10x10"]),
        (
            &["--out", "file"],
            2,
            &["--out file", "cannot be used as a folder"],
        ),
        (
            &["--grid", "g.tiff"],
            2,
            &["--grid g.tiff", ".png, .jpg or .webp"],
        ),
        (
            &["--animate", "a.mp4"],
            2,
            &["--animate a.mp4", "videos", "ffmpeg"],
        ),
        (&["--npz", "a.npy"], 2, &["--npz a.npy", "write .npz"]),
        (
            &["--sampler", "ddpm", "--eta", "0.5"],
            2,
            &["--eta 0.5", "--sampler ddim"],
        ),
        (
            &["-n", "2000", "--grid", "g.png"],
            2,
            &["--n 2000", "1,024 images", "--out"],
        ),
        (
            &["--size", "16384", "--batch", "64"],
            6,
            &["64 images of 16384x16384", "GiB", "--size or --batch"],
        ),
    ] {
        let model = ["sample", "--model", "run", "--device", "cpu"];
        place.ddpm(model.iter().chain(options)).failed(code, words);
    }
    assert!(!place.path("samples").exists() && !place.path("file.png").exists());
    // One step of leading spacing begins where nothing is noise any more.
    let ended = place.ddpm([
        "sample", "--model", "run", "-n", "1", "--steps", "1", "--grid", "g.png",
    ]);
    let said = ended.done().stderr;
    assert!(
        said.contains("begins at time step 0") && said.contains("--spacing trailing"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn a_stopped_call_keeps_what_is_finished_and_says_how_to_go_on() {
    let place = trained();
    let args = QUICK
        .iter()
        .chain(&["-n", "100000", "--batch", "1", "--out", "many"])
        .chain(&["--npz", "many.npz"]);
    let child = place
        .command(args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let third = place.path("many/00003.png");
    for _ in 0..600 {
        if third.is_file() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(75));
    let count = names(&place.path("many")).len();
    let said = String::from_utf8(ended.stdout).unwrap();
    let expected = format!("stopped after {count} of 100,000 images, which stay; draw the rest");
    assert!(
        count > 3 && count < 1000 && said.starts_with(&expected),
        "{count}: {said}"
    );
    assert!(
        said.contains(&format!("--first {count} --n {}", 100_000 - count)),
        "{said}"
    );
    assert!(!place.path("many.png").exists());
    // An archive is whole or not there.
    assert!(said.contains("many.npz is not written"), "{said}");
    let left = names(&place.path("."));
    let temporary = |name: &&String| name.starts_with(".tmp-") || name.as_str() == "many.npz";
    assert_eq!(left.iter().find(temporary), None);
}
