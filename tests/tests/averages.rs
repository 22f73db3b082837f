//! Averages that are tracked during training, and those that are made of their snapshots afterwards.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::{Path, PathBuf};

use ddpm_store::TensorFile;
use ddpm_tests::Sandbox;

const TRACKED: [&str; 6] = [
    "--set",
    "ema.power_function=[0.05,0.1]",
    "--set",
    "ema.snapshot_every=1",
    "--set",
    "optim.decay=constant",
];

fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

/// All files below a directory, by their paths in it.
fn below(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(directory)
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(directory).unwrap().to_owned(), bytes))
        .collect()
}

fn optimiser(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoints/step-6/optimiser.safetensors")).unwrap()
}

#[test]
fn tracked_averages_are_resumed_bit_for_bit_and_make_others() {
    let place = Sandbox::new();
    place.train_tiny("whole", &TRACKED).done();
    let half = [&TRACKED[..], &["--set", "train.steps=4"]].concat();
    place.train_tiny("parts", &half).done();
    // From before the last snapshots, which are made anew.
    let resume = ["train", "--resume", "--run", "parts", "--device", "cpu"];
    let from = [&resume[..], &["--from", "2", "--set", "train.steps=6"]].concat();
    place.ddpm(from).done();
    let [whole, parts] = ["whole", "parts"].map(|run| place.path(run));
    assert!(optimiser(&whole) == optimiser(&parts));
    let superseded = parts.join("ema/superseded");
    assert!(superseded.join("step-4").is_dir() && superseded.join("step-3").is_dir());
    std::fs::remove_dir_all(&superseded).unwrap();
    let kept = below(&whole.join("ema"));
    assert_eq!(kept.len(), 12);
    assert!(kept == below(&parts.join("ema")));

    // At the last step a snapshot is the average itself.
    let made = place
        .ddpm(["ema", "--run", "whole", "--sigma-rel", "0.1", "--json"])
        .done()
        .json();
    assert_eq!((&made["step"], &made["warning"]), (&6.into(), &().into()));
    assert_eq!(made["snapshots"].as_array().unwrap().len(), 12);
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let exact = TensorFile::read(&place.path("whole-ema-0.1").join(weights)).unwrap();
    let snapshot = whole.join("ema/step-6/sigma_rel-0.1.safetensors");
    let snapshot = TensorFile::read(&snapshot).unwrap();
    assert_eq!(snapshot.metadata["images_seen"], "24");
    assert_eq!(exact.tensors.len(), snapshot.tensors.len());
    for (a, b) in exact.tensors.iter().zip(&snapshot.tensors) {
        assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
        for (a, b) in a.data.iter().zip(&b.data) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-3), "{a} {b}");
        }
    }

    // One that was not tracked draws images; one far from them is warned of.
    let arguments = [
        "ema",
        "--run",
        "whole",
        "--sigma-rel",
        "0.07",
        "--step",
        "5",
    ];
    let said = place
        .ddpm([&arguments[..], &["--out", "made"]].concat())
        .done();
    assert!(
        said.stdout.contains("after step 5") && said.stderr.is_empty(),
        "{said:?}"
    );
    let draw = [
        "sample", "--model", "made", "--n", "2", "--out", "images", "--device", "cpu",
    ];
    let drawn = place.ddpm(draw).done();
    assert!(!drawn.stderr.contains("initial"), "{}", drawn.stderr);
    assert_eq!(files(&place.path("images")).len(), 2);
    place.ddpm(["checkpoint", "verify", "made"]).done();
    place.ddpm(["inspect", "made"]).done();
    let far = place
        .ddpm(["ema", "--run", "whole", "--sigma-rel", "0.01"])
        .done();
    assert!(
        far.stderr.contains("outside of what was tracked"),
        "{}",
        far.stderr
    );
}

#[test]
fn the_main_average_may_follow_the_same_law() {
    let place = Sandbox::new();
    let law = [
        "--set",
        "ema.law.kind=power_function",
        "--set",
        "ema.law.sigma_rel=0.1",
        // The recipe says another.
        "--set",
        "ema.decay=0.9999",
    ];
    place
        .train_tiny("run", &[&TRACKED[..], &law].concat())
        .done();
    // What was written is read back.
    let resume = ["train", "--resume", "--run", "run", "--device", "cpu"];
    place
        .ddpm([&resume[..], &["--set", "train.steps=8"]].concat())
        .done();
    let main = "checkpoints/step-8/ema/diffusion_pytorch_model.safetensors";
    let [main, tracked] = [main, "ema/step-8/sigma_rel-0.1.safetensors"].map(|file| {
        TensorFile::read(&place.path("run").join(file))
            .unwrap()
            .tensors
    });
    for (a, b) in main.iter().zip(&tracked) {
        for (a, b) in a.data.iter().zip(&b.data) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-3), "{a} {b}");
        }
    }
    let cap = ["--set", "ema.law=ramp", "--set", "ema.inv_gamma=2"];
    place
        .train_tiny("cap", &cap)
        .failed(2, &["`ema.inv_gamma`", "no effect"]);
}

#[test]
fn what_cannot_be_made_is_said() {
    let place = Sandbox::new();
    place.train_tiny("plain", &[]).done();
    assert!(!place.path("plain/ema").exists());
    let ema = |more: &[&str]| place.ddpm([&["ema"][..], more].concat());
    ema(&["--sigma-rel", "0.1"]).failed(2, &["no run below runs/"]);
    ema(&["--run", "none", "--sigma-rel", "0.1"]).failed(2, &["none", "no run"]);
    let words = ["no snapshots", "`ema.power_function`"];
    ema(&["--run", "plain", "--sigma-rel", "0.1"]).failed(4, &words);
    ema(&["--run", "plain", "--sigma-rel", "0.5"]).failed(2, &["--sigma-rel", "0.2886"]);
    place.file("taken/x", "");
    let taken = ["--run", "plain", "--sigma-rel", "0.1", "--out", "taken"];
    ema(&taken).failed(2, &["taken", "already"]);

    // An average cannot begin in the middle of a run.
    let resume = ["train", "--resume", "--run", "plain", "--device", "cpu"];
    let more = [
        "--set",
        "train.steps=8",
        "--set",
        "ema.power_function=[0.1]",
    ];
    place
        .ddpm([&resume[..], &more].concat())
        .failed(2, &["`ema.power_function` = [0.1]", "middle of a run"]);
    place.ddpm([&resume[..], &more[..2]].concat()).done();

    place.train_tiny("tracked", &TRACKED[..2]).done();
    let other = ["--run", "tracked", "--sigma-rel", "0.1", "--step", "5"];
    ema(&other).failed(4, &["step-5", "2, 4, 6"]);
    let snapshot = place.path("tracked/ema/step-4/sigma_rel-0.1.safetensors");
    std::fs::write(&snapshot, "x").unwrap();
    ema(&["--run", "tracked", "--sigma-rel", "0.1"]).failed(4, &["sigma_rel-0.1.safetensors"]);
}
